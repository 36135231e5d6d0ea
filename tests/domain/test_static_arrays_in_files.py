"""Static arrays in real files: in their shape and type, checked, and made again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import numpy.typing as npt
import pytest

from scanbus.bus.protocol import (
    HEADER_FIELD,
    PAYLOAD_FIELD,
    ScanRecord,
    parse_entry,
)
from scanbus.publisher.buffers.chunk_buffer import Piece
from scanbus.publisher.buffers.entry_builder import frame_entry
from scanbus.publisher.declare.metadata import MetadataConverter
from scanbus.publisher.declare.static_arrays import StaticArrays
from scanbus.schemas import (
    ChannelLedger,
    EndReason,
    LaneDescription,
    Role,
    ScanEnded,
    ScanPrepared,
    ScanStarted,
    Storage,
)
from scanbus.writer import rebuild
from scanbus.writer.check import check_files
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.ledger import judge, lane_ledgers
from scanbus.writer.model.scan_contents import ScanContents, SegmentFile
from scanbus.writer.storage.scan_file import write_scan_file
from tests.support.descriptions import channel, identity, lane_of
from tests.support.written_scans import UID, WrittenScan, write_segments

LARGE = np.arange(2**20 + 6) % 7
ARRAYS: dict[str, npt.NDArray[Any]] = {
    "row": LARGE.astype(">i4"),
    "mask": (LARGE > 3).reshape(2, -1),
    "flat": LARGE.astype("f4").reshape(-1, 2)[::-1],
    "phase": (LARGE * 1j).astype("c16").reshape(2, -1, 1),
    "cube": LARGE.astype("u2").reshape(1, 2, 1, -1),
}


def written(
    root: Path, metadata: dict[str, Any], *lanes: LaneDescription
) -> WrittenScan:
    """Write a scan of nothing but its metadata, and lanes without points."""
    statics = StaticArrays(2**30)
    tree = MetadataConverter(statics).tree(metadata)
    scan = WrittenScan(root, identity(uid=UID), ScanContents(ScanRecord(identity())))
    prepared = ScanPrepared(
        time=1.0, scan=scan.identity, lanes=lanes, quota_bytes=2**20, metadata=tree
    )
    record = ScanRecord(scan.identity)
    ended = ScanEnded(time=3.0, end_reason=EndReason.SUCCESS)
    for event in (prepared, ScanStarted(time=2.0), ended):
        record.fold(event)
    scan.folder.mkdir(parents=True)
    segments: dict[str, tuple[SegmentFile, ...]] = {}
    ledgers: dict[str, ChannelLedger] = {}
    for lane, packed in statics.unsent([prepared]).values():
        sent = frame_entry(lane, Piece(0, 1, packed, np.array([5.0])), b"me")
        assert sent.payload is not None
        fields = {HEADER_FIELD: sent.header, PAYLOAD_FIELD: bytes(sent.payload)}
        entry = parse_entry(lane, sent.id, fields)
        files, accounts = write_segments(scan.folder, UID, lane, [entry], n_points=1)
        segments[lane.name] = tuple(files)
        ledgers |= lane_ledgers(lane, accounts, expected=1, stored=1, sealed=True)
    master = str(scan.master.relative_to(root))
    record.verdict = judge(UID, ledgers, end_reason=EndReason.SUCCESS, master=master)
    none = {lane.name: () for lane in lanes}
    write_scan_file(scan.values, record, none, {}, record.verdict)
    write_scan_master(scan.folder, ScanContents(record, segments, scan.values.name))
    return scan


def assert_there(master: Path) -> None:
    with h5py.File(master) as file:
        for name, values in ARRAYS.items():
            found = file[f"1.1/a/{name}"]
            assert found.is_virtual
            assert found.dtype == values.dtype.newbyteorder("<")
            np.testing.assert_array_equal(found, values)
            np.testing.assert_array_equal(found[..., :1], values[..., :1])


def test_arrays_of_every_type_and_rank_stand_in_their_shape(tmp_path: Path) -> None:
    scan = written(tmp_path, {"a": {**ARRAYS, "mask@units": "1"}, "again": ARRAYS})
    assert len(list(scan.folder.glob("static.*.h5"))) == len(ARRAYS)
    assert_there(scan.master)
    assert check_files([scan.master], everything=True).findings == ()
    scan.master.unlink()
    assert rebuild(tmp_path).skipped == ()
    assert_there(scan.master)
    # Wherever the folder is moved.
    moved = tmp_path / "elsewhere"
    shutil.move(scan.folder, moved)
    assert_there(moved / scan.master.name)


def test_a_large_pixel_mask_becomes_one_of_bytes(tmp_path: Path) -> None:
    shape = (1024, 1030)
    mask = np.zeros(shape, "u4")
    mask[5, :4] = [1, 200, 2**16, 2**31]
    frames = channel("cam", "cam", role=Role.DETECTOR, shape=shape, dtype="uint8")
    told = {"instrument": {"cam": {"pixel_mask": mask}}}
    scan = written(tmp_path, told, lane_of(frames, storage=Storage.FILES))
    with h5py.File(scan.master) as file:
        found = file["1.1/instrument/cam/mask"]
        assert found.is_virtual
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found[()] != 0, mask != 0)
    assert check_files([scan.master], everything=True).findings == ()


def test_an_array_whose_file_is_gone_is_found_by_the_check(tmp_path: Path) -> None:
    scan = written(tmp_path, {"a": ARRAYS})
    next(scan.folder.glob("static.flat_*.h5")).unlink()
    (finding,) = check_files([scan.master], everything=True).findings
    assert "static.flat" in str(finding)
    (skipped,) = rebuild(tmp_path).skipped
    assert skipped.is_damaged


@pytest.mark.parametrize("is_open", [False, True])
def test_an_array_that_never_came_is_missing(is_open: bool) -> None:
    statics = StaticArrays(2**30)
    tree = MetadataConverter(statics).tree({"a": LARGE})
    event = ScanPrepared(
        time=1.0, scan=identity(), lanes=(), quota_bytes=2**20, metadata=tree
    )
    ((lane, _),) = statics.unsent([event]).values()
    (ledger,) = lane_ledgers(
        lane, [], expected=0, stored=0, sealed=True, is_open=is_open
    ).values()
    assert ledger.missing == (() if is_open else ((0, 1),))
