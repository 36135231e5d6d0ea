"""Where a name from the bus leads, by the file system: only below the external roots.

Symbolic links are resolved before names are compared. What is not a regular file is
not opened: a FIFO would block whoever opens it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import ExternalFileError

__all__ = ["file_below", "place_below"]


# Names of files of plain pixels; of others only who reads them knows the length.
_RAW: Final = frozenset({".raw", ".bin"})


def place_below(file: str | Path, roots: Iterable[Path]) -> Path:
    """Return where an absolute path leads, whether or not a file is there.

    Raises
    ------
    ExternalFileError
        If it leads elsewhere than below the roots.
    """
    roots = tuple(roots)
    try:
        place = Path(file).resolve()
        is_below = any(place.is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or NUL
        raise ExternalFileError(str(file), f"leads nowhere ({error})") from error
    if not Path(file).is_absolute() or not is_below:
        named = ", ".join(map(str, roots)) or "none"
        reason = f"is not below one of the external_roots ({named}): not opened"
        raise ExternalFileError(str(file), reason)
    return place


def image_below(file: str | Path, roots: Iterable[Path], least_bytes: int = 1) -> Path:
    """Return the real path of a file of images that is not HDF5; it is not opened.

    Parameters
    ----------
    least_bytes : int
        Size of the pixels that it must have if they are raw.

    Raises
    ------
    ExternalFileError
        As `file_below`; also if it is empty, or too short to have these frames.
    """
    place = file_below(file, roots)
    size = place.stat().st_size
    if not size:
        raise ExternalFileError(str(file), "is empty", is_absent=True)
    if place.suffix.lower() in _RAW and size < least_bytes:
        reason = f"has {size} bytes; its frames take {least_bytes}"
        raise ExternalFileError(str(file), reason, is_absent=True)
    return place


def file_below(file: str | Path, roots: Iterable[Path]) -> Path:
    """Return the real path of a regular file below one of the roots.

    Raises
    ------
    ExternalFileError
        If it leads elsewhere, is not there (`is_absent`), no regular file, or may not
        be read.
    """
    place = place_below(file, roots)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError as error:
        raise ExternalFileError(str(file), "is not there", is_absent=True) from error
    except OSError as error:
        raise ExternalFileError(str(file), str(error)) from error
    if not stat.S_ISREG(mode):
        raise ExternalFileError(str(file), "is not a regular file: not opened")
    if not os.access(place, os.R_OK):
        raise ExternalFileError(str(file), "may not be read")
    return place
