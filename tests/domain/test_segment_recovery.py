"""What stands in temporary segments, and what is put into new ones of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from scanbus.bus.codecs import CODEC_NAMES
from scanbus.schemas import LaneDescription, PointRange, Storage
from scanbus.schemas.errors import VerificationError
from scanbus.writer.check import check_files
from scanbus.writer.recovery.segment_recovery import (
    TemporarySegment,
    read_temporary_segment,
    restore,
)
from scanbus.writer.storage.chunked_dataset import stored_chunks
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.segment_header import read_header
from scanbus.writer.storage.value_segment import ValueSegment
from tests.support.written_scans import (
    UID,
    entries_of,
    frame_lane,
    plain_entry,
    points_of,
    times_of,
    value_lane,
)

OWN = "/entry_0000/scanbus"
LANES = [frame_lane(), value_lane()]


def segment_of(path: Path, lane: LaneDescription) -> FrameSegment | ValueSegment:
    kind = FrameSegment if lane.storage is Storage.FILES else ValueSegment
    return kind(path, UID, lane, 0)


def left(
    folder: Path, lane: LaneDescription, n_points: int, *, closed: bool = False
) -> Path:
    """A temporary segment as a kill, or the loss of the bus, leaves it."""
    segment = segment_of(folder / "made.h5", lane)
    for entry in entries_of(lane, n_points):
        segment.put(entry)
    return leave(segment, folder, n_points if closed else None)


def leave(
    segment: FrameSegment | ValueSegment, folder: Path, stop: int | None = None
) -> Path:
    if stop is not None:
        segment.close(stop)
        return folder / "made.h5"
    segment.flush()
    path = folder / "left.h5"
    shutil.copy(folder / "made.h5", path)
    account = folder / "made.account.json"
    if account.exists():
        shutil.copy(account, folder / "left.account.json")
    segment.discard()
    return path


def restored(temporary: TemporarySegment, lane: LaneDescription, folder: Path) -> Path:
    path = folder / "new.h5"
    segment = segment_of(path, lane)
    restore(temporary, lane, segment)
    segment.close(temporary.stop)
    segment.verify()
    return path


def assert_as_sent(path: Path, lane: LaneDescription, lost: list[PointRange]) -> None:
    """All points but the lost ones are there, and the file is in order."""
    header = read_header(path)
    assert header.account.missing == lost
    report = check_files([path], everything=True)
    assert report.findings == ()
    with h5py.File(path) as file:
        times = file["/entry_0000/scanbus/time"][()]
        keep = np.ones(len(times), bool)
        for start, stop in lost:
            keep[start:stop] = False
        expected = np.where(keep, times_of(0, len(times)), np.nan)
        np.testing.assert_array_equal(times, expected)
        if lane.storage is Storage.VALUES:
            return  # The check has compared every entry, in all channels.
        found = file["/entry_0000/measurement/data"][()]
    expected = points_of(lane.channels[0], 0, len(found))
    np.testing.assert_array_equal(found[keep], expected[keep])


@pytest.mark.parametrize("lane", LANES, ids=["frames", "values"])
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("n_points", [12, 11, 8, 4, 1])
def test_all_points_are_restored(
    tmp_path: Path, lane: LaneDescription, closed: bool, n_points: int
) -> None:
    path = left(tmp_path, lane, n_points, closed=closed)

    temporary = read_temporary_segment(path, UID, lane)

    assert (temporary.n_points, temporary.is_closed) == (n_points, closed)
    assert_as_sent(restored(temporary, lane, tmp_path), lane, [])


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_chunks_are_copied_as_they_stand(tmp_path: Path, codec: str) -> None:
    if codec == "blosc2":
        pytest.importorskip("blosc2")
    lane = frame_lane(codec)
    path = left(tmp_path, lane, 11)
    new = restored(read_temporary_segment(path, UID, lane), lane, tmp_path)
    assert _chunks(path) == _chunks(new)
    with h5py.File(new) as file:
        assert not file[f"{OWN}/chunk_from_source"][()].any()


def _chunks(path: Path) -> list[bytes]:
    with h5py.File(path) as file:
        dataset = file["/entry_0000/measurement/data"]
        return [
            dataset.id.read_direct_chunk((chunk.start, 0, 0))[1]
            for chunk in stored_chunks(dataset)
        ]


@pytest.mark.parametrize("lane", LANES, ids=["frames", "values"])
def test_a_segment_that_was_closed_keeps_the_checksums_of_the_source(
    tmp_path: Path, lane: LaneDescription
) -> None:
    path = left(tmp_path, lane, 11, closed=True)
    new = restored(read_temporary_segment(path, UID, lane), lane, tmp_path)
    names = ("chunk_from_source", "chunk_checksum", "time", "entries")
    with h5py.File(path) as before, h5py.File(new) as after:
        for name in set(names) & set(before[OWN]):
            np.testing.assert_array_equal(before[OWN][name][()], after[OWN][name][()])


def test_a_chunk_that_is_not_full_is_not_in_the_file(tmp_path: Path) -> None:
    lane = frame_lane()
    segment = segment_of(tmp_path / "made.h5", lane)
    for first in range(0, 10, 2):
        segment.put(plain_entry(lane, first, 2))
    temporary = read_temporary_segment(leave(segment, tmp_path), UID, lane)
    assert temporary.present == ((0, 8),)
    assert_as_sent(restored(temporary, lane, tmp_path), lane, [(8, 10)])


@pytest.mark.parametrize("lane", LANES, ids=["frames", "values"])
@pytest.mark.parametrize("closed", [True, False])
def test_fill_values_are_not_taken_for_points(
    tmp_path: Path, lane: LaneDescription, closed: bool
) -> None:
    segment = segment_of(tmp_path / "made.h5", lane)
    segment.put(plain_entry(lane, 0, 5))
    segment.mark("missing", 5, 7)
    segment.put(plain_entry(lane, 7, 5))
    segment.mark("duplicate", 1, 2)
    path = leave(segment, tmp_path, 12 if closed else None)

    new = restored(read_temporary_segment(path, UID, lane), lane, tmp_path)

    assert_as_sent(new, lane, [(5, 7)])
    assert read_header(new).account.duplicate == [(1, 2)]


def test_the_account_beside_a_segment_goes_when_it_is_closed(tmp_path: Path) -> None:
    segment = segment_of(tmp_path / "made.h5", frame_lane())
    segment.mark("missing", 0, 4)
    segment.flush()
    assert (tmp_path / "made.account.json").exists()
    segment.close(4)
    assert [path.name for path in tmp_path.iterdir()] == ["made.h5"]


def test_an_account_that_cannot_be_read_makes_the_segment_useless(
    tmp_path: Path,
) -> None:
    lane = frame_lane()
    path = left(tmp_path, lane, 8)
    path.with_suffix(".account.json").write_text("{}")
    with pytest.raises(VerificationError, match="cannot be used"):
        read_temporary_segment(path, UID, lane)


@pytest.mark.parametrize("closed", [True, False])
def test_a_damaged_chunk_is_missing_and_corrupt(tmp_path: Path, closed: bool) -> None:
    lane = frame_lane()
    path = left(tmp_path, lane, 12, closed=closed)
    with h5py.File(path) as file:
        chunk = list(stored_chunks(file["/entry_0000/measurement/data"]))[1]
    with path.open("r+b") as raw:
        raw.seek(chunk.offset)
        raw.write(b"\0" * chunk.nbytes)

    new = restored(read_temporary_segment(path, UID, lane), lane, tmp_path)

    assert_as_sent(new, lane, [(4, 8)])
    assert read_header(new).account.corrupt == [(4, 8)]


def test_a_damaged_entry_is_missing_and_corrupt(tmp_path: Path) -> None:
    lane = value_lane()
    path = left(tmp_path, lane, 12, closed=True)
    _overwrite(path, "counts", 4, -1)
    new = restored(read_temporary_segment(path, UID, lane), lane, tmp_path)
    assert_as_sent(new, lane, [(3, 6)])
    assert read_header(new).account.corrupt == [(3, 6)]


def test_values_that_cannot_be_are_not_restored(tmp_path: Path) -> None:
    lane = value_lane()
    path = left(tmp_path, lane, 12)
    _overwrite(path, "label__length", 4, 60)
    new = restored(read_temporary_segment(path, UID, lane), lane, tmp_path)
    assert_as_sent(new, lane, [(0, 12)])


def _overwrite(path: Path, name: str, point: int, value: Any) -> None:
    with h5py.File(path, "r+") as file:
        file[f"/entry_0000/measurement/{name}"][point] = value


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    lane = frame_lane()
    path = left(tmp_path, lane, 8)
    for uid, other, reason in (
        ("fedcba9876543210", lane, "another scan"),
        (UID, frame_lane(per_chunk=6), "another description"),
    ):
        with pytest.raises(VerificationError, match=reason):
            read_temporary_segment(path, uid, other)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(VerificationError, match="cannot be used"):
        read_temporary_segment(path, UID, lane)
