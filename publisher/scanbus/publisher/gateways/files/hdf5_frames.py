"""Read frames of HDF5 files that a detector's program has written.

A file's frames are one dataset of its own: what it links to in other files, also by a
virtual dataset, stands there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors use
import numpy as np
import numpy.typing as npt

from scanbus.schemas.errors import SourceError

__all__ = ["read_hdf5"]

_MAX_OBJECTS = 10_000
_MAX_DEPTH = 16
# A declared size is not a stored one: a small file may declare any.
_MAX_FRAME_BYTES = 2**31


def read_hdf5(path: Path) -> Iterator[tuple[npt.NDArray[Any], int]]:
    """Yield each frame, shape ``(i, j)``, and how many there are; perhaps none.

    Raises
    ------
    OSError
        If the file is no whole HDF5 file, or is being written.
    SourceError
        If its frames are too large.
    """
    with h5py.File(path, "r") as file:
        dataset = _signal(file) or _largest(file)
        if dataset is None:
            return
        n_bytes = dataset.shape[-1] * dataset.shape[-2] * dataset.dtype.itemsize
        if n_bytes > _MAX_FRAME_BYTES:
            raise SourceError(str(path), f"frames of {n_bytes} bytes are too large")
        if dataset.ndim == 2:
            yield dataset[()], 1
            return
        for number in range(len(dataset)):
            yield dataset[number], len(dataset)


def _signal(file: Any) -> Any | None:
    """Return what NeXus says is to be plotted by default, if those are frames."""
    group: Any = file
    for _ in range(_MAX_DEPTH):
        following = _child(group, group.attrs.get("default"))
        if not isinstance(following, h5py.Group):
            break
        group = following
    found = _child(group, group.attrs.get("signal"))
    return found if _is_frames(found) else None


def _child(group: Any, name: Any) -> Any | None:
    """Return what stands in a group by a hard link."""
    if not isinstance(name, str):
        return None
    is_here = group.get(name, getlink=True, getclass=True) is h5py.HardLink
    return group[name] if is_here else None


def _largest(file: Any) -> Any | None:
    """Return the dataset of frames with the most pixels."""
    found: list[Any] = []
    n_seen = 0

    def look(_name: str, thing: Any) -> bool | None:
        nonlocal n_seen
        n_seen += 1
        if _is_frames(thing):
            found.append(thing)
        return True if n_seen > _MAX_OBJECTS else None

    file.visititems(look)  # It follows hard links only.
    return max(found, key=lambda each: each.size, default=None)


def _is_frames(thing: Any) -> bool:
    return (
        isinstance(thing, h5py.Dataset)
        and thing.ndim in {2, 3}
        and thing.size > 0
        and np.dtype(thing.dtype).kind in "iuf"
        and not thing.is_virtual
    )
