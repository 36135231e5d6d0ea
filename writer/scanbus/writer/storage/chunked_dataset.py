"""Datasets whose chunks arrive packed: made, filled and read back chunk by chunk.

Everything that knows HDF5's filter pipeline and chunk addresses is here. Packing
happens outside, in :mod:`scanbus.bus.codecs`, so HDF5's global lock is held for copies
only.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters with h5py's HDF5)
import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec

__all__ = [
    "StoredChunk",
    "fsync_path",
    "make_folder",
    "make_packed_dataset",
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
    """Where one chunk stands in its file.

    Attributes
    ----------
    start : int
        Its first row.
    offset, nbytes : int
        Its bytes in the file.
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
    """Make a chunked dataset whose filters fit what the codec produces.

    Parameters
    ----------
    shape : tuple of int
        Rows first. Rows must not be taken away later: HDF5 then packs the chunk at
        the edge again, with fill values in what was cut off.
    rows_per_chunk : int
        A chunk has these rows and the whole of the other axes.
    max_rows : int or None
        To how many rows it may grow; None if it never does.
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
    """Yield the chunks that stand in the file, in the order of their rows."""
    found: list[StoredChunk] = []

    def note(info: Any) -> None:
        place = StoredChunk(info.chunk_offset[0], info.byte_offset, info.size)
        found.append(place)

    dataset.id.chunk_iter(note)
    yield from sorted(found, key=lambda chunk: chunk.start)


def stored_bytes(descriptor: int, chunk: StoredChunk) -> bytes:
    """Return a chunk as it stands in the file, without HDF5 and so without its lock."""
    return os.pread(descriptor, chunk.nbytes, chunk.offset)


def pack_rows(rows: npt.NDArray[Any], rows_per_chunk: int, codec_name: str) -> Any:
    """Return rows as the bytes of one chunk, padded with zeros to its length."""
    if len(rows) < rows_per_chunk:
        padded = np.zeros((rows_per_chunk, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        rows = padded
    return find_codec(codec_name).encode(np.ascontiguousarray(rows))


def start_writeback(descriptor: int) -> None:
    """Have the system begin to put what a file has in memory on the disk.

    Promises nothing: what is to be durable has to be synced afterwards, which is then
    a matter of what came last, and not of a whole segment. Does nothing where the
    system has no such call (it is Linux' own).
    """
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def fsync_path(path: Path) -> None:
    """Have the system put a file or folder on the disk.

    Raises
    ------
    OSError
        If it could not; then the file must not be trusted, and not tried again.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that lack, and make their names durable.

    Raises
    ------
    OSError
        If one cannot be made, or not be put on the disk.
    """
    lacking = []
    while not path.exists():
        lacking.append(path)
        path = path.parent
    for folder in reversed(lacking):
        folder.mkdir(exist_ok=True)
    for folder in lacking:
        fsync_path(folder.parent)
