"""Datasets with chunks compressed outside HDF5: create, fill, and read chunk by chunk.

This module alone deals with HDF5's filter pipeline and chunk addresses. Compression is
done in :mod:`scanbus.bus.codecs`, so HDF5's global lock is held for copies only.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters with h5py's HDF5)
import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec

__all__ = [
    "StoredChunk",
    "make_packed_dataset",
    "pack_rows",
    "start_writeback",
    "stored_bytes",
    "stored_chunks",
]


_SYNC_FILE_RANGE_WRITE = 2


def _find_sync_file_range() -> Callable[..., int] | None:
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return None
    wide = ctypes.c_int64
    function.argtypes = [ctypes.c_int, wide, wide, ctypes.c_uint]
    found: Callable[..., int] = function
    return found


_SYNC_FILE_RANGE = _find_sync_file_range()


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """Location of one chunk in its file.

    Attributes
    ----------
    start : int
        Its first row.
    offset, nbytes : int
        Its position in the file, and its stored size, in bytes.
    """

    start: int
    offset: int
    nbytes: int


def make_packed_dataset(
    group: h5py.Group,
    name: str,
    *,
    shape: tuple[int, ...],
    rows_per_chunk: int,
    dtype: np.dtype[Any],
    codec_name: str,
    fill_value: Any = None,
    max_rows: int | None = None,
) -> h5py.Dataset:
    """Create a chunked dataset whose filters match the codec's output.

    Parameters
    ----------
    shape : tuple of int
        Shape, rows first. Rows must not be removed later: HDF5 would then compress the
        chunk at the edge again, with fill values for the removed rows.
    rows_per_chunk : int
        Chunk length along the first axis; a chunk spans the other axes completely.
    dtype : numpy.dtype
        Type of the values.
    codec_name : str
        Name of the codec in :mod:`scanbus.bus.codecs`.
    fill_value : number, optional
        Fill value; HDF5's default (0) if None.
    max_rows : int or None
        Largest number of rows to which it may grow; None if it never grows.

    Raises
    ------
    UnknownCodecError
        If the codec is unknown or its library is not installed.
    """
    chunk = (rows_per_chunk, *shape[1:])
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    plist.set_fill_time(h5py.h5d.FILL_TIME_IFSET)
    if fill_value is not None:
        plist.set_fill_value(np.array(fill_value, dtype=dtype))
    for stage in find_codec(codec_name).filters(dtype, chunk):
        plist.set_filter(stage.id, h5py.h5z.FLAG_MANDATORY, stage.options)
    longest = (shape[0] if max_rows is None else max_rows, *shape[1:])
    space = h5py.h5s.create_simple(shape, longest)
    kind = h5py.h5t.py_create(dtype, logical=True)
    made = h5py.h5d.create(group.id, name.encode(), kind, space, plist)
    return h5py.Dataset(made)


def stored_chunks(dataset: h5py.Dataset) -> Iterator[StoredChunk]:
    """Yield the chunks that are allocated in the file, in row order."""
    found: list[StoredChunk] = []

    def note(info: Any) -> None:
        place = StoredChunk(info.chunk_offset[0], info.byte_offset, info.size)
        found.append(place)

    dataset.id.chunk_iter(note)
    yield from sorted(found, key=lambda chunk: chunk.start)


def stored_bytes(descriptor: int, chunk: StoredChunk) -> bytes:
    """Return the stored bytes of a chunk, read without HDF5 and its global lock."""
    return os.pread(descriptor, chunk.nbytes, chunk.offset)


def pack_rows(rows: npt.NDArray[Any], rows_per_chunk: int, codec_name: str) -> Any:
    """Return rows, padded with zeros to a full chunk, as the compressed chunk."""
    if len(rows) < rows_per_chunk:
        padded = np.zeros((rows_per_chunk, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        rows = padded
    return find_codec(codec_name).encode(np.ascontiguousarray(rows))


def start_writeback(descriptor: int) -> None:
    """Start asynchronous writeback of a file's dirty pages (sync_file_range(2)).

    Gives no guarantee of durability; a later fsync does, and then has only the last
    pages to write instead of a whole segment. Does nothing on systems without this
    Linux-specific call.
    """
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
