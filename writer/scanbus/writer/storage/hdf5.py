"""Open HDF5 files such that a hanging mount blocks one thread, not the process.

h5py releases the GIL while it writes, flushes and closes a file, but not while it opens
or creates one: a hanging mount would block the whole process, including its heartbeat
and its reaction to SIGTERM. So the file is first opened with a system call, which
releases the GIL. HDF5 itself is then called through ctypes, which releases the GIL too,
under h5py's lock as h5py does, because the mount may fail in between.

HDF5 cannot bear a write that fails while an object or a file is closed: it keeps half
of it, and the process crashes at a later call or at its exit. So nothing is left to be
written then: datasets are written at once, files are flushed before they are
closed, and whatever a file that is given up still holds goes into memory.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5f, h5o, h5p
from h5py._objects import phil

from scanbus.writer.storage.regular_file import open_regular

__all__ = [
    "changed_hdf5",
    "close_hdf5",
    "copy_dataset",
    "discard_hdf5",
    "flush_hdf5",
    "has_lost_files",
    "make_hdf5",
    "open_hdf5",
    "written_hdf5",
]

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
_HDF5.H5Ocopy.restype = ctypes.c_int
_HDF5.H5Ocopy.argtypes = [
    ctypes.c_int64,
    ctypes.c_char_p,
    ctypes.c_int64,
    ctypes.c_char_p,
    ctypes.c_int64,
    ctypes.c_int64,
]
_COPY = h5p.create(h5p.OBJECT_COPY)
_COPY.set_copy_object(h5o.COPY_WITHOUT_ATTR_FLAG)
_LINK = h5p.create(h5p.LINK_CREATE)
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
# FALLOC_FL_KEEP_SIZE of linux/falloc.h: the size of the file stays as it is.
_KEEP_SIZE = 1
# Kept, so that no garbage collection closes them.
_lost: list[h5py.File] = []
_IN_ORDER = h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED


def make_hdf5(
    path: Path, *, track_order: bool = False, page_bytes: int = 0
) -> h5py.File:
    """Create a file and return it, open for writing.

    Parameters
    ----------
    track_order : bool
        Whether the root group keeps links and attributes in creation order.
    page_bytes : int
        Size of the pages into which the file is divided; 0 for none.

    Raises
    ------
    FileExistsError
        If the file exists.
    OSError
        If the file system refuses.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return _made(path, track_order=track_order, page_bytes=page_bytes)


@contextmanager
def written_hdf5(
    path: Path, *, track_order: bool = False, page_bytes: int = 0
) -> Iterator[h5py.File]:
    """Create a file and yield it; close it, or discard it after an error.

    Raises
    ------
    FileExistsError, OSError
        As for `make_hdf5` and `close_hdf5`.
    """
    file = make_hdf5(path, track_order=track_order, page_bytes=page_bytes)
    try:
        yield file
        close_hdf5(file)
    finally:
        discard_hdf5(file)


@contextmanager
def changed_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield a file that nobody else knows, to be changed; close it as `written_hdf5`.

    Raises
    ------
    OSError
        If it cannot be read or changed.
    """
    os.close(open_regular(path))
    access = _unbuffered_access()
    file = h5py.File(h5f.open(os.fsencode(path), h5f.ACC_RDWR, access))
    try:
        _keep_metadata_in_memory(file)
        yield file
        close_hdf5(file)
    finally:
        discard_hdf5(file)


def close_hdf5(file: h5py.File) -> None:
    """Write everything to the disk and close the file.

    Raises
    ------
    OSError, RuntimeError
        If the file system refuses; the file is still open then, and must be discarded.
    """
    flush_hdf5(file)
    file.close()


def flush_hdf5(file: h5py.File) -> None:
    """Write everything to the disk.

    Raises
    ------
    OSError, RuntimeError
        If the file system refuses.
    """
    _reserve(file.id.get_vfd_handle(), file.id.get_filesize())
    file.flush()


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Reserve the disk space of a file, where the file system can do that.

    Otherwise the first write that HDF5 fails with would be one of its metadata.
    """
    if _LIBC.fallocate(descriptor, _KEEP_SIZE, 0, n_bytes):
        number = ctypes.get_errno()
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(number, os.strerror(number))


def copy_dataset(source: h5py.File, path: str, target: h5py.Group, name: str) -> Any:
    """Copy a dataset as it is stored, without its attributes; return the copy.

    Raises
    ------
    OSError, RuntimeError, KeyError
        If the source cannot be read, or the file system refuses.
    """
    given, made = path.encode(), name.encode()
    with phil:
        status = _HDF5.H5Ocopy(
            source.id.id, given, target.id.id, made, _COPY.id, _LINK.id
        )
        if status < 0:
            # On failure h5py repeats the call, to raise the error.
            h5o.copy(source.id, given, target.id, made, _COPY, _LINK)
        return h5d.open(target.id, made)


def discard_hdf5(file: h5py.File) -> None:
    """Close a file that is given up, without writing to its disk; may be repeated.

    Its descriptor leads to memory from then on, where every write succeeds. If a write
    of metadata has failed before, HDF5 cannot close the file any more: it stays, see
    :func:`has_lost_files`.
    """
    if not file:
        return
    scratch = os.memfd_create("scanbus-discarded", os.MFD_CLOEXEC)
    os.dup2(scratch, file.id.get_vfd_handle(), inheritable=False)
    os.close(scratch)
    try:
        file.close()
    except (OSError, RuntimeError):
        _lost.append(file)


def has_lost_files() -> bool:
    """Whether HDF5 holds files that it cannot close.

    The process should be replaced then, and leave without exit handlers: those of HDF5
    would close the files again, and crash.
    """
    return bool(_lost)


def _made(path: Path, *, track_order: bool = False, page_bytes: int = 0) -> h5py.File:
    made, access = h5p.create(h5p.FILE_CREATE), _unbuffered_access()
    made.set_obj_track_times(False)
    if track_order:
        made.set_link_creation_order(_IN_ORDER)
        made.set_attr_creation_order(_IN_ORDER)
    if page_bytes:
        made.set_file_space_strategy(h5f.FSPACE_STRATEGY_PAGE, False, 1)
        made.set_file_space_page_size(page_bytes)
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
    NameTakenError
        If it is no regular file, but a link, a FIFO, a folder, ….
    OSError
        If the file cannot be read, or is not an HDF5 file.
    """
    os.close(open_regular(path))
    return _opened(path, reads_once=reads_once)


def _opened(path: Path, *, reads_once: bool = False) -> h5py.File:
    access = _access()
    if reads_once:
        metadata, slots, _, policy = access.get_cache()
        access.set_cache(metadata, slots, 0, policy)
    name = os.fsencode(path)
    with phil:
        number = _HDF5.H5Fopen(name, h5f.ACC_RDONLY, access.id)
        if number < 0:
            return h5py.File(h5f.open(name, h5f.ACC_RDONLY, access))
        return h5py.File(h5f.FileID(number))


def _unbuffered_access() -> Any:
    """Return one for files that are written.

    Neither a buffer for datasets that are not chunked nor a cache for chunks: both are
    written when a dataset is closed.
    """
    access = _access()
    access.set_sieve_buf_size(0)
    metadata, slots, _, policy = access.get_cache()
    access.set_cache(metadata, slots, 0, policy)
    return access


def _access() -> Any:
    """Return the access property list of `h5py.File`, without HDF5's file lock.

    No lock is needed: only the holder of a lease opens a file that is being written.
    HDF5 obeys the environment more: see `file_system.LOCKING_VARIABLE`.
    """
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)
    # Some file systems answer a lock with an error, or not at all.
    access.set_file_locking(False, False)
    return access
