"""Open files that somebody else may have placed: only regular files, never by links.

Users may write below the root. A FIFO, a socket or a device in the place of a file
would block whoever opens it, and a symbolic link leads to files that are not the
scan's. So a file that this process did not just create is opened here first, which
never blocks and names what stands there instead.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from scanbus.schemas.errors import NameTakenError

__all__ = [
    "FileVersion",
    "check_folder",
    "check_regular",
    "is_there",
    "kind_of",
    "open_regular",
    "read_regular",
    "version_of",
]

# Inode and time in ns: a file that was replaced, or written again, has others.
FileVersion = tuple[int, int]

# O_NONBLOCK: opening a FIFO or a device would wait for its other side.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What opening a link (ELOOP), or a socket or a device without a driver, answers.
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV)
_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """Return in words what has this mode, e.g. ``a FIFO``."""
    words = (word for is_kind, word in _KINDS if is_kind(mode))
    return next(words, "something unknown")


def is_there(path: Path) -> bool:
    """Whether anything has this name, also a link that leads nowhere.

    Raises
    ------
    OSError
        If the file system does not say.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def version_of(status: os.stat_result) -> FileVersion:
    """Return the version of a file, to recognise that it was replaced."""
    return status.st_ino, status.st_mtime_ns


def open_regular(path: Path | str, *, dir_fd: int | None = None) -> int:
    """Open a regular file for reading and return its descriptor.

    Parameters
    ----------
    dir_fd : int or None
        Descriptor of the folder to which the path is relative.

    Raises
    ------
    NameTakenError
        If something other than a regular file has the name. It was not opened, or
        closed at once, without reading.
    OSError
        If it does not exist or may not be read.
    """
    try:
        descriptor = os.open(path, _FLAGS, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        found = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        raise NameTakenError(str(path), kind_of(found.st_mode)) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NameTakenError(str(path), kind_of(mode))
    return descriptor


def check_regular(path: Path) -> os.stat_result:
    """Return the status of a regular file, as the file system has it now.

    Opened and not only looked up: network file systems compare with the server at an
    open, while a lookup may be answered from a cache.

    Raises
    ------
    NameTakenError, OSError
        As for `open_regular`.
    """
    descriptor = open_regular(path)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def read_regular(path: Path | str, *, dir_fd: int | None = None) -> bytes:
    """Return the contents of a regular file.

    Raises
    ------
    NameTakenError, OSError
        As for `open_regular`.
    """
    with os.fdopen(open_regular(path, dir_fd=dir_fd), "rb") as file:
        return file.read()


def check_folder(path: Path) -> None:
    """Check that a path is a folder itself, if there is anything.

    Raises
    ------
    NameTakenError
        If it is something else; also a symbolic link to a folder.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise NameTakenError(str(path), f"{kind_of(mode)}, not a folder")
