"""Join finished segments of a detector into one file, chunk by chunk.

The chunks are copied as they are stored and never unpacked. The tables of the segments
(checksums, …) are concatenated, whatever they are called; the times get a new checksum.
In memory are one chunk, the times of one segment, and the tables with a row per chunk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import checksum_of
from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import VerificationError
from scanbus.writer.layouts.common.channel_nodes import channel_attributes
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP
from scanbus.writer.storage.chunked_dataset import (
    make_packed_dataset,
    start_writeback,
    stored_bytes,
    stored_chunks,
)
from scanbus.writer.storage.hashing import Hasher
from scanbus.writer.storage.hdf5 import close_hdf5, discard_hdf5, open_hdf5
from scanbus.writer.storage.segment_header import (
    compare_chunks,
    finish_segment,
    make_segment_file,
    read_header,
)
from scanbus.writer.storage.time_column import (
    TIME_CHECKSUM,
    TIME_NAME,
    TimeColumn,
    is_intact,
)
from scanbus.writer.storage.tree_writer import write_attributes

__all__ = ["JoinedSegment", "join_segments", "tables_of"]

_DATA = f"{DATA_GROUP}/data"
_TIMES = f"{OWN_GROUP}/{TIME_NAME}"
_CHECKSUMS = f"{OWN_GROUP}/chunk_checksum"
_WRITEBACK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class JoinedSegment:
    """A closed file with the points of several segments.

    Attributes
    ----------
    path : pathlib.Path
        Its temporary path.
    start, stop : int
        Its points ``[start, stop)``.
    account : SegmentAccount
        The accounts of its segments, merged.
    checksums : numpy.ndarray
        uint64 per chunk: what its bytes must give.
    times : TimeColumn
        The times of its points.
    damaged : tuple of pathlib.Path
        Segments with chunks or times that are no longer what came over the bus. These
        are copied with the checksum of the source, so a check still finds them.
    """

    path: Path
    start: int
    stop: int
    account: SegmentAccount
    checksums: npt.NDArray[np.uint64]
    times: TimeColumn
    damaged: tuple[Path, ...]

    def verify(self, hasher: Hasher | None = None) -> None:
        """Reopen the file; compare every chunk with its checksum, and the times.

        Parameters
        ----------
        hasher : Hasher, optional
            Gets all bytes of the file meanwhile.

        Raises
        ------
        VerificationError
            If a chunk or a time differs from that of its segment.
        """
        compare_chunks(self.path, self.checksums, hasher)
        self.times.verify(self.path)


def join_segments(
    path: Path,
    uid: str,
    lane: LaneDescription,
    sources: Sequence[Path],
    check_cancelled: Callable[[], None] = lambda: None,
) -> JoinedSegment:
    """Write adjacent segments into one file, and close it.

    Parameters
    ----------
    path : pathlib.Path
        Temporary path, which must not exist.
    lane : LaneDescription
        A lane of ``Storage.FILES``.
    sources : sequence of pathlib.Path
        At least two finished segments of the lane, ascending and contiguous.
    check_cancelled : callable
        Called for each chunk; whatever it raises ends the copy.

    Raises
    ------
    NameTakenError
        If a source is not a finished segment.
    VerificationError
        If the sources are not contiguous segments of this lane, or cannot be read.
    OSError
        If the file system refuses.
    """
    headers = [read_header(source) for source in sources]
    edge = headers[0].start
    for source, header in zip(sources, headers, strict=True):
        if (header.uid, header.lane, header.start) != (uid, lane.name, edge):
            raise VerificationError(str(source), f"does not continue at point {edge}")
        edge = header.stop
    account = SegmentAccount.merged(header.account for header in headers)
    start = headers[0].start
    file = make_segment_file(path, uid, lane, start)
    try:
        copy = _Copy(file, lane, start, edge, check_cancelled)
        for source in sources:
            copy.add(source)
        copy.finish()
        write_attributes(file[_DATA], channel_attributes(lane.channels[0]))
        finish_segment(file, edge, account)
        close_hdf5(file)
    finally:
        discard_hdf5(file)
    return JoinedSegment(
        path, start, edge, account, copy.checksums, copy.times, tuple(copy.damaged)
    )


class _Copy:
    """The file that is written, and how far it is."""

    def __init__(
        self,
        file: h5py.File,
        lane: LaneDescription,
        start: int,
        stop: int,
        check_cancelled: Callable[[], None],
    ) -> None:
        channel = lane.channels[0]
        self._file = file
        self._rows = lane.points_per_chunk
        self._origin = (0,) * len(channel.shape)
        self._n_points = stop - start
        self._check_cancelled = check_cancelled
        self._done = 0
        self._n_unsynced = 0
        n_chunks = -(-self._n_points // self._rows)
        self.checksums = np.zeros(n_chunks, np.uint64)
        self.damaged: list[Path] = []
        self._tables: dict[str, list[npt.NDArray[Any]]] = {}
        self._attributes: dict[str, dict[str, tuple[Any, Any]]] = {}
        self.times = TimeColumn(file, max(self._n_points, lane.points_per_segment))
        self._dataset = make_packed_dataset(
            file[DATA_GROUP],
            "data",
            shape=(self._n_points, *channel.shape),
            rows_per_chunk=self._rows,
            dtype=channel.numpy_dtype,
            codec_name=channel.codec,
            fill_value=channel.missing_value,
            max_rows=self._n_points,
        )

    def add(self, path: Path) -> None:
        """Append one segment."""
        with open_hdf5(path) as source:
            self._check_layout(path, source[_DATA])
            n_points = len(source[_DATA])
            for name, table in tables_of(source):
                self._tables.setdefault(name, []).append(table[()])
                self._attributes.setdefault(name, _attributes_of(table))
            self._add_times(path, source[_TIMES])
            self._add_chunks(path, source)
            self._done += n_points

    def _check_layout(self, path: Path, dataset: h5py.Dataset) -> None:
        ours = self._dataset
        if (dataset.chunks, dataset.dtype) != (ours.chunks, ours.dtype):
            reason = f"it has chunks {dataset.chunks} of {dataset.dtype}"
            raise VerificationError(str(path), reason)

    def _add_times(self, path: Path, times: h5py.Dataset) -> None:
        if not is_intact(times):
            self._note_damage(path)
            self.times.keep_damage(int(times.attrs[TIME_CHECKSUM]))
        self.times.put(self._done, times[()])
        self.times.write()

    def finish(self) -> None:
        """Write the tables."""
        for name, parts in self._tables.items():
            table = self._file.create_dataset(name, data=np.concatenate(parts))
            for key, (value, kind) in self._attributes[name].items():
                table.attrs.create(key, value, dtype=kind)
        self.times.close(self._n_points)

    def _add_chunks(self, path: Path, source: h5py.File) -> None:
        expected = source[_CHECKSUMS][()]
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for chunk in stored_chunks(source[_DATA]):
                self._check_cancelled()
                packed = stored_bytes(descriptor, chunk)
                if len(packed) != chunk.nbytes:
                    reason = f"ends within the chunk of point {chunk.start}"
                    raise VerificationError(str(path), reason)
                found = checksum_of(packed)
                self._store(self._done + chunk.start, packed, found)
                if found != int(expected[chunk.start // self._rows]):
                    self._note_damage(path)
        finally:
            os.close(descriptor)

    def _note_damage(self, path: Path) -> None:
        if path not in self.damaged:
            self.damaged.append(path)

    def _store(self, row: int, packed: bytes, checksum: int) -> None:
        self._dataset.id.write_direct_chunk((row, *self._origin), packed)
        self.checksums[row // self._rows] = checksum
        self._n_unsynced += len(packed)
        if self._n_unsynced >= _WRITEBACK_BYTES:
            self._n_unsynced = 0
            start_writeback(self._file.id.get_vfd_handle())


def tables_of(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Yield the tables of a segment with a row per point or chunk.

    Without its data, and without the times: these have a checksum.
    """
    for group in (OWN_GROUP, DATA_GROUP):
        for name, item in file[group].items():
            is_table = isinstance(item, h5py.Dataset) and item.shape
            if is_table and f"{group}/{name}" not in (_DATA, _TIMES):
                yield f"{group}/{name}", item


def _attributes_of(table: h5py.Dataset) -> dict[str, tuple[Any, Any]]:
    """Return the values and types of the attributes of a table."""
    attributes = table.attrs
    return {
        key: (value, attributes.get_id(key).dtype) for key, value in attributes.items()
    }
