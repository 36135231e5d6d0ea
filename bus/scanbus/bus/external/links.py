"""Find an object in an HDF5 file by its path, link by link.

HDF5 follows external links by itself, wherever they lead. Here each one is looked at
before the file is opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import h5py

from scanbus.bus.external.paths import file_below
from scanbus.schemas.errors import ExternalFileError

__all__ = ["Finder", "found_by_hdf5", "one_line"]

_MOST_HOPS: Final = 16
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
# In the byte of the superblock that says who has the file open.
_SWMR_FLAG: Final = 4
# Folders in which HDF5 would look first for names that are not absolute.
_PREFIXES: Final = ("HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX")


def one_line(error: BaseException) -> str:
    """Return the first words of an error of HDF5, which may have many lines."""
    return " ".join(str(error).split())[:200]


def found_by_hdf5(name: str, folders: Sequence[Path], roots: Sequence[Path]) -> str:
    """Return the file that HDF5 opens for a name that stands in another file.

    Parameters
    ----------
    name : str
        Absolute, or relative to the folder of the other file.
    folders : sequence of pathlib.Path
        That folder as it was named, and where it really is: HDF5 tries one after the
        other. So a file in each of them must be one that may be opened.

    Raises
    ------
    ExternalFileError
        If it cannot be told, or leads elsewhere than below the roots.
    """
    if Path(name).is_absolute():
        return name
    for prefix in _PREFIXES:
        if os.environ.get(prefix):
            reason = f"is a relative name, and {prefix} is set: it may lead anywhere"
            raise ExternalFileError(name, reason)
    every = [folder / name for folder in folders]
    found = [each for each in every if os.path.lexists(each)]
    for each in found:
        file_below(each, roots)
    return str((found or every)[0])


class Finder:
    """Finds an object in files below the roots; they stay open as long as the stack.

    Parameters
    ----------
    file : str
        Absolute path of the first file.
    is_resolved : bool
        Whether that file is opened by its real path, wherever links lead.
    """

    def __init__(
        self,
        file: str,
        roots: Sequence[Path],
        stack: ExitStack,
        *,
        is_resolved: bool = True,
    ) -> None:
        self._roots = roots
        self._stack = stack
        self._hops = 0
        self._open(file, is_resolved=is_resolved)

    def _open(self, file: str, *, is_resolved: bool = False) -> None:
        self.file_name = file
        self.real = file_below(file, self._roots)
        # As HDF5 opens it for readers, who follow links by themselves.
        self.named = self.real if is_resolved else Path(file)
        self._file = self._stack.enter_context(_opened(self.real, file))

    @property
    def folders(self) -> tuple[Path, Path]:
        """The folder of the file as it is named, and where it really is."""
        return self.named.parent, self.real.parent

    def find(self, path: str) -> Any:
        """Return the object; a soft or an external link starts again at its target."""
        here: Any = self._file
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for position, part in enumerate(parts):
            if not isinstance(here, h5py.Group):
                raise ExternalFileError(self.file_name, f"has no {path}")
            link = here.get(part, getlink=True)
            if link is None:
                reason = f"has no {path}"
                raise ExternalFileError(self.file_name, reason, is_absent=True)
            if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
                return self._follow(here, link, parts[position + 1 :])
            here = here[part]
        return here

    def _follow(self, here: h5py.Group, link: Any, rest: Sequence[str]) -> Any:
        self._hops += 1
        if self._hops > _MOST_HOPS:
            raise ExternalFileError(self.file_name, "has a loop of links")
        target = link.path
        if isinstance(link, h5py.ExternalLink):
            self._open(found_by_hdf5(link.filename, self.folders, self._roots))
        elif not target.startswith("/"):
            target = f"{here.name}/{target}"
        return self.find("/".join((target, *rest)))


def _opened(real: Path, name: str) -> h5py.File:
    """Open a file for reading, also one that its detector still writes (SWMR)."""
    with real.open("rb") as file:  # Releases the GIL, which HDF5's open does not.
        start = file.read(len(_HDF5) + 4)
    try:
        return h5py.File(real, "r", locking=False)
    except OSError as error:
        with suppress(OSError, ValueError):
            if _is_written_for_readers(start):
                return h5py.File(real, "r", locking=False, swmr=True)
        reason = f"cannot be opened as HDF5 ({one_line(error)})"
        raise ExternalFileError(name, reason, is_absent=True) from error


def _is_written_for_readers(start: bytes) -> bool:
    """Whether a file says in its first bytes that its program writes it with SWMR.

    Of a damaged file that nobody writes, HDF5 would wait for ever in this mode: it
    reads what has a wrong checksum a hundred times, after twice the pause each time.
    """
    version, flags = start[8:9], start[11:12]
    is_swmr = bool(flags) and bool(flags[0] & _SWMR_FLAG)
    return start.startswith(_HDF5) and version >= b"\x03" and is_swmr
