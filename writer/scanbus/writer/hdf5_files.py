"""Opening HDF5 files so that a mount that hangs stops one thread, not the process.

h5py lets other threads of Python run while it writes, flushes and closes, but not while
it opens or makes a file: on a mount that does not answer the whole process would stand
still, with its heartbeat and its answer to SIGTERM. So the system is asked first, which
other threads need not wait for. A mount that goes in between is out of reach.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py

__all__ = ["make_hdf5", "open_hdf5"]


def make_hdf5(path: Path, *, track_order: bool | None = None) -> h5py.File:
    """Return a new file, open for writing.

    Raises
    ------
    FileExistsError
        If there is one.
    OSError
        If the file system refuses.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return h5py.File(path, "w", track_order=track_order)


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
    cache_bytes = 0 if reads_once else None
    return h5py.File(path, "r", locking=False, rdcc_nbytes=cache_bytes)
