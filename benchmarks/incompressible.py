"""Goal 3: 8 MB frames that nothing packs, against XADD and XREAD alone."""

from collections.abc import Iterator

from benchmarks.harness.frames import noise_frames
from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.racing import bare_rate, scanbus_rate
from benchmarks.harness.results import Figure, figure_of, ratios

GOAL = 3


def measure(plan: Plan) -> Iterator[Figure]:
    frames = noise_frames(plan.folder / "noise")
    count = plan.size(full=100, quick=60)
    megabytes = frames.raw_bytes / 1e6
    for aof in plan.persistence:
        bare, to_file, ours, packing = [], [], [], []
        with plan.stage(aof=aof) as stage:
            for _ in range(plan.repeats):
                bare.append(bare_rate(stage, frames, count, "plain", to_file=False))
                ours.append(scanbus_rate(stage, frames, count, "plain"))
                if not plan.quick:
                    to_file.append(bare_rate(stage, frames, count, "plain"))
                    packing.append(scanbus_rate(stage, frames, count, "raw"))
        name = with_aof(aof)
        for what, rates in (
            ("bare XADD and XREAD", bare),
            ("bare loop into a file", to_file),
            ("scanbus", ours),
            ("scanbus, packing all the same", packing),
        ):
            if rates:
                values = [rate * megabytes for rate in rates]
                yield figure_of(GOAL, f"{what}, {name}", values, "MB/s")
        yield figure_of(
            GOAL,
            f"scanbus / bare XADD and XREAD, {name}",
            ratios(ours, bare),
            "x",
            wanted=0.8,
            key="" if aof else "incompressible / bare",
        )
