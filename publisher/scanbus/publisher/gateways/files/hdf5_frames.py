"""Read frames of HDF5 files that a detector's program has written.

Chunks that were never written read as fill values: frames of them are none, also if
they are read by way of another file.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors use
import numpy.typing as npt

from scanbus.publisher.gateways.files.hdf5_datasets import frame_datasets
from scanbus.publisher.gateways.files.hdf5_header import header_of
from scanbus.publisher.gateways.files.hdf5_written import length_of, written_frames
from scanbus.publisher.gateways.files.headers.nexus import HDF5_KEY, Hdf5Header
from scanbus.schemas.errors import SourceError

__all__ = ["hdf5_headers", "read_hdf5"]

# What writers name as creator of each of their files.
_CREATOR: Final = "scanbus"
# A declared size is not a stored one: a small file may declare any.
_MAX_FRAME_BYTES: Final = 2**31
_MAX_FRAMES: Final = 2**31


def read_hdf5(
    path: Path,
    *,
    follows_links: bool = False,
    partial: bool = False,
    foreign: bool = False,
) -> Generator[tuple[int, npt.NDArray[Any], dict[str, Any], int], None, None]:
    """Yield number, data, header of each frame, and how many frames there are.

    There may be none. Data have the shape ``(i, j)``.

    Parameters
    ----------
    path : Path
        The file.
    follows_links : bool
        Whether frames in other files count, if it has none itself.
    partial : bool
        Whether frames are left out that were never written.
    foreign : bool
        Whether a file of a scanbus writer counts as one without frames.

    Raises
    ------
    OSError
        If the file is no whole HDF5 file, or is being written.
    SourceError
        If its frames are too large, some were never written, or it links to a file
        that is not there.
    """
    with h5py.File(path, "r") as file:
        if foreign and _text(file.attrs.get("creator")) == _CREATOR:
            return
        found = _frames_of(path, file, follows_links, partial)
        for part in found.parts:
            for number in part.written:
                data = part.dataset
                pixels = data[()] if data.ndim == 2 else data[number]
                number_in_file = part.first + number
                header = found.header_of(number_in_file)
                yield number_in_file, pixels, header, found.n_frames


def hdf5_headers(path: Path) -> list[dict[str, Any]]:
    """Return the header of each frame that `read_hdf5` yields, links followed.

    Raises
    ------
    OSError, SourceError
        As `read_hdf5`.
    """
    with h5py.File(path, "r") as file:
        found = _frames_of(path, file, follows_links=True, partial=False)
        return [*map(found.header_of, range(found.n_frames))]


@dataclass(frozen=True, slots=True)
class _Part:
    """A dataset of frames, the number of its first one, and which were written."""

    dataset: Any
    first: int
    written: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Frames:
    """All frames of a file, and what stands around them."""

    parts: list[_Part]
    n_frames: int
    header: Hdf5Header | None

    def header_of(self, number: int) -> dict[str, Any]:
        """Return the header of a frame."""
        return {} if self.header is None else {HDF5_KEY: self.header.of_frame(number)}


def _frames_of(path: Path, file: Any, follows_links: bool, partial: bool) -> _Frames:
    """Return the frames of a file, none of which is read yet."""
    datasets = frame_datasets(path, file, follows_links=follows_links)
    n_frames = sum(map(length_of, datasets))
    if n_frames > _MAX_FRAMES:
        raise SourceError(str(path), f"it declares {n_frames} frames, too many")
    parts: list[_Part] = []
    first = 0
    for dataset in datasets:
        n_bytes = dataset.shape[-1] * dataset.shape[-2] * dataset.dtype.itemsize
        if n_bytes > _MAX_FRAME_BYTES:
            raise SourceError(str(path), f"frames of {n_bytes} bytes are too large")
        parts.append(_Part(dataset, first, written_frames(path, dataset)))
        first += length_of(dataset)
    n_written = sum(len(part.written) for part in parts)
    if n_written < n_frames and not (n_written and partial):
        n_lacking = n_frames - n_written
        reason = f"{n_lacking} of {n_frames} frames were never written"
        raise SourceError(str(path), reason)
    header = header_of(path, file, datasets[0], n_frames) if datasets else None
    return _Frames(parts, n_frames, header)


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
