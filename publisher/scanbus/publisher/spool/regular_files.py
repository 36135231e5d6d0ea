"""Open files and folders of a spool: regular ones only, whatever stands in their place.

A link could lead out of the spool, and a FIFO would stall whoever opens it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from scanbus.schemas.errors import SpoolError

__all__ = ["check_folder", "open_regular", "read_regular", "sync_folder"]


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Return the descriptor of a regular file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    SpoolError
        If it is no regular file.
    OSError
        If it cannot be opened.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if path.is_symlink() or path.is_dir():
        raise SpoolError(str(path), "it is no regular file")
    descriptor = os.open(path, flags, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SpoolError(str(path), "it is no regular file")
    return descriptor


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file; errors as of :func:`open_regular`."""
    with open(open_regular(path), "rb") as file:
        return file.read()


def check_folder(path: Path) -> bool:
    """Return whether there is a folder.

    Raises
    ------
    SpoolError
        If something else stands there: a file, or a link.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SpoolError(str(path), str(error.strerror)) from error
    if not stat.S_ISDIR(mode):
        raise SpoolError(str(path), "it is no folder")
    return True


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
