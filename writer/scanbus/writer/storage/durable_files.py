"""Files and folders whose contents and names survive a loss of power.

Without HDF5: the service, which has none, uses it too.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["fsync_path", "make_folder"]


def fsync_path(path: Path) -> None:
    """Fsync a file or folder.

    Raises
    ------
    OSError
        If fsync fails. The file must be discarded then: a second fsync may succeed
        although data were lost.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
