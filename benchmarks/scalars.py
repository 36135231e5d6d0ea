"""Goal 4: counters from one publisher into the closed file, and their CPU time."""

from collections.abc import Iterator
from statistics import median

from benchmarks.harness import sending
from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.results import Figure, figure_of
from benchmarks.harness.stage import Stage, start_child

GOAL = 4
N_CHANNELS = 10
# Values per send, sends per channel, required values/s.
CASES = (
    (1, 100_000, 300_000.0),
    (100, 10_000, 6e6),
    (1000, 2_500, 30e6),
)


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    for aof in plan.persistence:
        with plan.stage(aof=aof) as stage:
            for per_send, n_sends, wanted in CASES:
                yield from _measure_case(plan, stage, per_send, n_sends, wanted)


def _measure_case(
    plan: Plan, stage: Stage, per_send: int, n_sends: int, wanted: float
) -> Iterator[Figure]:
    n_values = N_CHANNELS * per_send * n_sends
    rates: list[float] = []
    costs: dict[str, list[float]] = {"publisher": [], "redis": [], "writer": []}
    for _ in range(plan.repeats):
        child = start_child(
            sending.send_scalars, stage.url, N_CHANNELS, per_send, n_sends
        )
        with stage.metered() as spent:
            child.go()
            run: sending.Run = child.result()
        rates.append(n_values / run.seconds)
        for name, seconds in {"publisher": run.cpu_s, **spent}.items():
            costs[name].append(seconds / n_values * 1e6)
        stage.remove_files()
    what = "single values" if per_send == 1 else f"arrays of {per_send}"
    cost = ", ".join(f"{name} {median(each):.2f}" for name, each in costs.items())
    yield figure_of(
        GOAL,
        f"{what}, {with_aof(stage.aof)}",
        rates,
        "values/s",
        wanted=wanted,
        note=f"CPU s per million: {cost}",
    )
