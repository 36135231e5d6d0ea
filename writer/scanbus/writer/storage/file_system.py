"""What a file system lacks, found by trying it in a folder that is removed again.

File systems on networks, and those of other systems, lack some of what local ones have.
What a writer cannot do without is named before a scan needs it; the rest is worked
around where it is met, or weakens a guarantee, which is said.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import RootUnusableError
from scanbus.writer.storage.exclusive_names import NO_EXCLUSIVE_NAMES, give_name
from scanbus.writer.storage.paths_below import paths_below

__all__ = ["LOCKING_VARIABLE", "FileSystemReport", "check_file_system", "probe"]

LOCKING_VARIABLE: Final = "HDF5_USE_FILE_LOCKING"
"""Environment variable that HDF5 obeys more than what a file is opened with."""

_PREFIX: Final = ".scanbus-probe-"
# What a killed process left is removed by a later one.
_LEFTOVER_S: Final = 3600.0
LONGEST_NAME: Final = 255
_DURABLE_FOLDERS: Final = (
    "a loss of power may take the names of its newest files, though their points were "
    "acknowledged"
)


@dataclass(frozen=True)
class FileSystemReport:
    """What was found out about the file system of a folder.

    Attributes
    ----------
    path : str
        The folder.
    lacks : dict
        What it lacks to the system's answer, as text.
    exclusive : str
        How a finished file gets its name: ``"link"``, ``"rename"``, ``"link beside"``;
        empty if nothing does.
    longest_name : int
        Bytes that the name of a file may have; 255 is the most that is needed.
    refused : str
        Why nothing could be tried; empty if it could.
    """

    path: str
    lacks: dict[str, str]
    exclusive: str = ""
    longest_name: int = LONGEST_NAME
    refused: str = ""

    @property
    def hindrance(self) -> str:
        """Why nothing can be written there; empty if it can."""
        if self.refused:
            return self.refused
        for name in ("writing", "fsync of files", "rename"):
            if name in self.lacks:
                return f"its file system cannot do without: {name} ({self.lacks[name]})"
        return "" if self.exclusive else NO_EXCLUSIVE_NAMES

    @property
    def remarks(self) -> tuple[str, ...]:
        """One sentence on each lack that can be noticed, though files are written."""
        found = []
        if "fsync of folders" in self.lacks:
            found.append(f"fsync of folders is refused: {_DURABLE_FOLDERS}")
        if "case" in self.lacks:
            found.append(
                "names that differ in case only are the same there: proposals, "
                "samples and datasets need other names"
            )
        if self.longest_name < LONGEST_NAME:
            found.append(
                f"names may have {self.longest_name} bytes there: a scan with a longer "
                "one, of a dataset or channel, cannot be written"
            )
        return tuple(f"the file system of {self.path}: {one}" for one in found)


def check_file_system(folder: Path) -> FileSystemReport:
    """Probe a folder's file system.

    Raises
    ------
    RootUnusableError
        If files cannot be written there.
    """
    report = probe(folder)
    if report.hindrance:
        raise RootUnusableError(str(folder), report.hindrance)
    return report


def probe(folder: Path) -> FileSystemReport:
    """Try what a writer needs; it may hang where the file system does.

    Parameters
    ----------
    folder : pathlib.Path
        A folder in it; a hidden one is made in it, and removed.
    """
    try:
        _remove_leftovers(folder)
        place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    except OSError as error:
        return FileSystemReport(str(folder), {}, refused=_said(error))
    try:
        return _probe(folder, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _probe(folder: Path, place: Path) -> FileSystemReport:
    lacks: dict[str, str] = {}
    for name, attempt in _ATTEMPTS.items():
        answer = _answer(attempt, place)
        if answer:
            lacks[name] = answer
    exclusive = ""
    with suppress(OSError):
        exclusive = _named(place)
    longest = _longest_name(place)
    return FileSystemReport(str(folder), lacks, exclusive, longest)


def _answer(attempt: Callable[[Path], None], place: Path) -> str:
    try:
        attempt(place)
    except OSError as error:
        return _said(error)
    return ""


def _said(error: OSError) -> str:
    return error.strerror or str(error)


def _write(place: Path) -> None:
    (place / "work").mkdir()
    (place / "made").write_bytes(b"made")
    if (place / "made").read_bytes() != b"made":
        raise OSError(errno.EIO, "what was written is not what is read")


def _fsync_file(place: Path) -> None:
    with (place / "made").open("rb+") as file:
        os.fsync(file.fileno())


def _fsync_folder(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(place: Path) -> None:
    """Replace a file by another one, and rename a folder: for masters and fences."""
    old, new = place / "work" / "old", place / "replaced"
    old.write_bytes(b"new")
    new.write_bytes(b"old")
    old.replace(new)
    if new.read_bytes() != b"new":
        raise OSError(errno.EIO, "a rename did not replace the file")
    (place / "folder").mkdir()
    (place / "folder").rename(place / "fenced")


def _link(place: Path) -> None:
    os.link(place / "made", place / "work" / "linked")


def _lock(place: Path) -> None:
    with (place / "made").open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _symlink(place: Path) -> None:
    (place / "symlink").symlink_to("made")


def _tell_case(place: Path) -> None:
    (place / "Case").write_bytes(b"")
    if (place / "cASE").exists():
        raise OSError(errno.EEXIST, "it does not tell upper from lower case")


_ATTEMPTS: Final[dict[str, Callable[[Path], None]]] = {
    "writing": _write,
    "fsync of files": _fsync_file,
    "fsync of folders": _fsync_folder,
    "rename": _rename,
    "hard links": _link,
    "locks": _lock,
    "symbolic links": _symlink,
    "case": _tell_case,
}


def _named(place: Path) -> str:
    """Name a file as segments are, from one folder into another."""
    made, final = place / "work" / "segment", place / "segment"
    made.write_bytes(b"")
    how = give_name(made, final)
    made.write_bytes(b"second")
    try:
        give_name(made, final)
    except FileExistsError:
        return how
    return ""  # It was replaced.


def _longest_name(place: Path) -> int:
    """Return the longest name that can be used, in bytes."""
    # Tried, as what file systems say of themselves (pathconf) is often wrong.
    if _can_have(place, LONGEST_NAME):
        return LONGEST_NAME
    lengths = range(1, LONGEST_NAME)
    return bisect_left(lengths, True, key=lambda n: not _can_have(place, n))


def _can_have(place: Path, n_bytes: int) -> bool:
    path = place / ("n" * n_bytes)
    try:
        path.write_bytes(b"")
        path.unlink()
    except OSError:
        return False
    return True


def _remove_leftovers(folder: Path) -> None:
    now = time.time()
    for old in paths_below(folder, f"{_PREFIX}*"):
        with suppress(OSError):
            if now - old.lstat().st_mtime > _LEFTOVER_S and not old.is_symlink():
                shutil.rmtree(old, ignore_errors=True)
