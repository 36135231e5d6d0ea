"""The scan file: all small values of a scan, once, in the form that readers want."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from scanbus.schemas import ChannelDescription, LaneDescription, ScanPrepared, Storage
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.writer.check import check_files
from scanbus.writer.storage.scan_file import _verify, read_scan_file, write_scan_file
from tests.support.written_scans import (
    N_POINTS,
    UID,
    points_of,
    value_lane,
    write_scan,
)

GROUP = "/entry_0000/measurement"


def expected_of(channel: ChannelDescription, n_points: int) -> Any:
    points = points_of(channel, 0, n_points)
    if not channel.is_ragged:
        return points
    padded = np.full((n_points, max(1, *map(len, points))), np.nan)
    for row, point in zip(padded, points, strict=True):
        row[: len(point)] = point
    return padded


def read_channel(file: h5py.File, channel: ChannelDescription) -> Any:
    dataset = file[GROUP][channel.name]
    return dataset.asstr()[()].tolist() if channel.is_string else dataset[()]


@pytest.mark.parametrize("n_points", [N_POINTS, 12, 1, 0])
def test_every_channel_reads_back_and_the_segments_may_go(
    tmp_path: Path, n_points: int
) -> None:
    scan = write_scan(tmp_path, [value_lane()], n_points=n_points)
    with h5py.File(scan.values, "r") as file:
        for channel in value_lane().channels:
            if channel.is_ragged and not n_points:
                continue
            expected = expected_of(channel, n_points)
            np.testing.assert_array_equal(read_channel(file, channel), expected)
        assert file[GROUP]["th"].attrs["units"] == "deg"
        lengths = file[GROUP]["peaks__length"][()].tolist()
    assert lengths == [number % 5 for number in range(n_points)]
    assert check_files([scan.values], everything=True).ok


def test_it_says_everything_that_was_said(tmp_path: Path) -> None:
    scan = write_scan(tmp_path)
    found = read_scan_file(scan.values)
    assert found.uid == UID
    assert [event.type for event in found.events] == ["prepared", "started", "ended"]
    assert found.events[0] == scan.contents.record.prepared
    assert found.verdict == scan.contents.record.verdict


def test_missing_points_are_filled_and_not_in_any_entry(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, [value_lane()], lost=[(3, 9)])
    with h5py.File(scan.values, "r") as file:
        group = file[GROUP]
        assert np.isnan(group["th"][3:9]).all()
        assert not group["shutter"][3:9].any()
        assert group["label"].asstr()[3:9].tolist() == [""] * 6
        assert np.isnan(group["peaks"][3:9]).all()
        assert not group["peaks__length"][3:9].any()
        rows = file["/entry_0000/scanbus/lanes/fast"][()]
    assert 3 not in rows["first"]
    assert scan.contents.record.verdict is not None
    assert scan.contents.record.verdict.channels["th"].missing == ((3, 9),)


def big_lane(codec: str) -> LaneDescription:
    def channel(name: str, **said: Any) -> ChannelDescription:
        return ChannelDescription(name=name, group="big", device=name, **said)

    return LaneDescription(
        name="big",
        storage=Storage.VALUES,
        channels=(
            channel("image", dtype="uint32", shape=(100, 90), codec=codec),
            channel("trace", shape=(-1,), max_point_bytes=2**16),
        ),
        points_per_segment=40,
        points_per_chunk=40,
    )


@pytest.mark.parametrize("codec", ["none", "gzip-shuffle", "bitshuffle-lz4"])
def test_more_than_a_mebibyte_is_packed_by_chunks(tmp_path: Path, codec: str) -> None:
    lane = big_lane(codec)
    scan = write_scan(tmp_path, [lane], n_points=50, step=10)
    with h5py.File(scan.values, "r") as file:
        image = file[GROUP]["image"]
        assert image.chunks == (29, 100, 90)
        assert image.id.get_storage_size() < image.nbytes / 2
        np.testing.assert_array_equal(image[()], points_of(lane.channels[0], 0, 50))
    report = check_files([scan.values], everything=True)
    assert report.ok
    assert report.n_entries_checked == report.n_entries == 5


def flat_names(file: h5py.File) -> Sequence[str]:
    return [name for name in file[GROUP] if not name.endswith("__length")]


def test_its_own_check_finds_a_value_that_differs(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, [value_lane()])
    with h5py.File(scan.values, "r+") as file:
        digests = {f"{GROUP}/{name}": "0" for name in flat_names(file)}
    for name, digest in digests.items():
        with pytest.raises(VerificationError, match=name):
            _verify(scan.values, {name: digest})


def test_a_scan_that_was_never_prepared_has_no_scan_file(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, [value_lane()])
    record = scan.contents.record
    assert isinstance(record.prepared, ScanPrepared)
    assert record.verdict is not None
    record.prepared = None
    with pytest.raises(ValueError, match="never prepared"):
        write_scan_file(tmp_path / "other.h5", record, {}, {}, record.verdict)
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.parametrize("content", [b"", b"no HDF5", None])
def test_other_files_are_no_scan_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.h5"
    if content is None:
        h5py.File(path, "w").close()
    else:
        path.write_bytes(content)
    with pytest.raises(NameTakenError, match="no scan file"):
        read_scan_file(path)


@contextmanager
def few_files(most: int) -> Iterator[None]:
    """This process may have no more files open than it has, and so many."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_few_segments_are_open_at_a_time_however_many_there_are(
    tmp_path: Path,
) -> None:
    # Each takes half a megabyte, and a file of those that a process may have.
    lane = value_lane()
    with few_files(6):
        scan = write_scan(tmp_path, [lane], n_points=480)
        assert check_files([scan.values], everything=True).ok
    with h5py.File(scan.values, "r") as file:
        for channel in lane.channels:
            found = read_channel(file, channel)
            np.testing.assert_array_equal(found, expected_of(channel, 480))
        rows = file["/entry_0000/scanbus/lanes/fast"][()]
    assert rows["count"].sum() == 480


def test_of_very_many_channels_some_are_written_at_a_time(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(150)]
    lane = LaneDescription(
        name="wide",
        storage=Storage.VALUES,
        channels=tuple(
            ChannelDescription(name=name, group="wide", device=name) for name in names
        ),
        points_per_segment=6,
        points_per_chunk=6,
    )
    scan = write_scan(tmp_path, [lane], n_points=10)
    with h5py.File(scan.values, "r") as file:
        assert set(file[GROUP]) == set(names)
        for channel in lane.channels:
            expected = points_of(channel, 0, 10)
            np.testing.assert_array_equal(read_channel(file, channel), expected)
