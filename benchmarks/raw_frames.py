"""Goal 1: frames that the publisher packs, compared with h5py and the bare loop."""

from collections.abc import Iterator

from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.racing import (
    bare_rate,
    h5py_rate,
    packing_rate,
    scanbus_rate,
    warm_up,
)
from benchmarks.harness.results import Figure, figure_of, ratios

GOAL = 1
H5PY_COUNT = 30


def measure(plan: Plan) -> Iterator[Figure]:
    frames = plan.detector
    count = plan.size(full=120, quick=60)
    for aof in plan.persistence:
        h5py, packing, bare, ours, copied = [], [], [], [], []
        with plan.stage(aof=aof) as stage:
            warm_up(stage, frames, count, "raw")
            for _ in range(plan.repeats):
                h5py.append(h5py_rate(plan, frames, H5PY_COUNT))
                if not aof:
                    packing.append(packing_rate(frames, count))
                bare.append(bare_rate(stage, frames, count, "raw"))
                ours.append(scanbus_rate(stage, frames, count, "raw"))
                if not plan.quick and not aof:
                    rate = scanbus_rate(stage, frames, count, "raw", copy=True)
                    copied.append(rate)
        name = with_aof(aof)
        yield figure_of(GOAL, "h5py in-process", h5py, "frames/s")
        if packing:
            yield figure_of(GOAL, "packing in two threads", packing, "frames/s")
        yield figure_of(GOAL, f"bare loop, {name}", bare, "frames/s")
        yield figure_of(GOAL, f"scanbus, {name}", ours, "frames/s")
        yield figure_of(
            GOAL,
            f"scanbus / bare loop, {name}",
            ratios(ours, bare),
            "x",
            wanted=0.9,
            key="" if aof else "raw / bare",
            frames=frames.source,
        )
        yield figure_of(
            GOAL,
            f"scanbus / h5py, {name}",
            ratios(ours, h5py),
            "x",
            wanted=1.6,
            key="" if aof else "raw / h5py",
            frames=frames.source,
        )
        if copied:
            # As `send` does unless it is told that the array will not change.
            what = f"scanbus, copy=True (the default), {name}"
            yield figure_of(GOAL, what, copied, "frames/s")
            for side, rates, wanted in (("bare loop", bare, 0.9), ("h5py", h5py, 1.6)):
                what = f"scanbus, copy=True (the default) / {side}, {name}"
                found = ratios(copied, rates)
                yield figure_of(GOAL, what, found, "x", wanted=wanted)
