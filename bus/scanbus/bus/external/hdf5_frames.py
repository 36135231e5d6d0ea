"""Datasets of frames in HDF5 files of detectors, opened only if all of it is allowed.

Before one is used, all files behind it are looked at: see `CheckedFiles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters with h5py's HDF5)
import numpy as np
import numpy.typing as npt

from scanbus.bus.external.behind import H5PY_ERRORS, CheckedFiles
from scanbus.bus.external.links import one_line
from scanbus.schemas import FrameDescription
from scanbus.schemas.errors import ExternalFileError

__all__ = ["FrameFiles"]


class FrameFiles:
    """Reads frames of one channel by reference; for one look, or one read.

    Parameters
    ----------
    frames : FrameDescription
        The frames as they were declared.
    roots : sequence of pathlib.Path
        The external roots.
    """

    def __init__(self, frames: FrameDescription, roots: Sequence[Path]) -> None:
        self._frames = frames
        self._files = CheckedFiles(roots)

    def length(self, file: str, path: str) -> tuple[int, int]:
        """Return how many frames a dataset has, and its rank.

        Raises
        ------
        ExternalFileError
            If it cannot be used, or has another type or shape than declared.
        """
        with self._opened(file, path) as dataset:
            return self._length(file, path, dataset)

    @contextmanager
    def _opened(self, file: str, path: str) -> Iterator[h5py.Dataset]:
        """Yield a dataset; what h5py raises is an error of the file."""
        with self._files.opened(file, path) as dataset:
            try:
                yield dataset
            except H5PY_ERRORS as error:
                reason = f"{path} cannot be read ({one_line(error)})"
                raise ExternalFileError(file, reason) from error

    def _length(self, file: str, path: str, dataset: h5py.Dataset) -> tuple[int, int]:
        expected = np.dtype(self._frames.dtype)
        if dataset.dtype.newbyteorder("=") != expected:
            reason = f"{path} holds {dataset.dtype}, declared {expected}"
            raise ExternalFileError(file, reason)
        shape = tuple(dataset.shape or ())
        if shape == self._frames.shape:
            return 1, len(shape)
        if shape[1:] != self._frames.shape or not shape:
            reason = f"{path} has shape {shape}, declared (n, {self._text})"
            raise ExternalFileError(file, reason)
        return int(shape[0]), len(shape)

    @property
    def _text(self) -> str:
        return ", ".join(map(str, self._frames.shape))

    def read(self, file: str, path: str, first: int, count: int) -> npt.NDArray[Any]:
        """Return frames as an array, shape ``(count, *shape)``, of the declared type.

        Raises
        ------
        ExternalFileError
            If the file cannot be used, or has fewer frames.
        """
        with self._opened(file, path) as dataset:
            length, rank = self._length(file, path, dataset)
            if first + count > length:
                reason = f"{path} has {length} frames, not {first + count}"
                raise ExternalFileError(file, reason, is_absent=True)
            is_single = rank == len(self._frames.shape)
            found = dataset[()] if is_single else dataset[first : first + count]
        values = np.asarray(found, np.dtype(self._frames.dtype).newbyteorder("<"))
        return values.reshape((count, *self._frames.shape))
