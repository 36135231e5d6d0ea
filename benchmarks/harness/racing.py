"""Both sides of a ratio, run in turn against the same Redis."""

from pathlib import Path

from benchmarks.harness import bare, sending
from benchmarks.harness.frames import FrameSet
from benchmarks.harness.plan import Plan
from benchmarks.harness.stage import Stage, start_child

__all__ = ["bare_rate", "h5py_rate", "packing_rate", "scanbus_rate", "warm_up"]


def h5py_rate(plan: Plan, frames: FrameSet, count: int) -> float:
    """Return frames/s of h5py with the filter in one process."""
    path = plan.folder / "in_process.h5"
    child = start_child(bare.h5py_in_process, frames, count, path)
    child.go()
    seconds = float(child.result())
    path.unlink()
    return count / seconds


def packing_rate(frames: FrameSet, count: int) -> float:
    """Return frames/s of packing alone, in two threads."""
    child = start_child(bare.packing, frames, count)
    child.go()
    return count / float(child.result())


def bare_rate(
    stage: Stage, frames: FrameSet, count: int, how: str, *, to_file: bool = True
) -> float:
    """Return frames/s of the bare loop; without a file, of XADD and XREAD alone."""
    path = Path(stage.folder) / "bare.h5"
    if to_file:
        filtered = how != "plain"
        reader = start_child(
            bare.write, stage.url, frames, count, path, filtered=filtered
        )
    else:
        reader = start_child(bare.read, stage.url, count)
    publisher = start_child(bare.publish, stage.url, frames, count, how)
    reader.go()
    publisher.go()
    started, done = publisher.result(), reader.result()
    path.unlink(missing_ok=True)
    return count / float(done - started)


def scanbus_rate(
    stage: Stage,
    frames: FrameSet,
    count: int,
    how: str,
    *,
    per_chunk: int | None = None,
    copy: bool = False,
) -> float:
    """Return frames/s from opening a scan to its verdict."""
    child = start_child(
        sending.send_frames,
        stage.url,
        frames,
        count,
        how,
        per_chunk=per_chunk,
        copy=copy,
    )
    child.go()
    run: sending.Run = child.result()
    stage.remove_files()
    return count / run.seconds


def warm_up(
    stage: Stage, frames: FrameSet, count: int, how: str, *, to_file: bool = True
) -> None:
    """Run both sides once, not counted.

    Memory that a fresh Redis touches first costs what the host makes of it, and
    whichever side comes first would pay for it.
    """
    bare_rate(stage, frames, count, how, to_file=to_file)
    scanbus_rate(stage, frames, count, how)
