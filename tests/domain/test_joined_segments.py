"""Finished segments of a detector become one file, chunk by chunk as they are."""

from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.writer import check_files
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.ledger import SegmentAccount, lane_ledgers
from scanbus.writer.model.scan_contents import OWN_GROUP, SegmentFile
from scanbus.writer.model.sources import MAX_SOURCES
from scanbus.writer.storage.joined_segment import join_segments
from scanbus.writer.storage.segment_header import read_header
from tests.support.trees import differences
from tests.support.written_scans import (
    N_POINTS,
    UID,
    entries_of,
    frame_lane,
    write_scan,
    write_segments,
)

LOST = ((4, 8), (20, 24))


def segments(
    folder: Path, lane: LaneDescription, n_points: int = N_POINTS
) -> tuple[list[Path], list[SegmentAccount]]:
    folder.mkdir()
    entries = [
        entry
        for entry in entries_of(lane, n_points)
        if not any(start <= entry.first < stop for start, stop in LOST)
    ]
    files, accounts = write_segments(folder, UID, lane, entries, n_points=n_points)
    accounts[0].note_duplicate(1, 3)
    return [folder / one.name for one in files], accounts


@pytest.mark.parametrize("codec", ["none", "bitshuffle-lz4", "gzip-shuffle", "zstd"])
@pytest.mark.parametrize("n_points", [30, 25, 36])
def test_a_joined_file_is_what_one_long_segment_would_be(
    tmp_path: Path, codec: str, n_points: int
) -> None:
    short = frame_lane(codec, per_segment=12, per_chunk=4)
    parts, _ = segments(tmp_path / "short", short, n_points)
    n_rows = -(-n_points // 4) * 4
    long = short.model_copy(update={"points_per_segment": n_rows})
    ((whole,), _) = segments(tmp_path / "long", long, n_points)
    target = tmp_path / "joined"
    target.mkdir()

    joined = join_segments(target / whole.name, UID, long, parts)
    joined.verify()

    assert joined.damaged == ()
    assert (joined.start, joined.stop) == (0, n_points)
    assert differences(target, tmp_path / "long") == []


def test_tables_that_nobody_has_foreseen_are_joined_too(tmp_path: Path) -> None:
    lane = frame_lane(per_segment=12, per_chunk=4)
    parts, _ = segments(tmp_path / "parts", lane)
    for index, path in enumerate(parts):
        with h5py.File(path, "r+") as file:
            own = file[OWN_GROUP]
            n_points = len(own["time"])
            table = np.arange(2 * n_points).reshape(n_points, 2) + 100 * index
            own.create_dataset("later", data=table).attrs["units"] = "s"

    join_segments(tmp_path / "joined.h5", UID, lane, parts)

    with h5py.File(tmp_path / "joined.h5") as file:
        later = file[OWN_GROUP]["later"]
        expected = [h5py.File(path)[OWN_GROUP]["later"][()] for path in parts]
        np.testing.assert_array_equal(later[()], np.concatenate(expected))
        assert later.attrs["units"] == "s"


def test_the_ledger_of_a_joined_file_is_that_of_its_parts(tmp_path: Path) -> None:
    lane = frame_lane(per_segment=12, per_chunk=4)
    parts, _ = segments(tmp_path / "parts", lane)
    accounts = [read_header(path).account for path in parts]

    join_segments(tmp_path / "joined.h5", UID, lane, parts)

    found = read_header(tmp_path / "joined.h5").account
    counts = {"expected": N_POINTS, "stored": N_POINTS, "sealed": True}
    assert lane_ledgers(lane, [found], **counts) == lane_ledgers(  # type: ignore[arg-type]
        lane,
        accounts,
        **counts,  # type: ignore[arg-type]
    )
    assert found.last_id == accounts[-1].last_id


def test_damage_of_a_part_is_carried_over_and_still_found(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, [frame_lane(per_segment=4, per_chunk=1)], n_points=12)
    parts = [scan.segment(index) for index in range(3)]
    with h5py.File(parts[1]) as file:
        place = file["entry_0000/measurement/data"].id.get_chunk_info(2)
    with parts[1].open("r+b") as raw:
        raw.seek(place.byte_offset + place.size - 1)
        last = raw.read(1)[0]
        raw.seek(-1, 1)
        raw.write(bytes([last ^ 1]))
    path = scan.folder / "eiger_0000-0002.h5"

    joined = join_segments(path, UID, frame_lane(per_segment=4, per_chunk=1), parts)
    joined.verify()

    assert joined.damaged == (parts[1],)
    files = {"eiger": (SegmentFile(path.name, 0, 12),)}
    write_scan_master(scan.folder, replace(scan.contents, segments=files))
    (finding,) = check_files([scan.master], everything=True).findings
    assert finding.points == ((6, 7),)
    assert "not what came over the bus" in finding.problem


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    lane = frame_lane(per_segment=12, per_chunk=4)
    parts, _ = segments(tmp_path / "parts", lane)
    with pytest.raises(VerificationError, match="does not continue at point 12"):
        join_segments(tmp_path / "a.h5", UID, lane, [parts[0], parts[2]])
    with pytest.raises(VerificationError, match="does not continue"):
        join_segments(tmp_path / "b.h5", "another0scan", lane, parts)
    parts[1].write_bytes(b"")
    with pytest.raises(NameTakenError):
        join_segments(tmp_path / "c.h5", UID, lane, parts)


def test_a_joined_file_that_differs_is_not_accepted(tmp_path: Path) -> None:
    lane = frame_lane(per_segment=12, per_chunk=4)
    parts, _ = segments(tmp_path / "parts", lane)
    joined = join_segments(tmp_path / "joined.h5", UID, lane, parts)
    with h5py.File(joined.path) as file:
        place = file["entry_0000/measurement/data"].id.get_chunk_info(1)
    with joined.path.open("r+b") as raw:
        raw.seek(place.byte_offset)
        raw.write(b"\xff\xff")

    with pytest.raises(VerificationError):
        joined.verify()


def test_more_detectors_than_sources_are_linked(tmp_path: Path) -> None:
    n_lanes = MAX_SOURCES + 1
    scan = write_scan(tmp_path, [frame_lane(per_segment=30, per_chunk=1)])
    lanes = tuple(lane_of(f"d{number}") for number in range(n_lanes))
    record = scan.contents.record
    assert record.prepared is not None
    record.prepared = record.prepared.model_copy(update={"lanes": lanes})
    # All of them show the only file there is.
    files = {lane.name: (SegmentFile("eiger_0000.h5", 0, 30),) for lane in lanes}
    write_scan_master(scan.folder, replace(scan.contents, segments=files))

    report = check_files([scan.master])

    assert report.n_vds_sources == 0
    assert not any("no virtual dataset" in one.problem for one in report.findings)
    with h5py.File(scan.master) as file:
        for name in (lanes[0].name, lanes[-1].name):
            assert file["1.1/measurement"][name].shape == (30, 6, 8)


def lane_of(name: str) -> LaneDescription:
    lane = frame_lane(per_segment=30, per_chunk=1)
    update = {"name": name, "group": name, "device": name}
    channel = lane.channels[0].model_copy(update=update)
    return lane.model_copy(update={"name": name, "channels": (channel,)})


def test_a_master_with_too_many_sources_is_named_by_a_check(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, [frame_lane(per_segment=30, per_chunk=1)])
    files = tuple(
        SegmentFile(f"eiger_{number:04d}.h5", number, number + 1)
        for number in range(MAX_SOURCES + 1)
    )
    write_scan_master(scan.folder, replace(scan.contents, segments={"eiger": files}))

    report = check_files([scan.master])

    assert any("501 source files, more than 500" in note for note in report.notes)


def test_damaged_times_of_a_part_are_carried_over_and_still_found(
    tmp_path: Path,
) -> None:
    lane = frame_lane(per_segment=12, per_chunk=4)
    parts, _ = segments(tmp_path / "parts", lane)
    with h5py.File(parts[1], "r+") as file:
        file[OWN_GROUP]["time"][3] += 1.0

    joined = join_segments(tmp_path / "joined.h5", UID, lane, parts)
    joined.verify()

    assert joined.damaged == (parts[1],)
    (finding,) = check_files([tmp_path / "joined.h5"]).findings
    assert finding.problem == "times are not what came over the bus"
