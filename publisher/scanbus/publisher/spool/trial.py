"""Try what a spool needs of its file system, before a scan needs it.

A spool is for a local disk. File systems on networks may refuse locks, or the fsync of
a folder; a full disk is another matter, which passes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scanbus.publisher.spool.regular_files import sync_folder
from scanbus.schemas.errors import SpoolError

__all__ = ["try_spool"]

# What is not there now may be there later: room, rights, a disk.
_LACKING: Final = (
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
)


def try_spool(root: Path, prefix: str) -> None:
    """Try locks, fsync and rename in a folder of a spool, which is removed again.

    Parameters
    ----------
    prefix : str
        Beginning of its name; what a killed process leaves is found by that.

    Raises
    ------
    SpoolError
        If the file system lacks one of them.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    except OSError:
        return  # The first scan says it, or finds it mended.
    try:
        for what, attempt in _ATTEMPTS.items():
            _try(root, folder, what, attempt)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _try(root: Path, folder: Path, what: str, attempt: Callable[[Path], None]) -> None:
    try:
        attempt(folder)
    except OSError as error:
        if error.errno in _LACKING:
            reason = (
                f"its file system lacks {what} ({error.strerror}); a spool needs a "
                "local disk"
            )
            raise SpoolError(str(root), reason) from error


def _lock(folder: Path) -> None:
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(folder: Path) -> None:
    with (folder / "record").open("wb") as file:
        file.write(b"record")
        file.flush()
        os.fsync(file.fileno())


def _rename(folder: Path) -> None:
    (folder / "new").write_bytes(b"")
    (folder / "new").rename(folder / "old")


_ATTEMPTS: Final[dict[str, Callable[[Path], None]]] = {
    "locks": _lock,
    "fsync of files": _sync,
    "rename": _rename,
    "fsync of folders": sync_folder,
}
