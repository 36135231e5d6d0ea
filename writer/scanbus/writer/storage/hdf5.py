"""Open HDF5 files such that a hanging mount blocks one thread, not the process.

h5py releases the GIL while it writes, flushes and closes a file, but not while it opens
or creates one: a hanging mount would block the whole process, including its heartbeat
and its reaction to SIGTERM. So the file is first opened with a system call, which
releases the GIL. HDF5 itself is then called through ctypes, which releases the GIL too,
under h5py's lock as h5py does, because the mount may fail in between.
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

# The HDF5 library that h5py uses: the extension module resolves its symbols.
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
    """Create a file and return it, open for writing.

    Parameters
    ----------
    track_order : bool
        Whether the root group keeps links and attributes in creation order.

    Raises
    ------
    FileExistsError
        If the file exists.
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
            # On failure h5py repeats the call, to raise the error.
            file = h5py.File(h5f.create(name, h5f.ACC_TRUNC, made, access))
        else:
            file = h5py.File(h5f.FileID(number))
    _keep_metadata_in_memory(file)
    return file


def _keep_metadata_in_memory(file: h5py.File) -> None:
    """Disable evictions of HDF5's metadata cache: only flush and close write metadata.

    So a killed writer leaves the state of the last flush: with evictions, kills damaged
    3 of 12 segments, without them none. It also avoids disk writes while groups and
    attributes are created, during which h5py holds the GIL.
    """
    config = file.id.get_mdc_config()
    config.evictions_enabled = False
    config.incr_mode = 0
    config.flash_incr_mode = 0
    config.decr_mode = 0
    file.id.set_mdc_config(config)


def open_hdf5(path: Path, *, reads_once: bool = False) -> h5py.File:
    """Return a file, open for reading, without HDF5's file lock.

    No lock is needed, because no process writes to the file any more.

    Parameters
    ----------
    reads_once : bool
        Whether every chunk is read once and as a whole. HDF5's chunk cache is disabled
        then, which saves a copy and halves the time.

    Raises
    ------
    OSError
        If the file cannot be read, or is not an HDF5 file.
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
    """Return the file access property list that `h5py.File` uses by default."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)
    return access
