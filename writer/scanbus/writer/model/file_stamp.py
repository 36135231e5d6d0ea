"""Provenance of a file: the time of writing and the software versions.

Layouts store it in files; :mod:`scanbus.writer.storage.provenance` determines it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CONVERTED", "CREATOR", "FileStamp"]

CREATOR: Final = "scanbus"
"""Value of the attribute ``creator`` of every file written by scanbus."""

CONVERTED: Final = "converted_from"
"""Attribute of files that `scanbus convert` made: the name of the master."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Time of writing and software versions of one file.

    Attributes
    ----------
    time : str
        Local time of writing, ISO 8601 with UTC offset.
    scanbus_version, hdf5_version, h5py_version : str
        Versions of the software that writes the file.
    hdf5plugin_version : str
        Version of the filters by which it is read back; empty if there are none.
    codecs : tuple of str
        Names and versions of the libraries that compress.
    commit : str
        Commit of scanbus, if it is installed from a repository; else empty.
    """

    time: str
    scanbus_version: str
    hdf5_version: str
    h5py_version: str
    hdf5plugin_version: str = ""
    codecs: tuple[str, ...] = ()
    commit: str = ""
