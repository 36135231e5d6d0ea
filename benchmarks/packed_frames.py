"""Goal 2: frames that are packed already, as detectors send them."""

from collections.abc import Iterator

from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.racing import bare_rate, h5py_rate, scanbus_rate, warm_up
from benchmarks.harness.results import Figure, figure_of, ratios

GOAL = 2
H5PY_COUNT = 20


def measure(plan: Plan) -> Iterator[Figure]:
    frames = plan.detector
    count = plan.size(full=200, quick=120)
    for aof in plan.persistence:
        h5py, bare, ours = [], [], []
        with plan.stage(aof=aof) as stage:
            warm_up(stage, frames, count, "packed")
            for _ in range(plan.repeats):
                h5py.append(h5py_rate(plan, frames, H5PY_COUNT))
                bare.append(bare_rate(stage, frames, count, "packed"))
                ours.append(scanbus_rate(stage, frames, count, "packed"))
        name = with_aof(aof)
        yield figure_of(GOAL, f"bare loop, {name}", bare, "frames/s")
        yield figure_of(GOAL, f"scanbus, {name}", ours, "frames/s")
        yield figure_of(
            GOAL,
            f"scanbus / bare loop, {name}",
            ratios(ours, bare),
            "x",
            wanted=0.85,
            key="" if aof else "packed / bare",
            frames=frames.source,
        )
        yield figure_of(
            GOAL,
            f"scanbus / h5py, {name}",
            ratios(ours, h5py),
            "x",
            wanted=4.0,
            key="" if aof else "packed / h5py",
            frames=frames.source,
        )
