"""Copy the points of small channels, and all times, from segments into the scan file.

The points of a lane are read for as many channels together as fit into memory with one
chunk each. An open HDF5 file takes half a megabyte of memory, and a detector may have
thousands of segments, so one is open at a time.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from scanbus.bus.codecs import DEFAULT_CODEC
from scanbus.bus.protocol import Times, Variable, checksum_of
from scanbus.schemas import ChannelDescription, LaneDescription
from scanbus.writer.layouts.common.channel_nodes import channel_attributes
from scanbus.writer.model.scan_contents import (
    OWN_GROUP,
    TIME_ATTRIBUTES,
    TIMES_GROUP,
    data_path,
    length_path,
)
from scanbus.writer.storage.chunked_dataset import (
    make_packed_dataset,
    pack_rows,
    stored_bytes,
    stored_chunks,
)
from scanbus.writer.storage.entry_values import ENTRY_FIELDS, Block
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.lane_values import PointSource
from scanbus.writer.storage.segment_header import FREE_TEXT
from scanbus.writer.storage.time_column import TIME_CHECKSUM, TIME_NAME
from scanbus.writer.storage.tree_writer import write_attributes, write_attributes_of

__all__ = ["digest_of", "segment_times", "write_lane", "write_times", "write_values"]

_CHUNK_BYTES = 1 << 20
# Smaller datasets are stored contiguously, not chunked and compressed.
_PLAIN_BYTES = 1 << 20
# Memory that HDF5 and h5py use per open dataset, and the limit for all channels that
# are written together.
_OPEN_BYTES = 1 << 16
_BATCH_BYTES = 4 << 20
_TEXTS = 4096
_READ_BYTES = 16 << 20
_CONTIGUOUS = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
_CONTIGUOUS.set_obj_track_times(False)
_TIMES = f"{OWN_GROUP}/{TIME_NAME}"


@dataclass(slots=True)
class _Extent:
    """Total size of the points of a lane.

    Attributes
    ----------
    n_points, n_entries : int
        Number of points of each channel; number of rows in the table of entries.
    widths : dict
        Name of each ragged channel to the length of its longest point.
    """

    n_points: int
    n_entries: int
    widths: dict[str, int]


def write_lane(
    file: h5py.File, lane: LaneDescription, values: PointSource
) -> dict[str, str]:
    """Write all channels of a lane, its times and table of entries into a scan file.

    Parameters
    ----------
    values : PointSource
        The points of the lane.

    Returns
    -------
    dict
        Path of each channel's dataset, and of the tables, to the digest of the data
        passed to HDF5; :func:`digest_of` computes the same digest from the file.

    Raises
    ------
    OSError, VerificationError
        If a segment cannot be read, or the file system refuses.
    """
    extent = _extent_of(lane, values)
    entries = _write_entries(file, lane.name, values, extent)
    return entries | _write_values(file, lane, values, extent)


def write_values(file: h5py.File, lane: LaneDescription, values: PointSource) -> None:
    """Write all channels of a lane and its times only; see `write_lane`."""
    _write_values(file, lane, values, _extent_of(lane, values))


def _write_values(
    file: h5py.File, lane: LaneDescription, values: PointSource, extent: _Extent
) -> dict[str, str]:
    digests = write_times(file, lane, (points.times for points in values))
    for batch in _batches(lane, extent):
        columns = {
            place: _column(file, lane, lane.channels[place], extent) for place in batch
        }
        for points in values:
            for place, column in columns.items():
                column.take(points.blocks[place])
        for column in columns.values():
            digests |= column.end()
    return digests


def write_times(
    file: h5py.File, lane: LaneDescription, parts: Iterable[Times]
) -> dict[str, str]:
    """Write the times of a lane's points; see `write_lane`."""
    times = np.concatenate([np.empty(0), *parts])
    path = f"{TIMES_GROUP}/{lane.name}"
    column = _Plain(file, path, times.shape, times.dtype)
    checksum = np.uint64(checksum_of(times.data))
    write_attributes_of(column.made, {**TIME_ATTRIBUTES, TIME_CHECKSUM: checksum})
    if lane.original_name:
        write_attributes_of(column.made, {"original_name": lane.original_name})
    column.add(times)
    return {path: column.end()}


def segment_times(segments: Iterable[Path]) -> Iterator[Times]:
    """Yield the times of segments, one file after the other."""
    for path in segments:
        with open_hdf5(path, reads_once=True) as segment:
            yield segment[_TIMES][()]


def digest_of(file: h5py.File, path: str, descriptor: int) -> str:
    """Return the XXH3 digest of a dataset written by `write_lane`, in hexadecimal.

    Parameters
    ----------
    descriptor : int
        Descriptor of the file, open for reading; values are digested as stored there.
    """
    digest = xxhash.xxh3_64()
    made = h5py.h5d.open(file.id, path.encode())
    if made.get_type().get_class() == h5py.h5t.STRING:
        texts = h5py.Dataset(made).asstr()
        for start in range(0, made.shape[0], _TEXTS):
            digest.update(_text_bytes(texts[start : start + _TEXTS]))
    elif (begin := made.get_offset()) is not None:  # Contiguous, as most are.
        stop = begin + made.get_storage_size()
        for start in range(begin, stop, _READ_BYTES):
            digest.update(os.pread(descriptor, min(_READ_BYTES, stop - start), start))
    elif made.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
        for chunk in stored_chunks(h5py.Dataset(made)):
            digest.update(stored_bytes(descriptor, chunk))
    return digest.hexdigest()


def _extent_of(lane: LaneDescription, values: PointSource) -> _Extent:
    ragged = [
        (place, channel.name)
        for place, channel in enumerate(lane.channels)
        if channel.is_ragged
    ]
    extent = _Extent(values.n_points, 0, {name: 0 for _, name in ragged})
    for points in values:
        extent.n_entries += len(points.rows)
        for place, name in ragged:
            longest = int(_variable(points.blocks[place]).lengths.max(initial=0))
            extent.widths[name] = max(extent.widths[name], longest)
    return extent


def _variable(block: Block) -> Variable:
    assert isinstance(block, Variable)
    return block


def _fixed(block: Block) -> npt.NDArray[Any]:
    assert not isinstance(block, Variable)
    return block


def _write_entries(
    file: h5py.File, name: str, values: PointSource, extent: _Extent
) -> dict[str, str]:
    """Write one row per entry."""
    if not extent.n_points:
        return {}
    path = f"{OWN_GROUP}/lanes/{name}"
    table = _Plain(file, path, (extent.n_entries,), ENTRY_FIELDS)
    for points in values:
        table.add(points.rows)
    return {path: table.end()}


def _batches(lane: LaneDescription, extent: _Extent) -> Iterator[list[int]]:
    """Yield the places of channels in batches that fit into the memory limit."""
    batch: list[int] = []
    held = 0
    for place, channel in enumerate(lane.channels):
        nbytes = _OPEN_BYTES + _held_bytes(channel, extent)
        if batch and held + nbytes > _BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(place)
        held += nbytes
    yield batch


def _held_bytes(channel: ChannelDescription, extent: _Extent) -> int:
    """Return the number of bytes buffered for a channel until a chunk is full."""
    if channel.is_string:
        return 0
    row_bytes = _row_bytes(channel.numpy_dtype, _shape(channel, extent))
    is_plain = extent.n_points * row_bytes <= _PLAIN_BYTES
    return 0 if is_plain else max(row_bytes, _CHUNK_BYTES)


def _shape(channel: ChannelDescription, extent: _Extent) -> tuple[int, ...]:
    if channel.is_ragged:
        return (extent.n_points, max(1, extent.widths[channel.name]))
    return (extent.n_points, *channel.shape)


def _row_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return max(1, dtype.itemsize * math.prod(shape[1:]))


def _column(
    file: h5py.File,
    lane: LaneDescription,
    channel: ChannelDescription,
    extent: _Extent,
) -> _Rows | _Texts:
    path = data_path(lane, channel)
    if channel.is_string:
        return _Texts(file, path, channel, extent.n_points)
    if not channel.is_ragged:
        return _Rows(file, path, channel, _shape(channel, extent))
    shape, dtype = (extent.n_points,), np.dtype("<u4")
    lengths = _Plain(file, length_path(lane, channel), shape, dtype)
    return _Padded(file, path, channel, _shape(channel, extent), lengths)


class _Rows:
    """A channel with points of fixed shape, filled segment by segment."""

    def __init__(
        self,
        file: h5py.File,
        path: str,
        channel: ChannelDescription,
        shape: tuple[int, ...],
    ) -> None:
        self.path = path
        self._sink: _Plain | _Packed
        dtype = channel.numpy_dtype
        if shape[0] * _row_bytes(dtype, shape) <= _PLAIN_BYTES:
            self._sink = _Plain(file, path, shape, dtype)
        else:
            dataset = _make_packed(file, path, channel, shape)
            self._sink = _Packed(dataset, _codec_of(channel))
        write_attributes_of(self._sink.made, channel_attributes(channel))

    def take(self, block: Block) -> None:
        """Take the next points."""
        self._sink.add(_fixed(block))

    def end(self) -> dict[str, str]:
        """Store buffered rows; return the digest of each dataset, by its path."""
        return {self.path: self._sink.end()}


class _Padded(_Rows):
    """A ragged channel: its padded points and their lengths."""

    def __init__(
        self,
        file: h5py.File,
        path: str,
        channel: ChannelDescription,
        shape: tuple[int, ...],
        lengths: _Plain,
    ) -> None:
        super().__init__(file, path, channel, shape)
        self._channel = channel
        self._lengths = lengths
        self._width = shape[1]

    def take(self, block: Block) -> None:
        """Take the next points."""
        channel, width = self._channel, self._width
        found = _variable(block)
        counts = found.lengths
        self._lengths.add(counts)
        edges = _edges(counts)
        step = max(1, _CHUNK_BYTES // (width * channel.numpy_dtype.itemsize))
        for start in range(0, len(counts), step):
            stop = min(start + step, len(counts))
            shape = (stop - start, width)
            rows = np.full(shape, channel.missing_value, channel.numpy_dtype)
            values = found.values[edges[start] : edges[stop]]
            rows[np.arange(width) < counts[start:stop, None]] = values
            self._sink.add(rows)

    def end(self) -> dict[str, str]:
        """Store buffered rows and lengths; return the digest of each dataset."""
        return super().end() | {self._lengths.path: self._lengths.end()}


class _Texts:
    """A channel of strings, filled segment by segment."""

    def __init__(
        self, file: h5py.File, path: str, channel: ChannelDescription, n_points: int
    ) -> None:
        self.path = path
        self._digest = xxhash.xxh3_64()
        self._dataset = file.create_dataset(path, (n_points,), FREE_TEXT)
        self._n_rows = 0
        write_attributes(self._dataset, channel_attributes(channel))

    def take(self, block: Block) -> None:
        """Take the next points."""
        found = _variable(block)
        flat, edges = found.values.tobytes(), _edges(found.lengths)
        texts = [flat[start:stop].decode() for start, stop in itertools.pairwise(edges)]
        stop = self._n_rows + len(texts)
        self._dataset[self._n_rows : stop] = np.array(texts, dtype=object)
        self._n_rows = stop
        self._digest.update(_text_bytes(texts))

    def end(self) -> dict[str, str]:
        """Return the digest of all strings, by the path of the dataset."""
        return {self.path: self._digest.hexdigest()}


class _Plain:
    """A contiguous, uncompressed dataset; it is written at once if it is small.

    Made with the low-level API: a scan file may have ten thousand of them, and an
    object of h5py takes longer than all else.

    Attributes
    ----------
    made : h5py.h5d.DatasetID
        The dataset.
    """

    def __init__(
        self, file: h5py.File, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._kind = _stored_type(dtype)
        space = _space(shape)
        self.made = h5py.h5d.create(
            file.id, path.encode(), self._kind, space, _CONTIGUOUS
        )
        self.path = path
        self._n_points = shape[0]
        self._held: list[npt.NDArray[Any]] = []
        self._held_bytes = self._n_rows = 0
        self._digest = xxhash.xxh3_64()

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Store the next rows."""
        self._held.append(rows)
        self._held_bytes += rows.nbytes
        if self._held_bytes >= _PLAIN_BYTES:
            self._write()

    def _write(self) -> None:
        if not self._held_bytes:
            return
        held = self._held
        rows = np.ascontiguousarray(held[0] if len(held) == 1 else np.concatenate(held))
        stop = self._n_rows + len(rows)
        if len(rows) == self._n_points:
            self.made.write(h5py.h5s.ALL, h5py.h5s.ALL, rows, self._kind)
        else:
            h5py.Dataset(self.made)[self._n_rows : stop] = rows
        self._digest.update(rows.data)
        self._held, self._held_bytes, self._n_rows = [], 0, stop

    def end(self) -> str:
        """Store buffered rows; return the digest of all rows."""
        self._write()
        return self._digest.hexdigest()


@lru_cache(maxsize=64)
def _space(shape: tuple[int, ...]) -> Any:
    """Return the extent of a dataset: lanes of one scan mostly have the same few."""
    return h5py.h5s.create_simple(shape)


@lru_cache
def _stored_type(dtype: np.dtype[Any]) -> Any:
    return h5py.h5t.py_create(dtype, logical=True)


class _Packed:
    """A compressed dataset, written chunk by chunk; buffers the last, partial chunk."""

    def __init__(self, dataset: h5py.Dataset, codec_name: str) -> None:
        self._dataset, self.made = dataset, dataset.id
        self._codec = codec_name
        self._chunk = np.empty(dataset.chunks, dataset.dtype)
        self._n_held = 0
        self._n_stored = 0
        self._digest = xxhash.xxh3_64()

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Add the next rows."""
        while len(rows):
            taken, rows = np.split(rows, [len(self._chunk) - self._n_held])
            if len(taken) == len(self._chunk):
                self._store(taken)
                continue
            self._chunk[self._n_held : self._n_held + len(taken)] = taken
            self._n_held += len(taken)
            if self._n_held == len(self._chunk):
                self._store_held()

    def end(self) -> str:
        """Store buffered rows; return the digest of all compressed chunks."""
        if self._n_held:
            self._store_held()
        return self._digest.hexdigest()

    def _store_held(self) -> None:
        self._store(self._chunk[: self._n_held])
        self._n_held = 0

    def _store(self, rows: npt.NDArray[Any]) -> None:
        place = (self._n_stored,) + (0,) * (self._dataset.ndim - 1)
        packed = pack_rows(rows, len(self._chunk), self._codec)
        self._dataset.id.write_direct_chunk(place, packed)
        self._digest.update(packed)
        self._n_stored += len(rows)


def _make_packed(
    file: h5py.File, path: str, channel: ChannelDescription, shape: tuple[int, ...]
) -> h5py.Dataset:
    folder, _, name = path.rpartition("/")
    row_bytes = _row_bytes(channel.numpy_dtype, shape)
    return make_packed_dataset(
        file[folder],
        name,
        shape=shape,
        rows_per_chunk=min(shape[0], max(1, _CHUNK_BYTES // row_bytes)),
        dtype=channel.numpy_dtype,
        codec_name=_codec_of(channel),
        fill_value=channel.missing_value,
    )


def _codec_of(channel: ChannelDescription) -> str:
    return DEFAULT_CODEC if channel.codec == "none" else channel.codec


def _edges(counts: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _text_bytes(texts: Sequence[str]) -> bytes:
    return "".join(f"{text}\0" for text in texts).encode()
