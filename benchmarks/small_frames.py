"""Goal 8: small frames and spectra, gathered, or with one entry and chunk each."""

from collections.abc import Iterator

from benchmarks.harness import sending
from benchmarks.harness.frames import FrameSet, small_frames
from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.racing import scanbus_rate
from benchmarks.harness.results import Figure, figure_of, ratios
from benchmarks.harness.stage import Stage, start_child

GOAL = 8
N_BINS = 2048
# Gathered and single, so many that each takes a good second: opening and closing a
# scan, 0.1 s, must not decide, and must weigh the same on both sides.
FRAMES = (6000, 2400)
SPECTRA = (20_000, 4000)


def measure(plan: Plan) -> Iterator[Figure]:
    frames = small_frames(plan.folder / "small", (256, 256))
    spectra = small_frames(plan.folder / "spectra", (1, N_BINS))
    for aof in plan.persistence:
        with plan.stage(aof=aof) as stage:
            yield from _gathered(plan, stage, frames, "256 x 256 uint16")
            if not plan.quick:
                yield from _gathered(plan, stage, spectra, "2048 bins as frames")
                yield _spectra(plan, stage)


def _gathered(
    plan: Plan, stage: Stage, frames: FrameSet, what: str
) -> Iterator[Figure]:
    gathered, single = [], []
    is_spectrum = frames.shape[0] == 1
    many, few = SPECTRA if is_spectrum else FRAMES
    for _ in range(plan.repeats):
        gathered.append(scanbus_rate(stage, frames, many, "raw"))
        single.append(scanbus_rate(stage, frames, few, "raw", per_chunk=1))
    name = with_aof(stage.aof)
    yield figure_of(GOAL, f"{what}, {name}", gathered, "frames/s")
    yield figure_of(GOAL, f"{what}, an entry each, {name}", single, "frames/s")
    yield figure_of(
        GOAL,
        f"gathered / an entry each, {what}, {name}",
        ratios(gathered, single),
        "x",
        wanted=10.0,
        key="" if stage.aof or is_spectrum else "small frames / single",
        frames=frames.source,
    )


def _spectra(plan: Plan, stage: Stage) -> Figure:
    count = 15_000
    rates = []
    for _ in range(plan.repeats):
        child = start_child(sending.send_spectra, stage.url, N_BINS, count)
        child.go()
        run: sending.Run = child.result()
        rates.append(count / run.seconds)
        stage.remove_files()
    name = f"{N_BINS}-bin spectra, uint32, {with_aof(stage.aof)}"
    return figure_of(GOAL, name, rates, "spectra/s", wanted=10_000.0)
