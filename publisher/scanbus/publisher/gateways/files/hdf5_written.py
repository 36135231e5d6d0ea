"""Tell which frames of an HDF5 dataset were written.

A dataset has a size before it has values; what was never written reads as fill values,
as does what a virtual dataset does not map, or maps to what was never written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from scanbus.schemas.errors import SourceError

__all__ = ["length_of", "missing_source", "written_frames"]

# Virtual datasets of virtual datasets.
_MAX_DEPTH = 8


def length_of(dataset: Any) -> int:
    """Return how many frames a dataset declares."""
    return 1 if dataset.ndim == 2 else len(dataset)


def written_frames(path: Path, dataset: Any, depth: int = 0) -> Sequence[int]:
    """Return the numbers of the frames of which every chunk was written.

    Parameters
    ----------
    path : Path
        The file that was named, for errors.
    dataset : h5py.Dataset
        Of two dimensions, which is one frame, or three.
    depth : int
        How many virtual datasets led to it.

    Raises
    ------
    SourceError
        If a virtual dataset is of a file that is not there, or that lacks frames.
    """
    if dataset.is_virtual:
        return _mapped(path, dataset, depth)
    n_frames = length_of(dataset)
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


def _mapped(path: Path, dataset: Any, depth: int) -> Sequence[int]:
    """Return the frames of a virtual dataset that are as complete as any of them.

    Gaps between the modules of a detector are in no file.
    """
    n_of: Counter[int] = Counter()
    for mapping in dataset.virtual_sources():
        _check_source(path, dataset, mapping, depth)
        rows = _rows_of(mapping.vspace, dataset)
        n_pixels = mapping.vspace.get_select_npoints() // max(1, len(rows))
        n_of.update(dict.fromkeys(rows, n_pixels))
    most = max(n_of.values(), default=0)
    return sorted(row for row, count in n_of.items() if count == most)


def _rows_of(space: Any, dataset: Any) -> Sequence[int]:
    """Return the numbers of the frames that are selected of a dataset."""
    if dataset.ndim == 2:
        return range(1)
    n_frames = len(dataset)
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return range(n_frames)
    if not _is_regular(space):
        low, high = space.get_select_bounds()
        return range(low[0], min(high[0] + 1, n_frames))
    start, stride, count, block = (each[0] for each in space.get_regular_hyperslab())
    if block >= stride or count == 1:
        return range(start, min(start + (count - 1) * stride + block, n_frames))
    return [
        row
        for first in range(start, min(start + count * stride, n_frames), stride)
        for row in range(first, min(first + block, n_frames))
    ]


def _is_regular(space: Any) -> bool:
    is_slab = space.get_select_type() == h5py.h5s.SEL_HYPERSLABS
    return bool(is_slab and space.is_regular_hyperslab())


def _check_source(path: Path, dataset: Any, mapping: Any, depth: int) -> None:
    name = Path(mapping.file_name)
    if mapping.file_name == ".":
        _check_whole(path, dataset.file, mapping, depth)
        return
    # HDF5 would look in the current folder, too, where others may be named alike.
    found = Path(dataset.file.filename).parent / name
    if not found.is_file():
        raise missing_source(path, name)
    with h5py.File(found, "r") as file:
        _check_whole(path, file, mapping, depth)


def _check_whole(path: Path, file: Any, mapping: Any, depth: int) -> None:
    """Refuse a file that lacks frames which a virtual dataset has."""
    source = file.get(mapping.dset_name)
    if not isinstance(source, h5py.Dataset) or source.external or depth > _MAX_DEPTH:
        raise missing_source(path, Path(mapping.file_name))
    if source.ndim not in {2, 3}:
        return  # Rows of a frame, say: nobody writes those in part.
    needed = set(_rows_of(mapping.src_space, source))
    lacking = needed - set(written_frames(path, source, depth + 1))
    if lacking:
        raise SourceError(
            str(path),
            f"{len(lacking)} of {len(needed)} frames in {mapping.file_name} were never "
            "written",
        )


def missing_source(path: Path, name: Path) -> SourceError:
    """Return the error of a file whose frames are in another, which is not there."""
    return SourceError(
        str(path),
        f"its frames are in {name}, which is not there or cannot be read: put it "
        "beside this file",
    )
