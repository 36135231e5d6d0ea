"""Segments of frame lanes (``Storage.FILES``): one dataset, written chunk by chunk.

An entry that is exactly one chunk is stored unchanged (HDF5 direct chunk write).
Smaller or misaligned entries are unpacked into a chunk buffer, which is packed when it
is full. A flush also appends to a journal beside the file, see
:mod:`scanbus.writer.storage.segment_journal`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import Entry, Times, Variable, checksum_of, decode_block
from scanbus.schemas import LaneDescription
from scanbus.writer.layouts.common.channel_nodes import channel_attributes
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP
from scanbus.writer.steps import step
from scanbus.writer.storage.chunked_dataset import (
    make_packed_dataset,
    pack_rows,
    start_writeback,
)
from scanbus.writer.storage.hashing import Hasher
from scanbus.writer.storage.hdf5 import close_hdf5, discard_hdf5, flush_hdf5
from scanbus.writer.storage.late_points import LatePoints
from scanbus.writer.storage.segment_header import (
    compare_chunks,
    digest_of_checksums,
    finish_segment,
    make_segment_file,
    remove_account,
    save_account,
)
from scanbus.writer.storage.segment_journal import SegmentJournal
from scanbus.writer.storage.time_column import TimeColumn, stored_times
from scanbus.writer.storage.tree_writer import write_attributes

__all__ = ["FrameSegment"]

# Writeback starts after this many bytes, to shorten the fsync at the end.
_WRITEBACK_BYTES = 16 << 20


class FrameSegment:
    """One temporary HDF5 file with the points ``[start, start + N)`` of a detector.

    One lane writer owns it. Call `put` and `flush` from one thread, then `close` and
    `verify`, in that order, from any thread.

    Parameters
    ----------
    path : pathlib.Path
        Temporary path, which must not exist.
    uid : str
        Uid of the scan.
    lane : LaneDescription
        A lane of ``Storage.FILES``.
    start : int
        First point, a multiple of ``points_per_chunk``.
    account : SegmentAccount, optional
        Records made before its first point; an empty account by default.
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
        self._channel = lane.channels[0]
        self.start = start
        self.account = account or SegmentAccount()
        self._n_notes = self._n_unsynced = 0
        length, rows = lane.points_per_segment, lane.points_per_chunk
        self._checksums = np.zeros(length // rows, np.uint64)
        self._from_source = np.zeros(length // rows, np.bool_)
        self._open_chunk: tuple[int, npt.NDArray[Any], int] | None = None
        self._file = make_segment_file(path, uid, lane, start)
        self._descriptor: int = self._file.id.get_vfd_handle()
        self._edge: int | None = None  # Size of the file; None if not known.
        self._journal = SegmentJournal(path, uid, lane, start)
        self._times = TimeColumn(self._file, length)
        self._late = LatePoints(self._file) if lane.is_late else None
        self._dataset = make_packed_dataset(
            self._file[DATA_GROUP],
            "data",
            shape=(0, *self._channel.shape),
            rows_per_chunk=rows,
            dtype=self._channel.numpy_dtype,
            codec_name=self._channel.codec,
            fill_value=self._channel.missing_value,
            max_rows=length,
        )

    def put(self, entry: Entry) -> None:
        """Store the points of an entry.

        Raises
        ------
        PayloadError
            If they cannot be unpacked; then nothing of the entry is stored. A whole
            chunk is not unpacked here; only the sizes in its header are checked.
        UnknownCodecError
            If the codec is unknown or its library is not installed.
        """
        first = entry.first - self.start
        rows = self._lane.points_per_chunk
        is_chunk = first % rows == 0 and (entry.count == rows or entry.is_padded)
        if is_chunk and entry.codecs[0] == self._channel.codec:
            self._check_chunk(entry)
            self._grow(first + entry.count)
            self._store(first // rows, entry.payload, entry.checksum, from_source=True)
        else:
            self._gather(first, entry)
        self._times.put(first, stored_times(entry))
        if entry.point is not None:
            self.note_late_point(entry.first, entry.point)
        self.account.note_gaps(entry.gaps)

    def note_late_point(self, arrival: int, point: int) -> None:
        """Record the point of its channel that an arrival of a late lane is."""
        assert self._late is not None
        self._late.note(arrival - self.start, point)

    def mark(self, kind: str, start: int, stop: int) -> None:
        """Record the points ``[start, stop)`` in the account.

        Parameters
        ----------
        kind : str
            A field of :class:`SegmentAccount`: ``missing``, ``corrupt``, ….
        """
        self.account.note(kind, start, stop)

    def flush(self) -> None:
        """Flush stored chunks, so that they survive a kill of this process."""
        self._edge = None
        with step("flush"):
            self._save_account()
            if self._late is not None:
                self._journal.note_numbers(self._late.write())
            self._journal.note_times(self._times.write())
            # Before HDF5 changes what it has in the file: see the journal.
            self._journal.write(len(self._dataset))
            flush_hdf5(self._file)

    def _save_account(self) -> None:
        # Before the chunks: no chunk may reach the file before its gaps are recorded.
        if self.account.n_notes > self._n_notes:
            self._n_notes = self.account.n_notes
            save_account(self._path, self.account)

    def restore(
        self, index: int, packed: bytes, times: Times, *, from_source: bool
    ) -> None:
        """Store a chunk from another file of this segment, unchanged.

        Parameters
        ----------
        index : int
            Index of the chunk in the segment.
        packed : bytes
            The chunk as stored in the file, i.e. after the filters.
        times : numpy.ndarray
            float64, shape ``(n_points,)``: time of each point, NaN if unknown; fewer
            points than a whole chunk's at the end of a lane.
        from_source : bool
            Whether it was verified with a checksum computed at the source.
        """
        first = index * self._lane.points_per_chunk
        self._grow(first + len(times))
        self._store(index, packed, checksum_of(packed), from_source=from_source)
        self._times.put(first, times)

    def replace_account(self, account: SegmentAccount) -> None:
        """Replace the account, which a restore determines for the whole segment."""
        self.account = account

    def close(self, stop: int) -> None:
        """Write everything up to point `stop` and close the file."""
        self._save_account()
        self._pack_open_chunk()
        length = stop - self.start
        self._grow(length)
        n_chunks = -(-length // self._lane.points_per_chunk)
        self._checksums = self._checksums[:n_chunks]
        own = self._file[OWN_GROUP]
        own.create_dataset("chunk_checksum", data=self._checksums)
        own.create_dataset("chunk_from_source", data=self._from_source[:n_chunks])
        self._times.close(length)
        if self._late is not None:
            self._late.write(length)
        write_attributes(self._dataset, channel_attributes(self._channel))
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
        """Digest of the checksums of the closed file's chunks."""
        return digest_of_checksums(self._checksums)

    def verify(self, hasher: Hasher | None = None) -> None:
        """Reopen the closed file; compare every chunk with its checksum, and the times.

        Parameters
        ----------
        hasher : Hasher, optional
            Gets all bytes of the file meanwhile.

        Raises
        ------
        VerificationError
            If a chunk or a time differs.
        """
        compare_chunks(self._path, self._checksums, hasher)
        self._times.verify(self._path)

    def discard(self) -> None:
        """Give the file up, unless it is closed; it must not be used afterwards."""
        discard_hdf5(self._file)
        self._journal.close()

    def _check_chunk(self, entry: Entry) -> None:
        shape = (self._lane.points_per_chunk, *self._channel.shape)
        packer = find_codec(self._channel.codec)
        packer.check(entry.payload, self._channel.numpy_dtype, shape)

    def _store(
        self, index: int, packed: Any, checksum: int, *, from_source: bool
    ) -> None:
        place = (index * self._lane.points_per_chunk,) + (0,) * len(self._channel.shape)
        known = self._checksums[index]
        if known:  # It is overwritten now, or its place used for something else.
            self._journal.keep_chunk(index, packed, from_source=from_source)
        with step("write"):
            offset = self._write(place, packed)
        n_bytes = len(packed)
        if not known and offset is not None:
            self._journal.note_chunk(
                index, offset, n_bytes, checksum, from_source=from_source
            )
        elif not known:
            self._journal.keep_chunk(index, packed, from_source=from_source)
        self._n_unsynced += n_bytes
        if self._n_unsynced >= _WRITEBACK_BYTES:
            self._n_unsynced = 0
            start_writeback(self._descriptor)
        self._checksums[index] = checksum
        self._from_source[index] = from_source

    def _write(self, place: tuple[int, ...], packed: Any) -> int | None:
        """Write a chunk; return where it stands in the file, if that is known.

        HDF5 would search its whole index for it. But nothing else is written here: if
        the file has grown, it ends with this chunk. Small ones also fill holes.
        """
        before, self._edge = self._edge, None
        if before is None:
            before = os.fstat(self._descriptor).st_size
        self._dataset.id.write_direct_chunk(place, packed)
        self._edge = os.fstat(self._descriptor).st_size
        return self._edge - len(packed) if self._edge > before else None

    def _grow(self, n_rows: int) -> None:
        # Never shrunk: HDF5 would compress the last chunk again, to other bytes.
        if n_rows > self._dataset.shape[0]:
            self._dataset.id.set_extent((n_rows, *self._channel.shape))

    def _gather(self, first: int, entry: Entry) -> None:
        n_packed = self._lane.points_per_chunk if entry.is_padded else entry.count
        points = decode_block(self._channel, entry.block(0), n_packed, entry.codecs[0])
        assert not isinstance(points, Variable)
        points = points[: entry.count]
        self._grow(first + entry.count)
        done = 0
        while done < entry.count:
            done += self._fill(first + done, points[done:])

    def _fill(self, first: int, points: npt.NDArray[Any]) -> int:
        """Copy rows into the open chunk; return how many fit."""
        rows = self._lane.points_per_chunk
        index, within = divmod(first, rows)
        if self._open_chunk is None or self._open_chunk[0] != index:
            self._pack_open_chunk()
            self._open_chunk = (index, self._chunk_so_far(index), 0)
        n_rows = min(len(points), rows - within)
        _, chunk, _ = self._open_chunk
        chunk[within : within + n_rows] = points[:n_rows]
        self._open_chunk = (index, chunk, within + n_rows)
        if within + n_rows == rows:
            self._pack_open_chunk()
        return n_rows

    def _chunk_so_far(self, index: int) -> npt.NDArray[Any]:
        """Return the rows of a chunk: fill values, and what is stored already."""
        rows = self._lane.points_per_chunk
        shape = (rows, *self._channel.shape)
        chunk = np.full(shape, self._channel.missing_value, self._channel.numpy_dtype)
        if self._checksums[index]:
            # A padded chunk is stored here, and more points followed.
            held = self._dataset[index * rows : (index + 1) * rows]
            chunk[: len(held)] = held
        return chunk

    def _pack_open_chunk(self) -> None:
        if self._open_chunk is None:
            return
        index, chunk, _ = self._open_chunk
        self._open_chunk = None
        packed = pack_rows(chunk, self._lane.points_per_chunk, self._channel.codec)
        self._store(index, packed, checksum_of(packed), from_source=False)
