"""Goal 3: incompressible 8 MB frames, compared with XADD and XREAD alone.

Once with the allocator's settings of ``deploy/``, called tuned, once with Redis' own.
"""

from collections.abc import Generator, Iterator
from statistics import median

from benchmarks.harness.frames import FrameSet, noise_frames
from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.racing import bare_rate, scanbus_rate, warm_up
from benchmarks.harness.results import Figure, figure_of, ratios

GOAL = 3
# Half a gigabyte where it goes fast, so that the end of a run is not most of it.
COUNT, TUNED_COUNT = 28, 60
# Runs of measurements that are not goals.
ASIDE = 3


def measure(plan: Plan) -> Iterator[Figure]:
    frames = noise_frames(plan.folder / "noise")
    for aof in plan.persistence:
        plain, _ = yield from _race(plan, frames, aof=aof, is_tuned=False)
        bare, ours = yield from _race(plan, frames, aof=aof, is_tuned=True)
        if not plan.quick:
            same = median(ratios(ours, bare))
            yield figure_of(
                GOAL,
                f"scanbus on the tuned Redis / bare on the other, {with_aof(aof)}",
                ratios(ours, plain),
                "x",
                wanted=1.5,
                note="different allocator settings and so no race: Redis' gain, "
                f"mostly; on the same, tuned Redis {same:.2f} x",
            )


def _race(
    plan: Plan, frames: FrameSet, *, aof: bool, is_tuned: bool
) -> Generator[Figure, None, tuple[list[float], list[float]]]:
    """Yield the figures of one Redis; return the rates of the bare loop and scanbus."""
    count = TUNED_COUNT if is_tuned else COUNT
    megabytes = frames.raw_bytes / 1e6
    bare, to_file, ours, copied = [], [], [], []
    with plan.stage(aof=aof, is_tuned=is_tuned) as stage:
        warm_up(stage, frames, count, "plain", to_file=False)
        for turn in range(plan.repeats):
            bare.append(bare_rate(stage, frames, count, "plain", to_file=False))
            ours.append(scanbus_rate(stage, frames, count, "plain"))
            if is_tuned and not plan.quick:
                if not aof:
                    rate = scanbus_rate(stage, frames, count, "plain", copy=True)
                    copied.append(rate)
                if turn < ASIDE:
                    to_file.append(bare_rate(stage, frames, count, "plain"))
    name = with_aof(aof) + (", tuned" if is_tuned else "")
    for what, rates in (
        ("bare XADD and XREAD", bare),
        ("bare loop into a file", to_file),
        ("scanbus", ours),
        ("scanbus, copy=True (the default)", copied),
    ):
        if rates:
            values = [rate * megabytes for rate in rates]
            yield figure_of(GOAL, f"{what}, {name}", values, "MB/s")
    key = "incompressible / bare" + (", tuned" if is_tuned else "")
    yield figure_of(
        GOAL,
        f"scanbus / bare XADD and XREAD, {name}",
        ratios(ours, bare),
        "x",
        wanted=0.8,
        key="" if aof else key,
        frames=frames.source,
    )
    if copied:
        what = f"scanbus, copy=True (the default) / bare XADD and XREAD, {name}"
        yield figure_of(GOAL, what, ratios(copied, bare), "x", wanted=0.8)
    return bare, ours
