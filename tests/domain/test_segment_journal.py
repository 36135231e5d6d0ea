"""The journal beside a temporary segment: what salvage takes from it, and what not."""

from __future__ import annotations

import os
import resource
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash

from scanbus.schemas import LaneDescription, Storage
from scanbus.schemas.errors import VerificationError
from scanbus.writer.recovery.segment_recovery import read_temporary_segment, restore
from scanbus.writer.storage.record_file import pack_record
from tests.support.killed_segments import new_segment
from tests.support.written_scans import (
    UID,
    entries_of,
    frame_lane,
    points_of,
    value_lane,
)

LANES = [frame_lane(), value_lane()]
BOTH = pytest.mark.parametrize("lane", LANES, ids=["frames", "values"])


def left(folder: Path, lane: LaneDescription) -> Path:
    """A segment and its journal as a kill leaves them; a flush after each entry."""
    segment = new_segment(folder / "made.h5", lane)
    for entry in entries_of(lane, 12):
        segment.put(entry)
        segment.flush()
    for suffix in (".h5", ".journal"):
        shutil.copy(folder / f"made{suffix}", folder / f"left{suffix}")
    segment.discard()
    return folder / "left.h5"


def break_index(path: Path) -> None:
    """Make a file unreadable for HDF5; its chunks stay."""
    with path.open("r+b") as file:
        file.write(bytes(96))


def points_in(path: Path, lane: LaneDescription) -> int:
    """Return how many points of a segment salvage copies; those are as sent."""
    temporary = read_temporary_segment(path, UID, lane)
    new = path.with_name("new.h5")
    new.unlink(missing_ok=True)
    segment = new_segment(new, lane)
    restore(temporary, lane, segment)
    segment.close(temporary.stop)
    segment.verify()
    missing = sum(stop - start for start, stop in segment.account.missing)
    count = temporary.stop - missing
    channel = lane.channels[0]
    is_frames = lane.storage is Storage.FILES
    name = "data" if is_frames else channel.name
    with h5py.File(new) as file:
        found = file[f"/entry_0000/measurement/{name}"][:count]
    np.testing.assert_array_equal(found, points_of(channel, 0, count))
    return count


@BOTH
def test_a_journal_has_all_points_of_a_file_that_hdf5_cannot_read(
    tmp_path: Path, lane: LaneDescription
) -> None:
    path = left(tmp_path, lane)
    break_index(path)
    assert points_in(path, lane) == 12
    path.with_suffix(".journal").unlink()
    with pytest.raises(VerificationError, match="cannot be used"):
        read_temporary_segment(path, UID, lane)


@BOTH
def test_a_journal_that_is_cut_off_has_what_is_before(
    tmp_path: Path, lane: LaneDescription
) -> None:
    path = left(tmp_path, lane)
    journal = path.with_suffix(".journal")
    whole = journal.read_bytes()
    break_index(path)
    found: set[int] = set()
    for size in range(len(whole), 0, -37):
        journal.write_bytes(whole[:size])
        try:
            found.add(points_in(path, lane))
        except VerificationError:
            found.add(-1)
    per_entry = 4 if lane.storage is Storage.FILES else 3
    assert found == {-1, *range(per_entry, 13, per_entry)}


def test_a_chunk_that_is_not_what_the_journal_says_is_corrupt(tmp_path: Path) -> None:
    lane = frame_lane("none")
    path = left(tmp_path, lane)
    first = points_of(lane.channels[0], 0, 4).tobytes()
    path.write_bytes(path.read_bytes().replace(first, bytes(len(first))))
    break_index(path)
    temporary = read_temporary_segment(path, UID, lane)
    new = new_segment(tmp_path / "new.h5", lane)
    restore(temporary, lane, new)
    assert new.account.missing == new.account.corrupt == [(0, 4)]
    new.discard()


def _with(record: list[Any]) -> bytes:
    return b"".join(record)


def _rows(rows: Any, sizes: Any, body: bytes = b"") -> bytes:
    return _with(pack_record({"kind": "rows", "rows": rows, "sizes": sizes}, body))


def _place(index: int, offset: int, size: int) -> bytes:
    place = struct.pack("<QQQQ?", index, offset, size, xxhash.xxh3_64_intdigest(b""), 1)
    return _rows(12, [0, 0, len(place)], place)


HOSTILE = {
    "nothing": b"",
    "no record": b"\0" * 4096,
    "a record without a kind": _with(pack_record({}, b"")),
    "rows first": _rows(1, [0, 0, 0]),
    "a size that is negative": _rows(1, [16, -8, 0], bytes(8)),
    "too many rows": _rows(2**62, [0, 0, 0]),
    "rows that are none": _rows("many", [0, 0, 0]),
    "negative rows": _rows(-(2**40), [0, 0, 0]),
    "sizes that are none": _rows(1, "aaa"),
    "no sizes": _rows(1, []),
    "half a time": _rows(1, [7, 0, 0], bytes(7)),
    "half a place": _rows(1, [0, 0, 7], bytes(7)),
    "a place behind the file": _place(0, 2**40, 1000),
    "a place beyond all numbers": _place(2**64 - 1, 2**64 - 1, 2**64 - 1),
    "a chunk of nothing": _place(0, 0, 0),
    "a chunk that is none": _with(
        pack_record({"kind": "chunk", "index": 0, "is_from_source": 1}, b"\xff" * 99)
    ),
    "a chunk without a number": _with(pack_record({"kind": "chunk"}, b"")),
    "a record of another kind": _with(pack_record({"kind": "song"}, b"la")),
}


@BOTH
@pytest.mark.parametrize("has_begin", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_journal_makes_salvage_fail_or_lie(
    tmp_path: Path, lane: LaneDescription, name: str, has_begin: bool
) -> None:
    path = left(tmp_path, lane)
    head = {"kind": "segment", "uid": UID, "start": 0}
    begin = _with(pack_record(head, lane.model_dump_json().encode()))
    journal = path.with_suffix(".journal")
    journal.write_bytes((begin if has_begin else b"") + HOSTILE[name])
    assert points_in(path, lane) == 12  # HDF5 can read the file.
    break_index(path)
    try:
        assert points_in(path, lane) == 0
    except VerificationError as error:
        assert "cannot be used" in str(error)  # noqa: PT017


@pytest.mark.parametrize("change", [{"uid": "fedcba9876543210"}, {"start": 5}])
def test_the_journal_of_something_else_is_not_used(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    lane = LANES[0]
    path = left(tmp_path, lane)
    head = {"kind": "segment", "uid": UID, "start": 0} | change
    begin = _with(pack_record(head, lane.model_dump_json().encode()))
    path.with_suffix(".journal").write_bytes(begin + _rows(12, [0, 0, 0]))
    break_index(path)
    with pytest.raises(VerificationError, match="cannot be used"):
        read_temporary_segment(path, UID, lane)


def test_a_journal_is_a_regular_file(tmp_path: Path) -> None:
    path = left(tmp_path, LANES[0])
    journal = path.with_suffix(".journal")
    journal.unlink()
    os.mkfifo(journal)
    assert points_in(path, LANES[0]) == 12


@BOTH
def test_a_journal_goes_when_its_segment_is_closed(
    tmp_path: Path, lane: LaneDescription
) -> None:
    segment = new_segment(tmp_path / "made.h5", lane)
    for entry in entries_of(lane, 12):
        segment.put(entry)
    assert [path.name for path in tmp_path.iterdir()] == ["made.h5"]
    segment.flush()
    assert (tmp_path / "made.journal").exists()
    segment.close(12)
    assert [path.name for path in tmp_path.iterdir()] == ["made.h5"]


@contextmanager
def _files_of_at_most(n_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_could_not_be_written_is_written_by_the_next_flush(tmp_path: Path) -> None:
    lane = LANES[0]
    segment = new_segment(tmp_path / "made.h5", lane)
    first, second, third = entries_of(lane, 12)
    segment.put(first)
    segment.flush()
    segment.put(second)
    n_bytes = (tmp_path / "made.h5").stat().st_size
    journal = tmp_path / "made.journal"
    journal_bytes = journal.stat().st_size
    assert journal_bytes < n_bytes
    with _files_of_at_most(journal_bytes + 20), pytest.raises(OSError, match="large"):
        segment._journal.write(8)
    segment.put(third)
    segment.flush()
    shutil.copy(tmp_path / "made.h5", tmp_path / "left.h5")
    shutil.copy(journal, tmp_path / "left.journal")
    segment.discard()
    break_index(tmp_path / "left.h5")
    assert points_in(tmp_path / "left.h5", lane) == 12
