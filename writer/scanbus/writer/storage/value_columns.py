"""Copy the points of small channels, and all times, from segments into the scan file.

An open HDF5 file takes half a megabyte of memory, and a scan may have thousands of
segments. So one segment is open at a time, and is read for as many channels together as
fit into memory with one chunk each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xxhash

from scanbus.bus.codecs import DEFAULT_CODEC
from scanbus.bus.protocol import checksum_of
from scanbus.schemas import ChannelDescription, LaneDescription
from scanbus.writer.layouts.common.channel_nodes import channel_attributes
from scanbus.writer.model.scan_contents import (
    DATA_GROUP,
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
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.segment_header import FREE_TEXT
from scanbus.writer.storage.time_column import TIME_CHECKSUM, TIME_NAME
from scanbus.writer.storage.tree_writer import write_attributes
from scanbus.writer.storage.value_segment import flat_name, length_name

__all__ = ["digest_of", "write_lane", "write_times"]

_CHUNK_BYTES = 1 << 20
# Smaller datasets are stored contiguously, not chunked and compressed.
_PLAIN_BYTES = 1 << 20
# Memory that HDF5 and h5py use per open dataset, and the limit for all channels that
# are written together.
_OPEN_BYTES = 1 << 16
_BATCH_BYTES = 4 << 20
_TEXTS = 4096
_ENTRIES = f"{OWN_GROUP}/entries"
_TIMES = f"{OWN_GROUP}/{TIME_NAME}"


@dataclass(slots=True)
class _Extent:
    """Total size of the segments of a lane.

    Attributes
    ----------
    n_points, n_entries : int
        Number of points of each channel; number of rows in the table of entries.
    entries : numpy.dtype or None
        Type of a row of that table; None if there is no segment.
    widths : dict
        Name of each ragged channel to the length of its longest point.
    """

    n_points: int
    n_entries: int
    entries: np.dtype[Any] | None
    widths: dict[str, int]


def write_lane(
    file: h5py.File, lane: LaneDescription, segments: Sequence[Path]
) -> dict[str, str]:
    """Write all channels of a lane and its table of entries into a scan file.

    Parameters
    ----------
    segments : sequence of pathlib.Path
        Segments of the lane, ascending.

    Returns
    -------
    dict
        Path of each channel's dataset, and of the table, to the digest of the data
        passed to HDF5; :func:`digest_of` computes the same digest from the file.

    Raises
    ------
    OSError, KeyError
        If a segment cannot be read, or the file system refuses.
    """
    extent = _extent_of(lane, segments)
    digests = _write_entries(file, lane.name, segments, extent)
    for channels in _batches(lane, extent):
        columns = [_column(file, lane, channel, extent) for channel in channels]
        for segment in _open_each(segments):
            for column in columns:
                column.take(segment)
        digests |= {column.path: column.end() for column in columns}
    return digests


def write_times(
    file: h5py.File, lane: LaneDescription, segments: Sequence[Path]
) -> dict[str, str]:
    """Write the times of a lane's points; see `write_lane`."""
    parts = [segment[_TIMES][()] for segment in _open_each(segments)]
    times = np.concatenate([np.empty(0), *parts])
    path = f"{TIMES_GROUP}/{lane.name}"
    dataset = file.create_dataset(path, times.shape, times.dtype)
    checksum = np.uint64(checksum_of(times.data))
    write_attributes(dataset, {**TIME_ATTRIBUTES, TIME_CHECKSUM: checksum})
    if lane.original_name:
        write_attributes(dataset, {"original_name": lane.original_name})
    column = _Plain(dataset)
    column.add(times)
    return {path: column.end()}


def digest_of(dataset: h5py.Dataset, descriptor: int) -> str:
    """Return the XXH3 digest of a dataset written by `write_lane`, in hexadecimal.

    Parameters
    ----------
    descriptor : int
        Descriptor of the file, open for reading; chunks are digested as stored there.
    """
    digest = xxhash.xxh3_64()
    if h5py.check_string_dtype(dataset.dtype) is not None:
        texts = dataset.asstr()
        for start in range(0, len(dataset), _TEXTS):
            digest.update(_text_bytes(texts[start : start + _TEXTS]))
        return digest.hexdigest()
    if dataset.chunks is None:
        digest.update(dataset[()].data)
        return digest.hexdigest()
    for chunk in stored_chunks(dataset):
        digest.update(stored_bytes(descriptor, chunk))
    return digest.hexdigest()


def _open_each(segments: Sequence[Path]) -> Iterator[h5py.File]:
    for path in segments:
        with open_hdf5(path, reads_once=True) as segment:
            yield segment


def _extent_of(lane: LaneDescription, segments: Sequence[Path]) -> _Extent:
    counted = _length_dataset(lane.channels[0])
    ragged = [channel for channel in lane.channels if channel.is_ragged]
    extent = _Extent(0, 0, None, {channel.name: 0 for channel in ragged})
    for segment in _open_each(segments):
        group = segment[DATA_GROUP]
        extent.n_points += len(group[counted])
        extent.n_entries += len(segment[_ENTRIES])
        extent.entries = segment[_ENTRIES].dtype
        for channel in ragged:
            longest = int(group[length_name(channel)][()].max(initial=0))
            extent.widths[channel.name] = max(extent.widths[channel.name], longest)
    return extent


def _length_dataset(channel: ChannelDescription) -> str:
    """Return the name of the segment dataset with one row per point of a channel."""
    return length_name(channel) if channel.is_variable else channel.name


def _write_entries(
    file: h5py.File, name: str, segments: Sequence[Path], extent: _Extent
) -> dict[str, str]:
    """Write one row per entry, segment by segment."""
    if extent.entries is None:
        return {}
    path = f"{OWN_GROUP}/lanes/{name}"
    table = _Plain(file.create_dataset(path, (extent.n_entries,), extent.entries))
    for segment in _open_each(segments):
        table.add(segment[_ENTRIES][()])
    return {path: table.end()}


def _batches(
    lane: LaneDescription, extent: _Extent
) -> Iterator[list[ChannelDescription]]:
    """Yield the channels in order, in batches that fit into the memory limit."""
    batch: list[ChannelDescription] = []
    held = 0
    for channel in lane.channels:
        nbytes = _OPEN_BYTES + _held_bytes(channel, extent)
        if batch and held + nbytes > _BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(channel)
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
    return max(1, dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64)))


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
    lengths = file.create_dataset(length_path(lane, channel), (extent.n_points,), "<u4")
    return _Padded(file, path, channel, _shape(channel, extent), _Plain(lengths))


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
        self._channel = channel
        self._sink: _Plain | _Packed
        dtype = channel.numpy_dtype
        if shape[0] * _row_bytes(dtype, shape) <= _PLAIN_BYTES:
            dataset = file.create_dataset(path, shape, dtype)
            self._sink = _Plain(dataset)
        else:
            dataset = _make_packed(file, path, channel, shape)
            self._sink = _Packed(dataset, _codec_of(channel))
        write_attributes(dataset, channel_attributes(channel))

    def take(self, segment: h5py.File) -> None:
        """Take the points of the next segment."""
        for rows in _blocks(segment[DATA_GROUP][self._channel.name]):
            self._sink.add(rows)

    def end(self) -> str:
        """Store buffered rows; return the digest of everything stored."""
        return self._sink.end()


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
        self._lengths = lengths
        self._width = shape[1]

    def take(self, segment: h5py.File) -> None:
        """Take the points of the next segment."""
        channel, width = self._channel, self._width
        group = segment[DATA_GROUP]
        counts = group[length_name(channel)][()]
        self._lengths.add(counts)
        edges = _edges(counts)
        step = max(1, _CHUNK_BYTES // (width * channel.numpy_dtype.itemsize))
        for start in range(0, len(counts), step):
            stop = min(start + step, len(counts))
            shape = (stop - start, width)
            rows = np.full(shape, channel.missing_value, channel.numpy_dtype)
            values = group[flat_name(channel)][edges[start] : edges[stop]]
            rows[np.arange(width) < counts[start:stop, None]] = values
            self._sink.add(rows)


class _Texts:
    """A channel of strings, filled segment by segment."""

    def __init__(
        self, file: h5py.File, path: str, channel: ChannelDescription, n_points: int
    ) -> None:
        self.path = path
        self._channel = channel
        self._digest = xxhash.xxh3_64()
        self._dataset = file.create_dataset(path, (n_points,), FREE_TEXT)
        self._n_rows = 0
        write_attributes(self._dataset, channel_attributes(channel))

    def take(self, segment: h5py.File) -> None:
        """Take the points of the next segment."""
        group = segment[DATA_GROUP]
        flat = group[flat_name(self._channel)][()].tobytes()
        edges = _edges(group[length_name(self._channel)][()])
        texts = [flat[start:stop].decode() for start, stop in itertools.pairwise(edges)]
        stop = self._n_rows + len(texts)
        self._dataset[self._n_rows : stop] = np.array(texts, dtype=object)
        self._n_rows = stop
        self._digest.update(_text_bytes(texts))

    def end(self) -> str:
        """Return the digest of all strings."""
        return self._digest.hexdigest()


class _Plain:
    """A contiguous, uncompressed dataset."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._n_rows = 0
        self._digest = xxhash.xxh3_64()

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Store the next rows."""
        self._dataset[self._n_rows : self._n_rows + len(rows)] = rows
        self._n_rows += len(rows)
        self._digest.update(np.ascontiguousarray(rows).data)

    def end(self) -> str:
        """Return the digest of all rows."""
        return self._digest.hexdigest()


class _Packed:
    """A compressed dataset, written chunk by chunk; buffers the last, partial chunk."""

    def __init__(self, dataset: h5py.Dataset, codec_name: str) -> None:
        self._dataset = dataset
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


def _blocks(dataset: h5py.Dataset) -> Iterator[npt.NDArray[Any]]:
    """Yield the rows of a dataset, about a mebibyte at a time, in whole chunks."""
    rows = dataset.chunks[0]
    row_bytes = _row_bytes(dataset.dtype, dataset.shape)
    step = max(1, _CHUNK_BYTES // (rows * row_bytes)) * rows
    for start in range(0, len(dataset), step):
        yield dataset[start : start + step]


def _edges(counts: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _text_bytes(texts: Sequence[str]) -> bytes:
    return "".join(f"{text}\0" for text in texts).encode()
