"""Collect what stands around the frames of an HDF5 file, for `headers.nexus`.

DECTRIS writes frames into data files without any of it, and the rest into a master
beside them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from scanbus.publisher.gateways.files.headers.nexus import Hdf5Field, Hdf5Header

__all__ = ["header_of"]

_MAX_FIELDS: Final = 2000
_MAX_DEPTH: Final = 6
# Masks are as large as frames; tables of each frame have a row for each. A declared
# size is not a stored one, so what a file has in all is bounded, too.
_MAX_MASK: Final = 2**26
_MAX_ROWS: Final = 10_000_000
_MAX_BYTES: Final = 2**30
_MAX_TEXTS: Final = 1000
_DATA_FILE: Final = re.compile(r"(.+)_data_\d+(\.\w+)")


def header_of(path: Path, file: Any, frames: Any, n_frames: int) -> Hdf5Header:
    """Return the fields around frames, or in the master beside their file.

    Parameters
    ----------
    path : Path
        The file.
    file : h5py.File
        The same, open.
    frames : h5py.Dataset
        The frames, or the first of them.
    n_frames : int
        Number of frames of the file.
    """
    name = _DATA_FILE.fullmatch(path.name)
    master = None if name is None else path.with_name(f"{name[1]}_master{name[2]}")
    found = None if master is None else _of_master(master)
    if found is None:
        entry, classes = _fields_of(file)
        return Hdf5Header(entry, classes, 0, n_frames)
    # DECTRIS counts from 1, over all files of a series.
    first = _integer(frames.attrs.get("image_nr_low", 1)) - 1
    entry, classes = found
    return Hdf5Header(entry, classes, max(0, first), _n_images(entry) or n_frames)


def _of_master(
    master: Path,
) -> tuple[dict[str, Hdf5Field], dict[str, str]] | None:
    try:
        return _read_master(master, master.stat().st_mtime_ns)
    except (OSError, RuntimeError, KeyError, ValueError):
        return None  # It is not there, not whole yet, or no master: the frames are.


@lru_cache(maxsize=2)
def _read_master(
    master: Path, _mtime_ns: int
) -> tuple[dict[str, Hdf5Field], dict[str, str]]:
    with h5py.File(master, "r") as file:
        return _fields_of(file)


def _n_images(entry: dict[str, Hdf5Field]) -> int:
    """Return how many frames a master is of, as DECTRIS says it; 0 if it does not."""
    found = 1
    for name in ("nimages", "ntrigger"):
        each = entry.get(f"instrument/detector/detectorSpecific/{name}")
        found *= 0 if each is None else _integer(each.value)
    return found


def _integer(value: Any) -> int:
    """Return a value of a file as an integer; 0 if it is none."""
    numbers = np.asarray(value).reshape(-1)
    is_one = numbers.size > 0 and numbers.dtype.kind in "iu"
    return int(numbers[0]) if is_one else 0


def _fields_of(file: Any) -> tuple[dict[str, Hdf5Field], dict[str, str]]:
    """Return the fields and the classes of the groups below the first NXentry."""
    entry = _entry_of(file)
    found = _Collection()
    if entry is not None:
        found.add(entry, "")
    return found.fields, found.classes


def _entry_of(file: Any) -> Any | None:
    for name in file:
        is_here = file.get(name, getlink=True, getclass=True) is h5py.HardLink
        if is_here and isinstance(file[name], h5py.Group):
            return file[name]
    return None


class _Collection:
    """The fields that were found so far, and how many bytes they have."""

    def __init__(self) -> None:
        self.fields: dict[str, Hdf5Field] = {}
        self.classes: dict[str, str] = {}
        self._n_bytes = 0

    def add(self, group: Any, path: str) -> None:
        """Add what stands in a group by hard links, and in those below it."""
        for name in group:
            is_here = group.get(name, getlink=True, getclass=True) is h5py.HardLink
            if not is_here or len(self.fields) > _MAX_FIELDS:
                continue
            thing, where = group[name], f"{path}{name}"
            if isinstance(thing, h5py.Group):
                nx_class = self.classes[where] = _text(thing.attrs.get("NX_class", ""))
                if where.count("/") < _MAX_DEPTH and nx_class != "NXdata":
                    self.add(thing, f"{where}/")
            elif isinstance(thing, h5py.Dataset) and _is_wanted(name, thing):
                self._n_bytes += thing.nbytes
                if self._n_bytes <= _MAX_BYTES:
                    units = _text(thing.attrs.get("units", ""))
                    self.fields[where] = Hdf5Field(thing[()], units)


def _is_wanted(name: str, dataset: Any) -> bool:
    """Whether a dataset may say something of frames, and its values stand here."""
    # Others could lead to any file.
    if dataset.shape is None or dataset.is_virtual or dataset.external:
        return False
    if name == "pixel_mask":
        return bool(dataset.ndim == 2 and dataset.size <= _MAX_MASK)
    if dataset.ndim > 1 or dataset.size > _MAX_ROWS:
        return False
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return bool(dataset.size <= _MAX_TEXTS)
    return np.dtype(dataset.dtype).kind in "biuf"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
