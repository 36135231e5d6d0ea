"""Goal 11: frames of a detector's stream, through a gateway onto the bus."""

from collections.abc import Iterator

from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.results import Figure, figure_of, ratios
from benchmarks.harness.streaming import bare_stream_rate, gateway_rates

GOAL = 11


def measure(plan: Plan) -> Iterator[Figure]:
    frames = plan.detector
    count = plan.size(full=400, quick=200)
    for aof in plan.persistence:
        bare, ours, judged = [], [], []
        with plan.stage(aof=aof) as stage:
            bare_stream_rate(stage, frames, count)
            gateway_rates(stage, frames, count)
            for _ in range(plan.repeats):
                bare.append(bare_stream_rate(stage, frames, count))
                on_bus, to_verdict = gateway_rates(stage, frames, count)
                ours.append(on_bus)
                judged.append(to_verdict)
        name = with_aof(aof)
        yield figure_of(GOAL, f"bare loop of PULL and XADD, {name}", bare, "frames/s")
        yield figure_of(GOAL, f"publish dectris, {name}", ours, "frames/s")
        yield figure_of(
            GOAL, f"publish dectris, to the verdict, {name}", judged, "frames/s"
        )
        yield figure_of(
            GOAL,
            f"publish dectris / bare loop, {name}",
            ratios(ours, bare),
            "x",
            wanted=0.8,
            key="" if aof else "gateway / bare",
            frames=frames.source,
        )
