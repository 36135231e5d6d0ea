"""Complete scans on the disk, written by parts of the writer without Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import (
    HEADER_FIELD,
    PAYLOAD_FIELD,
    Entry,
    ScanRecord,
    Times,
    Variable,
    block_length,
    checksum_of,
    encode_block,
    encode_times,
    entry_id,
    pack_header,
    pack_variable,
    parse_entry,
)
from scanbus.schemas import (
    ChannelDescription,
    ChannelLedger,
    EndReason,
    LaneDescription,
    PointRange,
    Role,
    ScanEnded,
    ScanIdentity,
    ScanPrepared,
    ScanStarted,
    Storage,
    ranges,
)
from scanbus.schemas.file_names import (
    segment_file_name,
    shared_segment_name,
    values_file_name,
)
from scanbus.writer.masters.above import write_dataset_masters
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.ledger import SegmentAccount, judge, lane_ledgers
from scanbus.writer.model.scan_contents import ScanContents, SegmentFile
from scanbus.writer.model.value_files import COPIED_BYTES
from scanbus.writer.storage.data_root import (
    dataset_master,
    proposal_master,
    remove_shared_segments,
    scan_folder,
    scan_master,
)
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.scan_file import write_scan_file
from scanbus.writer.storage.shared_sections import Section, read_shared_segment
from scanbus.writer.storage.shared_segment import SharedSegment
from scanbus.writer.storage.value_segment import ValueSegment

UID = "0123456789abcdef"
N_POINTS = 30
Points = npt.NDArray[Any] | Sequence[Any]


def frame_lane(
    codec: str = "bitshuffle-lz4", *, per_segment: int = 12, per_chunk: int = 4
) -> LaneDescription:
    frames = ChannelDescription(
        name="eiger",
        group="eiger",
        device="eiger",
        role=Role.DETECTOR,
        dtype="uint16",
        shape=(6, 8),
        codec=codec,
    )
    return LaneDescription(
        name="eiger",
        storage=Storage.FILES,
        channels=(frames,),
        points_per_segment=per_segment,
        points_per_chunk=per_chunk,
    )


def value_lane(*, per_segment: int = 12) -> LaneDescription:
    def channel(name: str, **said: Any) -> ChannelDescription:
        return ChannelDescription(name=name, group="fast", device=name, **said)

    return LaneDescription(
        name="fast",
        storage=Storage.VALUES,
        channels=(
            channel("th", role=Role.AXIS, units="deg"),
            channel("counts", dtype="int32"),
            channel("shutter", dtype="bool"),
            channel("phase", dtype="complex64"),
            channel("label", dtype="string", max_point_bytes=64),
            channel("peaks", shape=(-1,), max_point_bytes=256),
            channel("mca", dtype="uint32", shape=(5,)),
        ),
        points_per_segment=per_segment,
        points_per_chunk=per_segment,
    )


def points_of(channel: ChannelDescription, first: int, count: int) -> Any:
    """Return the values of a channel at points ``[first, first + count)``."""
    numbers = range(first, first + count)
    if channel.is_string:
        return ["" if number % 7 == 3 else f"Punkt № {number}" for number in numbers]
    if channel.is_ragged:
        return [np.arange(number % 5) + number / 8 for number in numbers]
    size = int(np.prod(channel.shape, dtype=int))
    flat = np.array(numbers)[:, None] * 7 + np.arange(size) % 13
    return flat.reshape(count, *channel.shape).astype(channel.numpy_dtype)


def times_of(first: int, count: int) -> Times:
    """Return the times of points ``[first, first + count)``: not evenly spaced."""
    points = np.arange(first, first + count)
    return 1000.0 + points + points % 3 / 10


def entry_of(
    lane: LaneDescription,
    first: int,
    points: Sequence[Points],
    *,
    codecs: Sequence[str] | None = None,
    count: int | None = None,
    gaps: Mapping[str, tuple[PointRange, ...]] | None = None,
    point: int | None = None,
) -> Entry:
    """Return an entry as it is read from the bus, validated.

    Parameters
    ----------
    points : sequence
        The points of each channel.
    count : int, optional
        Number of points if the chunk is padded.
    """
    codecs = codecs or ["none"] * len(lane.channels)
    blocks: list[tuple[bytes | memoryview, ...]] = []
    for channel, found, name in zip(lane.channels, points, codecs, strict=True):
        packed: npt.NDArray[Any] | Variable
        if channel.is_variable:
            packed = pack_variable(channel, list(found))
        else:
            packed = np.ascontiguousarray(found, channel.numpy_dtype)
        blocks.append(encode_block(channel, packed, name))
    payload = b"".join(bytes(part) for block in blocks for part in block)
    n_points = len(points[0]) if count is None else count
    ends, times = encode_times(times_of(first, n_points))
    header = pack_header(
        session=b"test",
        checksum=checksum_of(payload),
        codecs=tuple(codecs),
        sizes=tuple(block_length(block) for block in blocks),
        ends=ends,
        times_checksum=checksum_of(times) if times else None,
        gaps=gaps,
        is_padded=count is not None,
        point=point,
    )
    fields = {HEADER_FIELD: header, PAYLOAD_FIELD: payload + times}
    return parse_entry(lane, entry_id(first, n_points), fields)


def plain_entry(lane: LaneDescription, first: int, count: int, salt: int = 0) -> Entry:
    """Return an entry of the unpacked points that `points_of` returns."""
    points = [points_of(channel, first + salt, count) for channel in lane.channels]
    return entry_of(lane, first, points)


def chunk_entry(lane: LaneDescription, first: int, count: int, salt: int = 0) -> Entry:
    """Return an entry that is one packed chunk; padded with noise if not full."""
    channel, rows = lane.channels[0], lane.points_per_chunk
    padded = points_of(channel, first + salt, rows)
    padded[count:] = 54321
    return entry_of(
        lane,
        first,
        [padded],
        codecs=[channel.codec],
        count=None if count == rows else count,
    )


def entries_of(
    lane: LaneDescription, n_points: int, step: int | None = None, *, salt: int = 0
) -> list[Entry]:
    """Return all entries of a lane; none crosses the edge of a chunk or segment."""
    make = plain_entry if lane.storage is Storage.VALUES else chunk_entry
    if step is None:
        step = 3 if lane.storage is Storage.VALUES else lane.points_per_chunk
    return [
        make(lane, first, min(step, n_points - first), salt)
        for first in range(0, n_points, step)
    ]


def write_segments(
    folder: Path,
    uid: str,
    lane: LaneDescription,
    entries: Iterable[Entry],
    *,
    n_points: int,
) -> tuple[list[SegmentFile], list[SegmentAccount]]:
    """Write and verify the segments of a lane; points without an entry are missing.

    Each is a file of its own, as those of frames and of late points are.
    """
    kind = ValueSegment if lane.storage is Storage.VALUES else FrameSegment
    entries = list(entries)
    files: list[SegmentFile] = []
    accounts: list[SegmentAccount] = []
    length = lane.points_per_segment
    for index, start in enumerate(range(0, n_points, length)):
        stop = min(start + length, n_points)
        name = segment_file_name(lane.name, index)
        segment = kind(folder / name, uid, lane, start)
        edge = start
        for entry in entries:
            if start <= entry.first < stop:
                if entry.first > edge:
                    segment.mark("missing", edge, entry.first)
                segment.put(entry)
                edge = entry.stop
        if edge < stop:
            segment.mark("missing", edge, stop)
        segment.close(stop)
        segment.verify()
        files.append(SegmentFile(name, start, stop))
        accounts.append(segment.account)
    return files, accounts


def write_shared(
    folder: Path,
    uid: str,
    lanes: Sequence[tuple[LaneDescription, Sequence[Entry]]],
    *,
    n_points: int,
    number: int = 0,
) -> dict[str, tuple[list[Section], list[SegmentAccount]]]:
    """Write and verify a segment that lanes share; by lane, what it has of it."""
    path = folder / shared_segment_name(number)
    segment = SharedSegment(path, uid)
    accounts: dict[str, list[SegmentAccount]] = {}
    for lane, entries in lanes:
        section = segment.section(lane, 0, SegmentAccount())
        for entry in entries:
            if entry.first > section.stop:
                section.mark("missing", section.stop, entry.first)
            section.put(entry)
        if section.stop < n_points:
            section.mark("missing", section.stop, n_points)
        accounts[lane.name] = [section.account]
    segment.close()
    segment.verify()
    found = read_shared_segment(path).sections
    return {
        name: ([found[name]] if name in found else [], account)
        for name, account in accounts.items()
    }


@dataclass
class WrittenScan:
    """A scan on the disk."""

    root: Path
    identity: ScanIdentity
    contents: ScanContents

    @property
    def folder(self) -> Path:
        return scan_folder(self.root, self.identity)

    @property
    def master(self) -> Path:
        return scan_master(self.root, self.identity)

    @property
    def values(self) -> Path:
        return self.folder / values_file_name(self.identity.scan_number)

    @property
    def dataset(self) -> Path:
        return dataset_master(self.root, self.identity)

    @property
    def proposal(self) -> Path:
        return proposal_master(self.root, self.identity)

    def segment(self, index: int, lane: str = "eiger") -> Path:
        return self.folder / segment_file_name(lane, index)


def write_scan(
    root: Path,
    lanes: Sequence[LaneDescription] | None = None,
    *,
    number: int = 1,
    uid: str = UID,
    n_points: int = N_POINTS,
    lost: Sequence[PointRange] = (),
    step: int | None = None,
    salt: int = 0,
    late: Mapping[str, Sequence[int]] | None = None,
    copied_bytes: int = COPIED_BYTES,
) -> WrittenScan:
    """Write a scan with all its masters.

    Parameters
    ----------
    salt : int
        Makes the values differ from those of other scans: they are those of the points
        from `salt` on.
    late : mapping, optional
        Channel to its late points, which must be among the lost ones.
    lost : sequence of PointRange
        Points without entries, in all lanes.
    """
    lanes = (value_lane(), frame_lane()) if lanes is None else lanes
    identity = ScanIdentity(
        uid=uid,
        proposal="hg123",
        beamline="id00",
        session="20250101",
        collection="sample",
        dataset="0001",
        scan_number=number,
    )
    record = ScanRecord(identity)
    record.fold(
        ScanPrepared(time=1.0, scan=identity, lanes=tuple(lanes), quota_bytes=2**20)
    )
    record.fold(ScanStarted(time=2.0))
    late = late or {}
    counts = {name: len(points) for name, points in late.items()}
    record.fold(ScanEnded(time=3.0, end_reason=EndReason.SUCCESS, late=counts))
    folder = scan_folder(root, identity)
    folder.mkdir(parents=True)
    ledgers: dict[str, ChannelLedger] = {}
    segments: dict[str, tuple[SegmentFile, ...]] = {}
    paths: dict[str, list[Path]] = {}
    sections: dict[str, list[Section]] = {}
    for lane in lanes:
        entries = [
            entry
            for entry in entries_of(lane, n_points, step, salt=salt)
            if not any(start <= entry.first < stop for start, stop in lost)
        ]
        if lane.storage is Storage.VALUES:
            shared = write_shared(
                folder, uid, [(lane, entries)], n_points=n_points, number=len(sections)
            )
            sections[lane.name], accounts = shared[lane.name]
        else:
            files, accounts = write_segments(
                folder, uid, lane, entries, n_points=n_points
            )
            segments[lane.name] = tuple(files)
            paths[lane.name] = [folder / one.name for one in files]
        ledgers |= lane_ledgers(
            lane, accounts, expected=n_points, stored=n_points, sealed=True
        )
    late_files: dict[str, tuple[str, ...]] = {}
    assert record.prepared is not None
    for lane in record.prepared.late_lanes(record.ended):
        name = lane.channels[0].name
        late_files[name] = _write_late(folder, uid, lane, late[name], salt)
        said = ranges(sorted(late[name]))
        ledgers[name] = ledgers[name].model_copy(update={"late": said})
    scan = WrittenScan(root, identity, ScanContents(record))
    record.verdict = judge(
        uid,
        ledgers,
        end_reason=EndReason.SUCCESS,
        master=str(scan.master.relative_to(root)),
    )
    write_scan_file(
        scan.values, record, paths, sections, record.verdict, copied_bytes=copied_bytes
    )
    remove_shared_segments(folder)
    scan.contents = ScanContents(record, segments, scan.values.name, late_files)
    write_scan_master(scan.folder, scan.contents)
    write_dataset_masters(root, identity)
    return scan


def _write_late(
    folder: Path, uid: str, lane: LaneDescription, points: Sequence[int], salt: int
) -> tuple[str, ...]:
    channel = lane.channels[0]
    entries = [
        entry_of(lane, arrival, [points_of(channel, point + salt, 1)], point=point)
        for arrival, point in enumerate(points)
    ]
    files, _ = write_segments(folder, uid, lane, entries, n_points=len(points))
    return tuple(one.name for one in files)
