"""Give a finished file its final name, in one step, and only if nothing has that name.

A hard link does that, where the file system has hard links. Elsewhere `renameat2` does,
told not to replace. Some network file systems (AFS, BeeGFS) link inside a folder only:
there the file is first renamed into it, under a hidden name. Nothing is ever replaced.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

__all__ = [
    "NO_EXCLUSIVE_NAMES",
    "give_name",
    "keep_under",
    "rename_without_replacing",
]

NO_EXCLUSIVE_NAMES: Final = (
    "it has neither hard links nor renames that replace nothing, so a file could be "
    "overwritten"
)
# What file systems without hard links answer, or those that link in one folder only.
_NO_LINK: Final = (
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
)
_NO_FLAG: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_RENAME_NOREPLACE: Final = 1  # linux/fs.h
_AT_FDCWD: Final = -100
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def give_name(made: Path | str, final: Path | str, *, dir_fd: int | None = None) -> str:
    """Give a file a name, unless that is taken; return how that was done.

    Parameters
    ----------
    made : path
        The file; it keeps this name after ``"link"`` only.
    final : path
        The new name, on the same file system.
    dir_fd : int or None
        Descriptor of the folder to which both are relative.

    Returns
    -------
    str
        ``"link"``, ``"rename"`` or ``"link beside"``.

    Raises
    ------
    FileExistsError
        If the name is taken; the file keeps its own.
    FileNotFoundError
        If the file is not there.
    OSError
        If the file system refuses all of that.
    """
    try:
        os.link(made, final, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        refused = error
    else:
        return "link"
    try:
        rename_without_replacing(made, final, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NO_FLAG:
            raise
    else:
        return "rename"
    if dir_fd is not None or refused.errno != errno.EXDEV:
        raise OSError(refused.errno, NO_EXCLUSIVE_NAMES, str(final)) from refused
    _link_beside(Path(made), Path(final))
    return "link beside"


def keep_under(path: Path, other: Path) -> None:
    """Give a file a second name, where the file system has hard links."""
    with suppress(OSError):
        os.link(path, other)


def rename_without_replacing(
    made: Path | str, final: Path | str, *, dir_fd: int | None = None
) -> None:
    """Rename a file, unless the new name is taken.

    Raises
    ------
    FileExistsError
        If it is.
    OSError
        With EINVAL or ENOSYS if the file system or the system cannot do that.
    """
    base = _AT_FDCWD if dir_fd is None else dir_fd
    renameat2: Any = getattr(_LIBC, "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(final))
    old, new = os.fsencode(made), os.fsencode(final)
    if renameat2(base, old, base, new, _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(made), None, str(final))


def _link_beside(made: Path, final: Path) -> None:
    # Always the same name: what a killed process left is replaced by the next one.
    beside = final.with_name(f".{final.name}.placed")
    made.rename(beside)
    try:
        os.link(beside, final)
    except FileExistsError:
        # If its folder was taken by a successor meanwhile, it is not wanted any more.
        with suppress(FileNotFoundError):
            beside.rename(made)
        raise
    finally:
        beside.unlink(missing_ok=True)
