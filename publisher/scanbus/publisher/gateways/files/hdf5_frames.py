"""Read frames of HDF5 files that a detector's program has written.

A file's frames are one dataset of its own: what it links to in other files, also by a
virtual dataset or as raw data, stands there. Chunks that were never written read as
fill values: frames of them are none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors use
import numpy as np
import numpy.typing as npt

from scanbus.schemas.errors import SourceError

__all__ = ["read_hdf5"]

# What writers name as creator of each of their files.
_CREATOR = "scanbus"
_MAX_OBJECTS = 10_000
_MAX_DEPTH = 16
# A declared size is not a stored one: a small file may declare any.
_MAX_FRAME_BYTES = 2**31
_MAX_FRAMES = 2**31


def read_hdf5(
    path: Path, *, partial: bool = False, foreign: bool = False
) -> Iterator[tuple[int, npt.NDArray[Any], int]]:
    """Yield number and data, shape ``(i, j)``, of each frame, and how many there are.

    There may be none.

    Parameters
    ----------
    partial : bool
        Whether frames are left out that were never written.
    foreign : bool
        Whether a file of a scanbus writer counts as one without frames.

    Raises
    ------
    OSError
        If the file is no whole HDF5 file, or is being written.
    SourceError
        If its frames are too large, or some were never written.
    """
    with h5py.File(path, "r") as file:
        if foreign and _text(file.attrs.get("creator")) == _CREATOR:
            return
        dataset = _signal(file)
        if dataset is None:
            dataset = _largest(file)
        if dataset is None or not _is_own(dataset):
            return
        n_bytes = dataset.shape[-1] * dataset.shape[-2] * dataset.dtype.itemsize
        if n_bytes > _MAX_FRAME_BYTES:
            raise SourceError(str(path), f"frames of {n_bytes} bytes are too large")
        n_frames = 1 if dataset.ndim == 2 else len(dataset)
        if n_frames > _MAX_FRAMES:
            raise SourceError(str(path), f"it declares {n_frames} frames, too many")
        written = _written(dataset, n_frames)
        if len(written) < n_frames and not (written and partial):
            n_lacking = n_frames - len(written)
            reason = f"{n_lacking} of {n_frames} frames were never written"
            raise SourceError(str(path), reason)
        for number in written:
            data = dataset[()] if dataset.ndim == 2 else dataset[number]
            yield number, data, n_frames


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _written(dataset: Any, n_frames: int) -> range | list[int]:
    """Return the numbers of the frames of which every chunk was written."""
    chunks = dataset.chunks
    if chunks is None:
        is_empty = dataset.id.get_storage_size() == 0
        return range(0 if is_empty else n_frames)
    sizes = zip(dataset.shape, chunks, strict=True)
    n_each = [-(-size // chunk) for size, chunk in sizes]
    if dataset.id.get_num_chunks() == math.prod(n_each):
        return range(n_frames)
    is_single = dataset.ndim == 2
    n_needed = math.prod(n_each if is_single else n_each[1:])
    per_row = 1 if is_single else chunks[0]
    n_found: Counter[int] = Counter()

    def look(chunk: Any) -> None:
        n_found[0 if is_single else chunk.chunk_offset[0] // per_row] += 1

    dataset.id.chunk_iter(look)
    rows = sorted(row for row, count in n_found.items() if count == n_needed)
    return [
        number
        for row in rows
        for number in range(row * per_row, min((row + 1) * per_row, n_frames))
    ]


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
    """Return what stands in a group itself, by a hard link."""
    if not isinstance(name, str) or "/" in name or name in {"", "."}:
        return None
    is_here = group.get(name, getlink=True, getclass=True) is h5py.HardLink
    return group[name] if is_here else None


def _largest(file: Any) -> Any | None:
    """Return the dataset of frames with the most pixels, its own or not."""
    found: list[Any] = []
    n_seen = 0

    def look(_name: str, thing: Any) -> bool | None:
        nonlocal n_seen
        n_seen += 1
        if _is_frames(thing):
            found.append(thing)
        return True if n_seen > _MAX_OBJECTS else None

    file.visititems(look)  # It follows hard links only.
    return max(found, key=lambda each: (each.size, _is_own(each)), default=None)


def _is_frames(thing: Any) -> bool:
    return (
        isinstance(thing, h5py.Dataset)
        and thing.ndim in {2, 3}
        and thing.size > 0
        and np.dtype(thing.dtype).kind in "iuf"
    )


def _is_own(dataset: Any) -> bool:
    """Whether the values of a dataset are in its own file."""
    return not dataset.is_virtual and not dataset.external
