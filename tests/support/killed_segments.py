"""Segments whose writer is killed at each call with which it changes a file.

Run as a program, with the library of ``kills.c`` preloaded: prints a line for each
kill, with the folder of what it left and the points that were flushed before.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from scanbus.bus.protocol import Entry
from scanbus.schemas import LaneDescription, Storage
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.shared_segment import SharedSegment
from scanbus.writer.storage.value_segment import ValueSegment
from tests.support.preloaded import build
from tests.support.written_scans import (
    UID,
    chunk_entry,
    entry_of,
    frame_lane,
    plain_entry,
    points_of,
    value_lane,
)

__all__ = ["CASES", "NAME", "Case", "kills", "new_segment"]

NAME: Final = "made.h5"
_SOURCE: Final = Path(__file__).with_name("kills.c")


def new_segment(path: Path, lane: LaneDescription) -> FrameSegment | ValueSegment:
    kind = FrameSegment if lane.storage is Storage.FILES else ValueSegment
    return kind(path, UID, lane, 0)


class SharedFile:
    """A segment that lanes share, with one lane, used as those of one lane."""

    def __init__(self, path: Path, lane: LaneDescription) -> None:
        self._file = SharedSegment(path, UID)
        self._section = self._file.section(lane, 0, SegmentAccount())

    def put(self, entry: Entry) -> None:
        self._section.put(entry)

    def flush(self) -> None:
        self._file.flush()

    def close(self, _stop: int) -> None:
        self._file.close()


@dataclass(frozen=True)
class Case:
    """What a writer gets, and after how many entries it flushes.

    Attributes
    ----------
    first_kill : int
        Entries before which no call counts.
    make : callable
        Makes the segment, from path and lane.
    """

    lane: LaneDescription
    entries: list[Entry]
    per_flush: int = 8
    first_kill: int = 0
    make: Callable[[Path, LaneDescription], Any] = new_segment


def _chunks(codec: str, rows: int, count: int) -> Case:
    lane = frame_lane(codec, per_segment=200 * rows, per_chunk=rows)
    return Case(lane, [chunk_entry(lane, rows * n, rows) for n in range(count)])


def _padded(codec: str) -> Case:
    """Chunks that are not full, are flushed, and are written again, when they are."""
    lane = frame_lane(codec, per_segment=400, per_chunk=4)
    entries: list[Entry] = []
    for first in range(0, 40, 4):
        entries += [chunk_entry(lane, first, 2), plain_entry(lane, first + 2, 2)]
    return Case(lane, entries, per_flush=3)


def _late(lane: LaneDescription, count: int, first_kill: int = 0) -> Case:
    late = lane.late_lane(lane.channels[0])
    entries = [
        entry_of(late, n, [points_of(one, n, 1) for one in late.channels], point=n * 3)
        for n in range(count)
    ]
    return Case(late, entries, first_kill=first_kill)


def _shared() -> Case:
    lane = value_lane(per_segment=100)
    entries = [plain_entry(lane, n, 1) for n in range(40)]
    return Case(lane, entries, per_flush=3, make=SharedFile)


def _value(name: str, *shape: int) -> LaneDescription:
    """Return a lane of one channel of `value_lane`, of another shape if given."""
    lane = value_lane(per_segment=100)
    (channel,) = (one for one in lane.channels if one.name == name)
    if shape:
        channel = channel.model_copy(update={"shape": shape})
    return lane.model_copy(update={"channels": (channel,)})


CASES: Final[dict[str, Callable[[], Case]]] = {
    "small chunks": lambda: _chunks("none", 1, 110),
    "chunks": lambda: _chunks("none", 40, 70),
    "chunks written twice": lambda: _padded("none"),
    "packed chunks written twice": lambda: _padded("bitshuffle-lz4"),
    "late frames": lambda: _late(frame_lane("none", per_segment=200, per_chunk=1), 24),
    "late values": lambda: _late(_value("mca"), 30),
    "late values of any length": lambda: _late(_value("peaks"), 30),
    "shared values": _shared,
    # Points of the size of a chunk: few of them have an index that is split.
    "late large values": lambda: _late(_value("mca", 1 << 16), 73, first_kill=71),
}


def kills(name: str, folder: Path, *, is_torn: bool) -> Iterator[tuple[Path, int]]:
    """Kill the writer of a case at each call; yield what it left, and flushed points.

    Parameters
    ----------
    is_torn : bool
        Whether half of what it writes in the last call is in the file.
    """
    library = build(_SOURCE, folder / "kills.so")
    command = [sys.executable, "-m", __name__, str(library), name, str(int(is_torn))]
    environment = os.environ | {"LD_PRELOAD": str(library)}
    with subprocess.Popen(
        [*command, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            number, flushed = line.split()
            yield folder / number, int(flushed)
    assert process.returncode == 0


def _write(case: Case, folder: Path, arm: Callable[[], None], said: mmap.mmap) -> None:
    segment = case.make(folder / NAME, case.lane)
    for number, entry in enumerate(case.entries):
        if number == case.first_kill:
            arm()
        segment.put(entry)
        if number % case.per_flush == case.per_flush - 1:
            segment.flush()
            said[:8] = struct.pack("q", entry.stop)
    segment.close(case.entries[-1].stop)


def main(library: str, name: str, is_torn: str, folder: str) -> None:
    """Fork a writer for each call, until one is not killed any more."""
    kill_at = ctypes.CDLL(library).kill_at
    kill_at.argtypes = [ctypes.c_long, ctypes.c_long]
    case = CASES[name]()
    number, status = 0, -1
    while status:
        number += 1
        made = Path(folder) / str(number)
        made.mkdir()
        said = mmap.mmap(-1, 8)
        child = os.fork()
        if not child:
            _write(case, made, partial(kill_at, number, int(is_torn)), said)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or not status
        (flushed,) = struct.unpack("q", said[:8])
        sys.stdout.write(f"{number} {flushed}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
