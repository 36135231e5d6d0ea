"""Compare two folders of HDF5 files, except for the times of writing."""

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from scanbus.schemas.file_names import WORK_FOLDER
from scanbus.writer.masters.unlisted import UnlistedScans
from tests.support.waiting import found_below

__all__ = ["differences", "files_of"]

# Attributes and fields with the time of writing: only these may differ.
TIMES_OF_WRITING = {"file_time", "file_update_time", "date"}
HDF5_SUFFIXES = (".h5", ".nxs", ".hdf5", ".cxi")
SLICE_BYTES = 2**27


def files_of(root: Path) -> set[str]:
    """Return the names of all files below a root that have a final name.

    Without what the root has about itself. Scans that are in no master above them yet
    are listed first.
    """
    UnlistedScans(root, grace_s=0, others_s=0).run()
    return {
        str(path.relative_to(root))
        for path in found_below(root, "*")
        if path.is_file()
        and not path.name.startswith(".")
        and path.relative_to(root).parts[0] != WORK_FOLDER
    }


def differences(left: Path, right: Path) -> list[str]:
    """Return the differences of two trees of files; empty if they are equal."""
    ours, theirs = files_of(left), files_of(right)
    found = [f"only in one: {name}" for name in sorted(ours ^ theirs)]
    for name in sorted(ours & theirs):
        if name.endswith(".sha256"):  # of files that differ in the times of writing
            said = [_files_in(folder / name) for folder in (left, right)]
            found += [] if said[0] == said[1] else [f"{name}: other files"]
            continue
        if not name.endswith(HDF5_SUFFIXES):
            is_same = (left / name).read_bytes() == (right / name).read_bytes()
            found += [] if is_same else [f"{name}: other content"]
            continue
        with _opened(left / name) as a, _opened(right / name) as b:
            found += [f"{name}: {what}" for what in _groups(a, b, "")]
    return found


def _files_in(manifest: Path) -> list[str]:
    lines = manifest.read_text().splitlines()
    return sorted(line.partition("  ")[2] for line in lines)


def _opened(path: Path) -> h5py.File:
    return h5py.File(path, locking=False)  # Some file systems of tests refuse locks.


def _groups(a: h5py.Group, b: h5py.Group, path: str) -> list[str]:
    found = _attributes(a, b, path)
    if list(a) != list(b):
        return [*found, f"{path}: members {sorted(set(a) ^ set(b)) or 'in order'}"]
    for name in a:
        if name not in TIMES_OF_WRITING:
            found += _items(a, b, f"{path}/{name}", name)
    return found


def _items(a: h5py.Group, b: h5py.Group, path: str, name: str) -> list[str]:
    link, other = a.get(name, getlink=True), b.get(name, getlink=True)
    if type(link) is not type(other):
        return [f"{path}: another kind of link"]
    if not isinstance(link, h5py.HardLink):
        same = vars(link) == vars(other) if hasattr(link, "__dict__") else True
        return [] if same else [f"{path}: leads elsewhere"]
    if isinstance(a[name], h5py.Group):
        return _groups(a[name], b[name], path)
    return _attributes(a[name], b[name], path) + _datasets(a[name], b[name], path)


def _attributes(a: Any, b: Any, path: str) -> list[str]:
    found = []
    for name in sorted(set(a.attrs) | set(b.attrs)):
        if name in TIMES_OF_WRITING:
            continue
        if name not in a.attrs or name not in b.attrs:
            found.append(f"{path}@{name}: only in one")
        elif not _equal(a.attrs[name], b.attrs[name]):
            found.append(f"{path}@{name}: {a.attrs[name]!r} and {b.attrs[name]!r}")
    return found


def _datasets(a: h5py.Dataset, b: h5py.Dataset, path: str) -> list[str]:
    if (a.shape, a.dtype, a.chunks) != (b.shape, b.dtype, b.chunks):
        return [f"{path}: another shape, type or chunk"]
    if a.is_virtual != b.is_virtual:
        return [f"{path}: virtual in one only"]
    if a.is_virtual and _sources(a) != _sources(b):
        return [f"{path}: other sources"]
    if not a.shape:
        return [] if _equal(a[()], b[()]) else [f"{path}: other data"]
    # In slices: a scan of real frames does not fit in memory.
    rows = max(1, SLICE_BYTES // max(1, a[:1].nbytes))
    for start in range(0, len(a), rows):
        if not _equal(a[start : start + rows], b[start : start + rows]):
            return [f"{path}: other data from {start} on"]
    return []


def _sources(dataset: h5py.Dataset) -> list[tuple[Any, ...]]:
    return [
        (one.file_name, one.dset_name, *one.vspace.get_select_bounds())
        for one in dataset.virtual_sources()
    ]


def _equal(a: Any, b: Any) -> bool:
    left, right = np.asarray(a), np.asarray(b)
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.dtype.kind == "O":
        return bool(np.all(left == right))
    return left.tobytes() == right.tobytes()
