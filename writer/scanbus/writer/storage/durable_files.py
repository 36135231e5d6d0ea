"""Files and folders whose contents and names survive a loss of power.

Without HDF5: the service, which has none, uses it too.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["fsync_descriptor", "fsync_path", "make_folder"]

# What file systems answer that sync files, but no folders (some of FUSE and CIFS). The
# probe at the start names them: `scanbus.writer.storage.file_system`.
_NOT_OFFERED: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def fsync_path(path: Path) -> None:
    """Fsync a file or folder; nothing happens where folders cannot be fsynced.

    Raises
    ------
    OSError
        If fsync fails. The file must be discarded then: a second fsync may succeed
        although data were lost.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fsync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def fsync_descriptor(descriptor: int) -> None:
    """Fsync an open file or folder, as `fsync_path` does."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not (is_folder and error.errno in _NOT_OFFERED):
            raise


def make_folder(path: Path) -> None:
    """Create a folder with its missing parents, and fsync their names.

    Raises
    ------
    OSError
        If a folder cannot be created or synced.
    """
    lacking = []
    while not path.exists():
        lacking.append(path)
        path = path.parent
    for folder in reversed(lacking):
        folder.mkdir(exist_ok=True)
    for folder in lacking:
        fsync_path(folder.parent)
