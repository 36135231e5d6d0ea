"""Goal 8: small frames and spectra, gathered, against one entry and chunk each."""

from collections.abc import Iterator

from benchmarks.harness import sending
from benchmarks.harness.frames import FrameSet, small_frames
from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.racing import scanbus_rate
from benchmarks.harness.results import Figure, figure_of, ratios
from benchmarks.harness.stage import Stage, start_child

GOAL = 8
N_BINS = 2048


def measure(plan: Plan) -> Iterator[Figure]:
    frames = small_frames(plan.folder / "small", (256, 256))
    spectra = small_frames(plan.folder / "spectra", (1, N_BINS))
    for aof in plan.persistence:
        with plan.stage(aof=aof) as stage:
            yield from _gathered(plan, stage, frames, "256 x 256 uint16")
            if not plan.quick:
                yield from _gathered(plan, stage, spectra, "2048 bins as frames")
            if not plan.quick and aof:
                yield _spectra(plan, stage)


def _gathered(
    plan: Plan, stage: Stage, frames: FrameSet, what: str
) -> Iterator[Figure]:
    gathered, single = [], []
    # A second or so each: opening and closing a scan take 0.2 s.
    is_tiny = frames.raw_bytes < 2**14
    count = plan.size(full=40_000 if is_tiny else 6000, quick=2000)
    for _ in range(plan.repeats):
        gathered.append(scanbus_rate(stage, frames, count, "raw"))
        alone = scanbus_rate(
            stage, frames, count // (10 if is_tiny else 4), "raw", per_chunk=1
        )
        single.append(alone)
    name = with_aof(stage.aof)
    yield figure_of(GOAL, f"{what}, {name}", gathered, "frames/s")
    yield figure_of(GOAL, f"{what}, an entry each, {name}", single, "frames/s")
    yield figure_of(
        GOAL,
        f"gathered / an entry each, {what}, {name}",
        ratios(gathered, single),
        "x",
        wanted=10.0,
        key="" if stage.aof or frames.shape[0] == 1 else "small frames / single",
        frames=frames.source,
    )


def _spectra(plan: Plan, stage: Stage) -> Figure:
    count = plan.size(full=20_000, quick=5000)
    rates = []
    for _ in range(plan.repeats):
        child = start_child(sending.send_spectra, stage.url, N_BINS, count)
        child.go()
        run: sending.Run = child.result()
        rates.append(count / run.seconds)
        stage.remove_files()
    name = f"{N_BINS}-bin spectra, uint32, {with_aof(stage.aof)}"
    return figure_of(GOAL, name, rates, "spectra/s", wanted=10_000.0)
