"""Opening HDF5 files so that a mount that hangs stops one thread, not the process.

h5py lets other threads of Python run while it writes, flushes and closes, but not while
it opens or makes a file: on a mount that does not answer the whole process would stand
still, with its heartbeat and its answer to SIGTERM. So the system is asked first, which
other threads need not wait for, and HDF5 itself is called as h5py does it, under h5py's
lock, but with ctypes: the mount may have gone in between.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import h5py
from h5py import h5f, h5p
from h5py._objects import phil

__all__ = ["make_hdf5", "open_hdf5"]

# The library that h5py uses: its symbols are found from those that depend on it.
_HDF5 = ctypes.CDLL(h5f.__file__)
_HDF5.H5Fcreate.restype = _HDF5.H5Fopen.restype = ctypes.c_int64
_HDF5.H5Fcreate.argtypes = [
    ctypes.c_char_p,
    ctypes.c_uint,
    ctypes.c_int64,
    ctypes.c_int64,
]
_HDF5.H5Fopen.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_int64]
_IN_ORDER = h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED


def make_hdf5(path: Path, *, track_order: bool = False) -> h5py.File:
    """Return a new file, open for writing.

    Raises
    ------
    FileExistsError
        If there is one.
    OSError
        If the file system refuses.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return _made(path, track_order=track_order)


def _made(path: Path, *, track_order: bool = False) -> h5py.File:
    made, access = h5p.create(h5p.FILE_CREATE), _access()
    made.set_obj_track_times(False)
    if track_order:
        made.set_link_creation_order(_IN_ORDER)
        made.set_attr_creation_order(_IN_ORDER)
    name = os.fsencode(path)
    with phil:
        number = _HDF5.H5Fcreate(name, h5f.ACC_TRUNC, made.id, access.id)
        if number < 0:
            # It was refused: h5py does it once more, for the error.
            file = h5py.File(h5f.create(name, h5f.ACC_TRUNC, made, access))
        else:
            file = h5py.File(h5f.FileID(number))
    _keep_metadata_in_memory(file)
    return file


def _keep_metadata_in_memory(file: h5py.File) -> None:
    """Have metadata written by flush and close only.

    So a kill leaves the last flush: with evictions a killed writer damaged 3 of 12
    segments, without them none. And nothing else waits for the disk: while groups and
    attributes are made h5py lets no other thread run.
    """
    config = file.id.get_mdc_config()
    config.evictions_enabled = False
    config.incr_mode = 0
    config.flash_incr_mode = 0
    config.decr_mode = 0
    file.id.set_mdc_config(config)


def open_hdf5(path: Path, *, reads_once: bool = False) -> h5py.File:
    """Return a file, open for reading; without a lock, for nobody writes to it now.

    Parameters
    ----------
    reads_once : bool
        Whether every chunk is read as a whole, once: without HDF5's chunk cache, and
        the copy into it, that takes half the time.

    Raises
    ------
    OSError
        If it cannot be read, or is no HDF5 file.
    """
    os.close(os.open(path, os.O_RDONLY))
    return _opened(path, reads_once=reads_once)


def _opened(path: Path, *, reads_once: bool = False) -> h5py.File:
    access = _access()
    access.set_file_locking(False, False)
    if reads_once:
        metadata, slots, _, policy = access.get_cache()
        access.set_cache(metadata, slots, 0, policy)
    name = os.fsencode(path)
    with phil:
        number = _HDF5.H5Fopen(name, h5f.ACC_RDONLY, access.id)
        if number < 0:
            return h5py.File(h5f.open(name, h5f.ACC_RDONLY, access))
        return h5py.File(h5f.FileID(number))


def _access() -> Any:
    """Return what h5py's own `File` gives HDF5 by default."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)
    return access
