"""Look at all files from which HDF5 would read the values of a dataset.

Sources of virtual datasets may be virtual themselves, stand behind links, or have their
values in raw files. Everything that is reached must lie below the roots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import h5py

from scanbus.bus.external.links import Finder, found_by_hdf5, one_line
from scanbus.bus.external.names import literal_name
from scanbus.bus.external.paths import file_below
from scanbus.schemas.errors import ExternalFileError

__all__ = ["H5PY_ERRORS", "CheckedFiles"]

H5PY_ERRORS: Final = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises for files and objects that are damaged, or not there."""
# A few small files that name each other may lead to any number of looks.
_MOST_SOURCES: Final = 500
_MOST_MAPPINGS: Final = 10_000
_MOST_LOOKS: Final = 5_000
_DEEPEST: Final = 4


class CheckedFiles:
    """Opens datasets whose files were all looked at; each source once.

    Parameters
    ----------
    roots : sequence of pathlib.Path
        The external roots.
    most_looks : int
        How many sources of virtual datasets are looked at, for all datasets together.
    """

    def __init__(self, roots: Sequence[Path], most_looks: int = _MOST_LOOKS) -> None:
        self._roots = tuple(roots)
        self._most_looks = most_looks
        # Of sources that may be read: how many virtual datasets stand behind them.
        self._depths: dict[tuple[str, str], int] = {}
        self._n_looks = 0

    @contextmanager
    def opened(self, file: str, path: str) -> Iterator[h5py.Dataset]:
        """Yield a dataset, after everything behind it was checked.

        Parameters
        ----------
        file, path : str
            Absolute path of the file, and of the dataset in it.

        Raises
        ------
        ExternalFileError
            If the file, the dataset, or a file behind it cannot be used.
        """
        with ExitStack() as stack:
            try:
                finder = Finder(file, self._roots, stack)
                dataset = _found(finder, path)
                self._look_behind(dataset, finder, 0)
            except H5PY_ERRORS as error:
                reason = f"{path} cannot be read ({one_line(error)})"
                raise ExternalFileError(file, reason) from error
            yield dataset

    def _look_behind(self, dataset: h5py.Dataset, finder: Finder, depth: int) -> int:
        """Check the files behind a dataset; return how deep it is."""
        if dataset.external:
            _check_raw_files(dataset, finder.file_name, self._roots)
        if not dataset.is_virtual:
            return 0
        if depth >= _DEEPEST:
            reason = f"has more than {_DEEPEST} virtual datasets behind one another"
            raise ExternalFileError(finder.file_name, reason)
        sources = _sources(dataset, finder.file_name)
        return 1 + max(
            (self._look_at(*each, finder, depth + 1) for each in sorted(sources)),
            default=0,
        )

    def _look_at(self, name: str, path: str, origin: Finder, depth: int) -> int:
        """Check a source of a virtual dataset; return how deep it is."""
        # "." is the very file in which the virtual dataset stands.
        file = str(origin.named)
        if name != ".":
            file = found_by_hdf5(name, origin.folders, self._roots)
        known = self._depths.get((file, path))
        if known is None:
            self._count_look(file)
            with ExitStack() as stack:
                finder = Finder(file, self._roots, stack, is_resolved=False)
                known = self._look_behind(_found(finder, path), finder, depth)
            # Only now: one that leads to itself is never done.
            self._depths[file, path] = known
        if depth + known > _DEEPEST:
            reason = f"has more than {_DEEPEST} virtual datasets behind one another"
            raise ExternalFileError(file, reason)
        return known

    def _count_look(self, file: str) -> None:
        self._n_looks += 1
        if self._n_looks > self._most_looks:
            reason = (
                f"is not opened: more than {self._most_looks} sources of virtual "
                "datasets stand behind these files"
            )
            raise ExternalFileError(file, reason)


def _found(finder: Finder, path: str) -> h5py.Dataset:
    found = finder.find(path)
    if not isinstance(found, h5py.Dataset):
        raise ExternalFileError(finder.file_name, f"{path} is no dataset")
    return found


def _sources(dataset: h5py.Dataset, file: str) -> set[tuple[str, str]]:
    """Return file and dataset of each source."""
    n_mappings = dataset.id.get_create_plist().get_virtual_count()
    if n_mappings > _MOST_MAPPINGS:
        raise ExternalFileError(file, f"has {n_mappings} virtual mappings")
    given = {(each.file_name, each.dset_name) for each in dataset.virtual_sources()}
    if len(given) > _MOST_SOURCES:
        raise ExternalFileError(file, f"has {len(given)} virtual sources")
    found: set[tuple[str, str]] = set()
    for name, path in given:
        names = literal_name(name), literal_name(path)
        if names[0] is None or names[1] is None:
            reason = f"names sources by a pattern, {name} {path}: not opened"
            raise ExternalFileError(file, reason)
        found.add((names[0], names[1]))
    return found


def _check_raw_files(dataset: h5py.Dataset, file: str, roots: Sequence[Path]) -> None:
    """Check external raw files; where HDF5 looks for relative ones, nobody can say."""
    needed = dataset.size * dataset.id.get_type().get_size()
    for name, offset, size in dataset.external:
        if not Path(name).is_absolute():
            reason = f"has its values in {name}, relative to any folder: not opened"
            raise ExternalFileError(file, reason)
        n_bytes = min(size, needed) if size >= 0 else needed
        found = file_below(name, roots).stat().st_size
        if found < offset + n_bytes:  # HDF5 would read zeros.
            reason = f"has {found} of {offset + n_bytes} bytes"
            raise ExternalFileError(name, reason, is_absent=True)
        needed -= n_bytes
