"""Segments of small values: growing, uncompressed datasets.

The scan file replaces these files at the end of a scan, so nothing is compressed.
Points are written a few megabytes at a time. A digest of each dataset is kept in
memory, and the closed file is compared with it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from scanbus.bus.protocol import Entry, Times
from scanbus.schemas import ChannelDescription, LaneDescription
from scanbus.schemas.errors import VerificationError
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP
from scanbus.writer.steps import step
from scanbus.writer.storage.chunked_dataset import stored_chunks
from scanbus.writer.storage.entry_values import (
    ENTRY_FIELDS,
    Block,
    EntryRow,
    missing_values,
    parts_of,
    stored_blocks,
    stored_row,
)
from scanbus.writer.storage.hashing import Hasher, hash_range
from scanbus.writer.storage.hdf5 import close_hdf5, discard_hdf5, flush_hdf5, open_hdf5
from scanbus.writer.storage.late_points import LatePoints
from scanbus.writer.storage.segment_header import (
    finish_segment,
    make_segment_file,
    remove_account,
    save_account,
)
from scanbus.writer.storage.segment_journal import SegmentJournal
from scanbus.writer.storage.time_column import TimeColumn, stored_times

__all__ = ["ValueSegment", "flat_name", "length_name"]

_CHUNK_BYTES = 1 << 18
# Bytes buffered before a write, unless a flush comes first: per segment, or, in lanes
# with very many datasets, per dataset, because each dataset takes a call.
_HELD_BYTES = 1 << 20
_HELD_BYTES_EACH = 1 << 13
# Longer lists of rows are moved to arrays: 41 bytes per row instead of 230.
_MAX_LISTED_ENTRIES = 1024


def flat_name(channel: ChannelDescription) -> str:
    """Return the name of the dataset with a variable channel's values, concatenated."""
    return f"{channel.name}__flat"


def length_name(channel: ChannelDescription) -> str:
    """Return the name of the dataset with a variable channel's point lengths."""
    return f"{channel.name}__length"


class ValueSegment:
    """One temporary HDF5 file with the points ``[start, start + N)`` of a lane.

    One lane writer owns it. Call `put` and `flush` from one thread, then `close` and
    `verify`, in that order, from any thread. Parameters as for ``FrameSegment``, with a
    lane of ``Storage.VALUES``.
    """

    def __init__(
        self,
        path: Path,
        uid: str,
        lane: LaneDescription,
        start: int,
        account: SegmentAccount | None = None,
    ) -> None:
        self._path = path
        self._lane = lane
        self.start = start
        self._stop = start
        self._held_bytes = 0
        self._max_held = max(_HELD_BYTES, _HELD_BYTES_EACH * len(lane.channels))
        self._n_notes = 0
        self.account = account or SegmentAccount()
        self._entries: list[EntryRow] = []
        self._tables: list[npt.NDArray[np.void]] = []
        self._file = make_segment_file(path, uid, lane, start)
        self._times = TimeColumn(self._file, lane.points_per_segment)
        self._late = LatePoints(self._file) if lane.is_late else None
        group = self._file[DATA_GROUP]
        self._columns = [
            _columns_of(group, channel, lane.points_per_segment)
            for channel in lane.channels
        ]
        n_columns = sum(map(len, self._columns))
        self._journal = SegmentJournal(path, uid, lane, start, n_columns)

    def put(self, entry: Entry) -> None:
        """Store the points of an entry.

        Raises
        ------
        PayloadError
            If a block cannot be unpacked; then nothing of the entry is stored.
        UnknownCodecError
            If a block's codec is unknown or its library is not installed.
        """
        blocks = stored_blocks(self._lane, entry)
        self._take(stored_row(entry, blocks), blocks, stored_times(entry))
        if entry.point is not None:
            self.note_late_point(entry.first, entry.point)
        self.account.note_gaps(entry.gaps)

    def note_late_point(self, arrival: int, point: int) -> None:
        """Record the point of its channel that an arrival of a late lane is."""
        assert self._late is not None
        self._late.note(arrival - self.start, point)

    def _take(
        self,
        row: EntryRow,
        blocks: list[Block],
        times: Times,
    ) -> None:
        first, count, *_ = row
        self._fill_up_to(first)
        self._times.put(first - self.start, times)
        self._entries.append(row)
        if len(self._entries) >= _MAX_LISTED_ENTRIES:
            self._move_entries_to_table()
        self._hold(blocks)
        self._stop = first + count

    def mark(self, kind: str, start: int, stop: int) -> None:
        """Record points in the account; store fill values for ``missing`` ones."""
        self.account.note(kind, start, stop)
        if kind == "missing":
            self._fill_up_to(stop)

    def _hold(self, blocks: Sequence[Block]) -> None:
        parts = [part for block in blocks for part in parts_of(block)]
        columns = itertools.chain.from_iterable(self._columns)
        for number, (column, part) in enumerate(zip(columns, parts, strict=True)):
            column.hold(part)
            self._journal.note_values(number, part)
            self._held_bytes += part.nbytes
        if self._held_bytes >= self._max_held:
            self._write_held()
            self._write_journal()

    def _move_entries_to_table(self) -> None:
        self._tables.append(np.array(self._entries, ENTRY_FIELDS))
        self._entries = []

    def _write_held(self) -> None:
        for columns in self._columns:
            for column in columns:
                column.write()
        self._journal.note_times(self._times.write())
        self._held_bytes = 0

    def _write_journal(self) -> None:
        self._save_account()
        if self._late is not None:
            self._journal.note_numbers(self._late.write())
        self._journal.write(self._stop - self.start)

    def flush(self) -> None:
        """Write and flush buffered points, to survive a kill of this process."""
        self._write_held()
        with step("flush"):
            # Before HDF5 changes what it has in the file: see the journal.
            self._write_journal()
            flush_hdf5(self._file)

    def _save_account(self) -> None:
        if self.account.n_notes > self._n_notes:
            self._n_notes = self.account.n_notes
            save_account(self._path, self.account)

    def restore(
        self,
        row: EntryRow,
        blocks: list[Block],
        times: Times,
    ) -> None:
        """Store the points of an entry read from another file of this segment.

        Parameters
        ----------
        row : tuple
            The entry's row, as in ``ENTRY_FIELDS``.
        blocks : list
            The entry's points, one item per channel.
        times : numpy.ndarray
            Time of each point; NaN if not known.
        """
        self._take(row, blocks, times)

    def replace_account(self, account: SegmentAccount) -> None:
        """Replace the account, which a restore determines for the whole segment."""
        self.account = account

    def close(self, stop: int) -> None:
        """Write everything up to point `stop` and close the file."""
        self._fill_up_to(stop)
        self._times.close(stop - self.start)
        self._write_held()
        with step("flush"):
            self._save_account()
            flush_hdf5(self._file)
        self._move_entries_to_table()
        table = np.concatenate(self._tables)
        self._file[OWN_GROUP].create_dataset("entries", data=table)
        if self._late is not None:
            self._late.write(stop - self.start)
        finish_segment(self._file, stop, self.account)
        close_hdf5(self._file)
        self._journal.remove()
        if self._n_notes:
            remove_account(self._path)

    @property
    def is_closed(self) -> bool:
        """Whether the file is closed."""
        return not self._file

    @property
    def digest(self) -> int:
        """0: small values are compared when they come into the scan file."""
        return 0

    def verify(self, hasher: Hasher | None = None) -> None:
        """Reopen the closed file; compare each dataset, and the times, with its digest.

        Parameters
        ----------
        hasher : Hasher, optional
            Gets all bytes of the file meanwhile.

        Raises
        ------
        VerificationError
            If a dataset differs from the points that were received.
        """
        self._times.verify(self._path)
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            with open_hdf5(self._path) as file:
                for columns in self._columns:
                    for column in columns:
                        column.verify(file[DATA_GROUP], descriptor)
            if hasher is not None:
                with self._path.open("rb", buffering=0) as stream:
                    hash_range(stream, hasher, 0)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Give the file up, unless it is closed; it must not be used afterwards."""
        discard_hdf5(self._file)
        self._journal.close()

    def _fill_up_to(self, point: int) -> None:
        n_points = point - self._stop
        if n_points <= 0:
            return
        self._stop = point
        self._hold(
            [missing_values(channel, n_points) for channel in self._lane.channels]
        )


class _Column:
    """One growing dataset, and the digest of its contents.

    Parameters
    ----------
    dataset : h5py.Dataset
        A dataset of the file being written.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._name = dataset.name.rpartition("/")[2]
        self._held: list[npt.NDArray[Any]] = []
        self._length = 0
        self._digest = xxhash.xxh3_64()

    def hold(self, points: npt.NDArray[Any]) -> None:
        """Buffer points until the next write."""
        self._held.append(points)

    def write(self) -> None:
        """Write buffered points; on an error the unwritten ones stay buffered."""
        while self._held:
            count = _count_together(self._held)
            points = self._held[0] if count == 1 else np.concatenate(self._held[:count])
            stop = self._length + len(points)
            self._dataset.resize(stop, axis=0)
            self._dataset[self._length : stop] = points
            self._digest.update(np.ascontiguousarray(points).data)
            self._length = stop
            del self._held[:count]

    def verify(self, group: h5py.Group, descriptor: int) -> None:
        """Compare the closed file's bytes with the digest, bypassing HDF5's caches.

        Raises
        ------
        VerificationError
            If they differ from what was written.
        """
        dataset = group[self._name]
        digest = xxhash.xxh3_64()
        row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
        buffer = bytearray(dataset.chunks[0] * row_bytes)
        for chunk in stored_chunks(dataset):
            rows = min(dataset.chunks[0], len(dataset) - chunk.start)
            view = memoryview(buffer)[: rows * row_bytes]
            n_read = os.preadv(descriptor, [view], chunk.offset)
            digest.update(view[:n_read])
        is_whole = len(dataset) == self._length
        if not is_whole or digest.digest() != self._digest.digest():
            raise VerificationError(
                group.file.filename, f"{self._name} is not what came over the bus"
            )


def _count_together(blocks: Sequence[npt.NDArray[Any]]) -> int:
    """Return how many leading blocks to write at once; large blocks go one by one."""
    small = itertools.takewhile(lambda block: block.nbytes < _CHUNK_BYTES, blocks)
    return max(1, sum(1 for _ in small))


def _columns_of(
    group: h5py.Group, channel: ChannelDescription, length: int
) -> tuple[_Column, ...]:
    dtype = channel.numpy_dtype
    if channel.is_variable:
        flat = _growing(group, flat_name(channel), dtype, (), None)
        counts = np.dtype("<u4")
        return flat, _growing(group, length_name(channel), counts, (), length)
    return (_growing(group, channel.name, dtype, channel.shape, length),)


def _growing(
    group: h5py.Group,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    length: int | None,
) -> _Column:
    row_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    rows = max(1, _CHUNK_BYTES // row_bytes)
    dataset = group.create_dataset(
        name,
        (0, *shape),
        dtype,
        maxshape=(length, *shape),
        chunks=(rows if length is None else min(rows, length), *shape),
    )
    return _Column(dataset)
