"""What a file says of its making: when, and by which versions of what.

Layouts write it down; ``storage`` knows it (:mod:`scanbus.writer.storage.provenance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CREATOR", "FileStamp"]

CREATOR: Final = "scanbus"
"""The attribute ``creator`` of every file that scanbus makes."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """When a file is written, and with what.

    Attributes
    ----------
    time : str
        ISO 8601, local, with the offset from UTC.
    scanbus_version, hdf5_version, h5py_version : str
        Of what writes it.
    """

    time: str
    scanbus_version: str
    hdf5_version: str
    h5py_version: str
