"""Datasets of frames in HDF5 files of detectors, opened only if all of it is allowed.

HDF5 follows external links, sources of virtual datasets and external raw files by
itself, wherever they lead. So links are followed here, one by one, and files behind a
dataset are looked at before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import hdf5plugin  # noqa: F401  (registers the filters with h5py's HDF5)
import numpy as np
import numpy.typing as npt

from scanbus.bus.external.paths import file_below
from scanbus.schemas import FrameDescription
from scanbus.schemas.errors import ExternalFileError

__all__ = ["FrameFiles", "opened_frames"]

_MOST_HOPS: Final = 16
_MOST_SOURCES: Final = 500
_DEEPEST: Final = 4
# What h5py raises for files and objects that are damaged, or not there.
_H5PY_ERRORS: Final = (OSError, RuntimeError, KeyError, ValueError, TypeError)


@contextmanager
def opened_frames(
    file: str, path: str, roots: Sequence[Path], depth: int = 0
) -> Iterator[h5py.Dataset]:
    """Yield a dataset that a reference names, after everything behind it was checked.

    Parameters
    ----------
    file, path : str
        Absolute path of the file, and of the dataset in it.
    roots : sequence of pathlib.Path
        The external roots.

    Raises
    ------
    ExternalFileError
        If the file, the dataset, or a file behind it cannot be used.
    """
    with ExitStack() as stack:
        try:
            dataset = _Finder(file, roots, stack).find(path)
            if not isinstance(dataset, h5py.Dataset):
                raise ExternalFileError(file, f"{path} is no dataset")
            _check_behind(dataset, file, roots, depth)
        except _H5PY_ERRORS as error:
            reason = f"{path} cannot be read ({_one_line(error)})"
            raise ExternalFileError(file, reason) from error
        yield dataset


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


class _Finder:
    """Finds an object by its path, link by link, in files below the roots."""

    def __init__(self, file: str, roots: Sequence[Path], stack: ExitStack) -> None:
        self._roots = roots
        self._stack = stack
        self._hops = 0
        self._open(file)

    def _open(self, file: str) -> None:
        self._file_name = file
        self._real = file_below(file, self._roots)
        self._file = self._stack.enter_context(_opened(self._real, file))

    def find(self, path: str) -> Any:
        """Return the object; a soft or an external link starts again at its target."""
        here: Any = self._file
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for position, part in enumerate(parts):
            if not isinstance(here, h5py.Group):
                raise ExternalFileError(self._file_name, f"has no {path}")
            link = here.get(part, getlink=True)
            if link is None:
                raise ExternalFileError(
                    self._file_name, f"has no {path}", is_absent=True
                )
            if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
                return self._follow(here, link, parts[position + 1 :])
            here = here[part]
        return here

    def _follow(self, here: h5py.Group, link: Any, rest: Sequence[str]) -> Any:
        self._hops += 1
        if self._hops > _MOST_HOPS:
            raise ExternalFileError(self._file_name, "has a loop of links")
        target = link.path
        if isinstance(link, h5py.ExternalLink):
            self._open(str(self._real.parent / link.filename))
        elif not target.startswith("/"):
            target = f"{here.name}/{target}"
        return self.find("/".join((target, *rest)))


def _opened(real: Path, name: str) -> h5py.File:
    """Open a file for reading, also one that its detector still writes (SWMR)."""
    with real.open("rb"):  # Releases the GIL, which HDF5's open does not.
        pass
    try:
        return h5py.File(real, "r", locking=False)
    except OSError as error:
        try:
            return h5py.File(real, "r", locking=False, swmr=True)
        except (OSError, ValueError):
            reason = f"cannot be opened as HDF5 ({_one_line(error)})"
            raise ExternalFileError(name, reason, is_absent=True) from error


def _check_behind(
    dataset: h5py.Dataset, file: str, roots: Sequence[Path], depth: int
) -> None:
    """Check the files from which HDF5 would read the values of a dataset."""
    folder = Path(dataset.file.filename).parent
    for name, *_ in dataset.external or ():
        file_below(str(folder / name), roots)
    if not dataset.is_virtual:
        return
    if depth >= _DEEPEST:
        raise ExternalFileError(file, "has virtual datasets behind one another")
    sources = {(each.file_name, each.dset_name) for each in dataset.virtual_sources()}
    if len(sources) > _MOST_SOURCES:
        raise ExternalFileError(file, f"has {len(sources)} virtual sources")
    for name, path in sources:
        if "%" in name or "%" in path:
            raise ExternalFileError(file, f"names sources by a pattern, {name}")
        if name != ".":
            with opened_frames(str(folder / name), path, roots, depth + 1):
                pass


class FrameFiles:
    """Reads frames of one channel by reference; see `opened_frames`.

    Parameters
    ----------
    frames : FrameDescription
        The frames as they were declared.
    roots : sequence of pathlib.Path
        The external roots.
    """

    def __init__(self, frames: FrameDescription, roots: Sequence[Path]) -> None:
        self._frames = frames
        self._roots = tuple(roots)

    def length(self, file: str, path: str) -> tuple[int, int]:
        """Return how many frames a dataset has, and its rank.

        Raises
        ------
        ExternalFileError
            If it cannot be used, or has another type or shape than declared.
        """
        with opened_frames(file, path, self._roots) as dataset:
            return self._length(file, path, dataset)

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
        with opened_frames(file, path, self._roots) as dataset:
            length, rank = self._length(file, path, dataset)
            if first + count > length:
                reason = f"{path} has {length} frames, not {first + count}"
                raise ExternalFileError(file, reason, is_absent=True)
            try:
                found = (
                    dataset[()]
                    if rank == len(self._frames.shape)
                    else (dataset[first : first + count])
                )
            except _H5PY_ERRORS as error:
                reason = f"{path} cannot be read ({_one_line(error)})"
                raise ExternalFileError(file, reason) from error
        values = np.asarray(found, np.dtype(self._frames.dtype).newbyteorder("<"))
        return values.reshape((count, *self._frames.shape))
