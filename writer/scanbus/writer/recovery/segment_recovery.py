"""Read a killed writer's temporary segment and copy its points into a new segment.

A temporary segment has the chunks and rows up to the last flush (every ``flush_s``),
but not the tables of checksums and entries. A segment that the writer could still close
has these tables, and its points are compared with them. The journal beside a segment
has all of this too, and is used where HDF5 does not find more: a kill within a flush
leaves a file of which one part is older than another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import Times, checksum_of, decode_block
from scanbus.schemas import LaneDescription, PointRange, Storage, ranges
from scanbus.schemas.errors import NameTakenError, PayloadError, VerificationError
from scanbus.writer.check.columns import Column, segment_column
from scanbus.writer.model.ledger import SegmentAccount, joined, without
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP
from scanbus.writer.recovery.journaled_segment import (
    journaled_chunks,
    journaled_columns,
    journaled_rows,
)
from scanbus.writer.storage.chunked_dataset import (
    StoredChunk,
    stored_bytes,
    stored_chunks,
)
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.late_points import point_numbers
from scanbus.writer.storage.segment_header import load_account, read_header
from scanbus.writer.storage.segment_journal import JournalContents, read_journal
from scanbus.writer.storage.time_column import TIME_CHECKSUM, TIME_NAME, is_intact
from scanbus.writer.storage.value_segment import ValueSegment

__all__ = ["TemporarySegment", "read_temporary_segment", "restore"]

_DATA: Final = f"{DATA_GROUP}/data"
# Errors of h5py on files whose writer was killed during a flush.
_UNREADABLE: Final = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    NameTakenError,
)


@dataclass(frozen=True, slots=True)
class TemporarySegment:
    """A temporary segment that can be read.

    Attributes
    ----------
    path : pathlib.Path
        Path of the file.
    start, stop : int
        First point, and the point after the last one stored or recorded as missing.
    present : tuple of PointRange
        Points that appear to be stored in it.
    account : SegmentAccount
        Account of its writer.
    is_closed : bool
        Whether it was closed, and so has its tables of checksums.
    journal : JournalContents or None
        Its journal, if that and not HDF5 says where its points are.
    """

    path: Path
    start: int
    stop: int
    present: tuple[PointRange, ...]
    account: SegmentAccount
    is_closed: bool
    journal: JournalContents | None = None

    @property
    def n_points(self) -> int:
        """Number of points that appear to be stored in it."""
        return sum(stop - start for start, stop in self.present)


def read_temporary_segment(
    path: Path, uid: str, lane: LaneDescription
) -> TemporarySegment:
    """Return the range, stored points and account of a temporary segment.

    Raises
    ------
    VerificationError
        If it cannot be read, or is not a segment of this lane.
    """
    try:
        journaled = _read_journal(path, uid, lane)
    except _UNREADABLE:
        journaled = None  # What HDF5 finds is all there is.
    try:
        found = _read_hdf5(path, uid, lane)
    except _UNREADABLE as error:
        if journaled is not None and journaled.n_points:
            return journaled
        raise VerificationError(str(path), f"cannot be used: {error}") from error
    # Of as many points, those whose chunks have checksums.
    if journaled is not None and journaled.n_points >= found.n_points:
        return journaled
    return found


def _read_journal(
    path: Path, uid: str, lane: LaneDescription
) -> TemporarySegment | None:
    journal = read_journal(path, has_frames=lane.storage is Storage.FILES)
    if journal is None:
        return None
    _check_owner(journal.uid, journal.description, journal.start, uid, lane)
    n_rows, stored = journaled_rows(journal, lane)
    if lane.is_late:
        stored = list(without(stored, _without_number(journal.numbers, n_rows)))
    account = load_account(path)
    present = _present(journal.start, stored, account)
    stop = _stop(lane, journal.start, n_rows, account)
    return TemporarySegment(
        path, journal.start, stop, present, account, is_closed=False, journal=journal
    )


def _read_hdf5(path: Path, uid: str, lane: LaneDescription) -> TemporarySegment:
    with open_hdf5(path) as file:
        own = file[OWN_GROUP]
        start = int(own["start"][()])
        description = own["lane"].asstr()[()]
        _check_owner(own["uid"].asstr()[()], description, start, uid, lane)
        n_rows, stored = _stored(file, lane)
        if lane.is_late:
            stored = list(without(stored, _without_number(point_numbers(file), n_rows)))
        account, end = _account_and_stop(path, start + n_rows)
        is_closed = end == start + n_rows
        _Times.in_file(file)
        _Tables(file, lane, is_closed=is_closed)  # Raises if a kill has left half.
    present = _present(start, stored, account)
    stop = _stop(lane, start, n_rows, account)
    return TemporarySegment(path, start, stop, present, account, is_closed=is_closed)


def _present(
    start: int, stored: list[PointRange], account: SegmentAccount
) -> tuple[PointRange, ...]:
    rows = joined((start + a, start + b) for a, b in stored)
    return without(rows, joined(account.missing))


def _stop(
    lane: LaneDescription, start: int, n_rows: int, account: SegmentAccount
) -> int:
    length = lane.points_per_segment
    edges = (edge for _, edge in account.missing)
    return min(max(start + n_rows, *edges, start), (start // length + 1) * length)


def _check_owner(
    found_uid: str, description: str, start: int, uid: str, lane: LaneDescription
) -> None:
    if found_uid != uid:
        raise ValueError("it belongs to another scan")
    if description != lane.model_dump_json():
        raise ValueError("it belongs to another lane, or to another description of it")
    if lane.storage is Storage.FILES and start % lane.points_per_chunk:
        raise ValueError(f"it starts at point {start}, in the middle of a chunk")


def _stored(file: h5py.File, lane: LaneDescription) -> tuple[int, list[PointRange]]:
    """Return the number of rows of a segment, and the ranges of stored rows."""
    if lane.storage is Storage.VALUES:
        columns = _columns(file, lane)
        n_rows = min(len(column) for column in columns)
        return n_rows, [(0, n_rows)]
    dataset, channel = file[_DATA], lane.channels[0]
    rows = lane.points_per_chunk
    if (dataset.chunks, dataset.dtype) != (
        (rows, *channel.shape),
        channel.numpy_dtype,
    ):
        raise ValueError(f"it has chunks {dataset.chunks} of {dataset.dtype}")
    starts = [chunk.start for chunk in stored_chunks(dataset)]
    return len(dataset), [(one, min(one + rows, len(dataset))) for one in starts]


def _without_number(
    numbers: npt.NDArray[np.int64], n_rows: int
) -> tuple[PointRange, ...]:
    """Return the rows of a late segment of which nothing says which point they are."""
    numbers = numbers[:n_rows]
    rows = [*np.flatnonzero(numbers < 0).tolist(), *range(len(numbers), n_rows)]
    return ranges(rows)


def _columns(file: h5py.File, lane: LaneDescription) -> list[Column]:
    return [segment_column(file[DATA_GROUP], channel, 0) for channel in lane.channels]


def _account_and_stop(path: Path, stop: int) -> tuple[SegmentAccount, int | None]:
    """Return the account of a segment, and its end if it was closed at `stop`."""
    try:
        header = read_header(path)
    except NameTakenError:
        # Errors are not replaced by an empty account: without the account, fill
        # values would be taken for points.
        return load_account(path), None
    return header.account, header.stop if header.stop == stop else None


def restore(
    temporary: TemporarySegment,
    lane: LaneDescription,
    segment: FrameSegment | ValueSegment,
) -> None:
    """Copy all readable points into a new segment; chunks are not compressed again.

    The account of the new segment includes the old one's records. Points that fail
    their checksum or cannot be unpacked are corrupt. All points of ``[start, stop)``
    that were not copied are missing.

    Raises
    ------
    VerificationError
        If the file cannot be read any more.
    """
    restored: list[PointRange] = []
    damaged: list[PointRange] = []
    try:
        with _opened(temporary) as file:
            pieces = (
                _restore_frames(file, temporary, lane, segment)
                if isinstance(segment, FrameSegment)
                else _restore_values(file, temporary, lane, segment)
            )
            for points, is_intact in pieces:
                (restored if is_intact else damaged).append(points)
            if lane.is_late:
                numbers = _numbers(file, temporary)
                _restore_numbers(numbers, temporary.start, joined(restored), segment)
    except _UNREADABLE as error:
        reason = f"cannot be read any more: {error}"
        raise VerificationError(str(temporary.path), reason) from error
    noted = temporary.account
    present = without(joined(restored), joined(noted.missing))
    missing = without([(temporary.start, temporary.stop)], present)
    corrupt = [*noted.corrupt, *damaged]
    segment.replace_account(replace(noted, missing=list(missing), corrupt=corrupt))


@contextmanager
def _opened(temporary: TemporarySegment) -> Iterator[h5py.File | None]:
    """Yield the file, open; None if its journal is used instead."""
    if temporary.journal is not None:
        yield None
        return
    with open_hdf5(temporary.path) as file:
        yield file


def _numbers(
    file: h5py.File | None, temporary: TemporarySegment
) -> npt.NDArray[np.int64]:
    if temporary.journal is not None:
        return temporary.journal.numbers
    return point_numbers(file)


def _restore_numbers(
    numbers: npt.NDArray[np.int64],
    start: int,
    restored: Iterable[PointRange],
    segment: FrameSegment | ValueSegment,
) -> None:
    for first, stop in restored:
        for arrival in range(first, stop):
            segment.note_late_point(arrival, int(numbers[arrival - start]))


def _restore_frames(
    file: h5py.File | None,
    temporary: TemporarySegment,
    lane: LaneDescription,
    segment: FrameSegment,
) -> Iterator[tuple[PointRange, bool]]:
    """Copy chunks; yield the points of each, and whether they are intact."""
    times, rows = _times(file, temporary), lane.points_per_chunk
    if file is None:
        assert temporary.journal is not None
        n_rows = temporary.journal.n_rows
        chunks = journaled_chunks(temporary.journal, lane, temporary.path)
    else:
        n_rows = len(file[_DATA])
        chunks = _chunks(file, temporary, lane)
    for first, packed, from_source in chunks:
        points = temporary.start + first, temporary.start + min(first + rows, n_rows)
        if not _overlaps(points, temporary.present):
            continue
        is_intact = packed is not None and (
            temporary.is_closed or _unpacks(packed, lane)
        )
        if packed is not None and is_intact:
            segment.restore(
                first // rows,
                packed,
                times.of(first, points[1] - points[0]),
                from_source=from_source,
            )
        yield points, is_intact


def _chunks(
    file: h5py.File, temporary: TemporarySegment, lane: LaneDescription
) -> Iterator[tuple[int, bytes | None, bool]]:
    """Yield the chunks in a file, as `journaled_chunks` does."""
    tables = _Tables(file, lane, is_closed=temporary.is_closed)
    descriptor = os.open(temporary.path, os.O_RDONLY)
    try:
        for chunk in stored_chunks(file[_DATA]):
            packed = stored_bytes(descriptor, chunk)
            is_intact = len(packed) == chunk.nbytes and tables.fits(chunk, packed)
            own = tables.is_from_source(chunk)
            yield chunk.start, packed if is_intact else None, own
    finally:
        os.close(descriptor)


def _overlaps(points: PointRange, present: Sequence[PointRange]) -> bool:
    return without([points], present) != (points,)


class _Times:
    """The times of a segment, as far as its writer had written them."""

    def __init__(self, times: Times) -> None:
        self._times = times

    @classmethod
    def in_file(cls, file: h5py.File) -> _Times:
        """Return those in a segment; none if they are damaged."""
        dataset = file[OWN_GROUP][TIME_NAME]
        is_damaged = TIME_CHECKSUM in dataset.attrs and not is_intact(dataset)
        return cls(dataset[:0] if is_damaged else dataset[()])

    def of(self, first: int, count: int) -> Times:
        """Return the times of points; NaN where they are not in the file."""
        times = np.full(count, np.nan)
        known = self._times[first : first + count]
        times[: len(known)] = known
        return times


def _times(file: h5py.File | None, temporary: TemporarySegment) -> _Times:
    if temporary.journal is not None:
        return _Times(temporary.journal.times)
    return _Times.in_file(file)


class _Tables:
    """The tables of a frame segment, if it has them."""

    def __init__(
        self, file: h5py.File, lane: LaneDescription, *, is_closed: bool
    ) -> None:
        self._lane = lane
        self._checksums: npt.NDArray[np.uint64] | None = None
        if is_closed and lane.storage is Storage.FILES:
            own = file[OWN_GROUP]
            self._checksums = own["chunk_checksum"][()]
            self._from_source = own["chunk_from_source"][()]

    def fits(self, chunk: StoredChunk, packed: bytes) -> bool:
        if self._checksums is None:
            return True
        return checksum_of(packed) == int(self._checksums[self._index(chunk)])

    def is_from_source(self, chunk: StoredChunk) -> bool:
        if self._checksums is None:
            return False
        return bool(self._from_source[self._index(chunk)])

    def _index(self, chunk: StoredChunk) -> int:
        return chunk.start // self._lane.points_per_chunk


def _unpacks(packed: bytes, lane: LaneDescription) -> bool:
    channel = lane.channels[0]
    shape = (lane.points_per_chunk, *channel.shape)
    try:
        find_codec(channel.codec).decode(packed, channel.numpy_dtype, shape)
    except PayloadError:
        return False
    return True


def _restore_values(
    file: h5py.File | None,
    temporary: TemporarySegment,
    lane: LaneDescription,
    segment: ValueSegment,
) -> Iterator[tuple[PointRange, bool]]:
    """Copy entries; yield the points of each, and whether they are intact."""
    journal, times = temporary.journal, _times(file, temporary)
    columns = journaled_columns(journal, lane) if journal else _columns(file, lane)
    for row in _entries(file, temporary, lane):
        first, count, checksum, from_source = row
        place = first - temporary.start
        payloads = [b"".join(column.block(place, count)) for column in columns]
        found = checksum_of(*payloads)
        is_intact = checksum in (None, found)
        if is_intact:
            try:
                blocks = [
                    decode_block(channel, memoryview(payload), count)
                    for channel, payload in zip(lane.channels, payloads, strict=True)
                ]
            except PayloadError:
                is_intact = False
            else:
                new = first, count, found, from_source
                segment.restore(new, blocks, times.of(place, count))
        yield (first, first + count), is_intact


_Entry = tuple[int, int, int | None, bool]


def _entries(
    file: h5py.File | None, temporary: TemporarySegment, lane: LaneDescription
) -> Iterator[_Entry]:
    """Yield the segment's entries; without a table, ranges that have no checksum."""
    if file is not None and temporary.is_closed:
        rows: list[_Entry] = file[OWN_GROUP]["entries"][()].tolist()
        yield from rows
        return
    for start, stop in temporary.present:
        for first in range(start, stop, lane.points_per_chunk):
            count = min(lane.points_per_chunk, stop - first)
            yield first, count, None, False
