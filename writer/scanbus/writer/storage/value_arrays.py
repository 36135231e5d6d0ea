"""What datasets a file with small values has, for the layout of a scan master.

With the low-level API of h5py: a scan file may have ten thousand of them.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import h5py

from scanbus.schemas.errors import NameTakenError
from scanbus.writer.model.scan_contents import (
    DATA_GROUP,
    OWN_GROUP,
    TIMES_GROUP,
    ScanContents,
)
from scanbus.writer.model.value_files import COPIED_BYTES, StoredArray, ValueFile
from scanbus.writer.storage.hdf5 import open_hdf5

__all__ = ["COPIED_NAME", "arrays_of", "with_values"]

COPIED_NAME: Final = f"{OWN_GROUP}/copied_bytes"
"""Dataset of the scan file: how many bytes its master copies."""
_TEXTS: Final = 4096


def with_values(folder: Path, contents: ScanContents) -> ScanContents:
    """Return contents with what the scan file has, if there is one.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.

    Raises
    ------
    OSError, NameTakenError
        If the scan file cannot be read.
    """
    name = contents.values_file
    if name is None:
        return contents
    with open_hdf5(folder / name) as file:
        # Of the writer's settings: a rebuild does not have them.
        said = COPIED_NAME in file
        limit = int(file[COPIED_NAME][()]) if said else COPIED_BYTES
        arrays = arrays_of(file, limit)
    values = (ValueFile(name, arrays),)
    return replace(contents, values=values, copied_bytes=limit)


def arrays_of(file: h5py.File, limit: int) -> dict[str, StoredArray]:
    """Return all datasets with values or times, by path.

    Parameters
    ----------
    limit : int
        Size in bytes above which that of texts need not be exact.

    Raises
    ------
    NameTakenError
        If values stand in other files: the writer writes no such, and a copy of them
        in the master would lead its readers there.
    """
    found: dict[str, StoredArray] = {}
    for name in (DATA_GROUP, TIMES_GROUP):
        group = h5py.h5g.open(file.id, name.encode())
        for member in group:
            made = h5py.h5d.open(group, member)
            path = f"{name}/{member.decode()}"
            if _stands_elsewhere(made):
                taken = os.fsdecode(file.filename)
                raise NameTakenError(taken, f"a file whose {path} is in other files")
            found[path] = _array(made, limit)
    return found


def _stands_elsewhere(made: Any) -> bool:
    plist = made.get_create_plist()
    is_virtual = plist.get_layout() == h5py.h5d.VIRTUAL
    return bool(is_virtual or plist.get_external_count())


def _array(made: Any, limit: int) -> StoredArray:
    shape, kind = made.shape, made.get_type()
    if kind.get_class() == h5py.h5t.STRING:
        return StoredArray(shape, _text_bytes(h5py.Dataset(made), limit))
    return StoredArray(shape, math.prod(shape) * kind.get_size())


def _text_bytes(texts: h5py.Dataset, limit: int) -> int:
    """Return the size of texts, which HDF5 does not know; it stops above the limit."""
    # Each has 16 bytes beside its text.
    n_bytes = 16 * len(texts)
    for start in range(0, len(texts), _TEXTS):
        if n_bytes > limit:
            break
        n_bytes += sum(map(len, texts[start : start + _TEXTS]))
    return n_bytes
