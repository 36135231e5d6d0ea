"""A process that reads HDF5 files as users do: plain h5py, in any current folder."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401

# HDF5 looks into these folders first; it reads the variables when it is loaded.
PREFIXES = ("HDF5_VDS_PREFIX", "HDF5_EXT_PREFIX", "HDF5_EXTFILE_PREFIX")
_DEEPEST = 8


class Failed(Enum):
    """What stands for a point that cannot be read."""

    FAILED = "an error"


FAILED = Failed.FAILED
Points = list[Any]
"""The points of one dataset, one by one; `FAILED` for one that cannot be read."""
Found = dict[str, Points]
"""Path of each dataset below an NXentry, by any way down, to its points."""


class FileReader:
    """The other end of the process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, path: Path, folder: Path) -> Found:
        """Read everything in a file, with `folder` as the current folder."""
        self._connection.send((path, folder))
        found: Found = self._connection.recv()
        return found


@contextmanager
def file_reader(prefix: Path | None = None) -> Iterator[FileReader]:
    """Run the process, with a folder into which HDF5 looks first or without."""
    ours, theirs = multiprocessing.Pipe()
    said = {} if prefix is None else dict.fromkeys(PREFIXES, str(prefix))
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, said), daemon=True
    )
    before = {name: os.environ.pop(name, None) for name in PREFIXES}
    os.environ.update(said)
    try:
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    try:
        yield FileReader(ours)
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()


def _serve(connection: Connection, said: Mapping[str, str]) -> None:
    assert said.items() <= os.environ.items()
    while True:
        path, folder = connection.recv()
        os.chdir(folder)
        connection.send(_read_file(path))


def _read_file(path: Path) -> Found:
    found: Found = {}
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError:
        return found
    with file:
        for name in file:
            for below, node in _walk(file, name, 0):
                found[below] = _points(node)
    return found


def _walk(group: h5py.Group, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield all datasets below a name, links followed."""
    try:
        node = group[name]
    except (KeyError, OSError):
        return
    if isinstance(node, h5py.Dataset):
        yield name, node
        return
    for child in node if depth < _DEEPEST else ():
        for below, dataset in _walk(node, child, depth + 1):
            yield f"{name}/{below}", dataset


def _points(dataset: h5py.Dataset) -> Points:
    whole = _read(dataset, ...)
    if dataset.ndim == 0:
        return [whole]
    if whole is not FAILED:
        return list(whole)
    return [_read(dataset, index) for index in range(len(dataset))]


def _read(dataset: h5py.Dataset, index: Any) -> Any:
    try:
        return dataset[index]
    except (OSError, KeyError):
        return FAILED
