"""Provenance of files written by this process: time and software versions."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import h5py

from scanbus.writer.model.file_stamp import CREATOR, FileStamp

__all__ = ["stamp_now"]


def stamp_now() -> FileStamp:
    """Return the stamp of a file written now by this process."""
    return FileStamp(
        time=datetime.now(UTC).astimezone().isoformat(),
        scanbus_version=_scanbus_version(),
        hdf5_version=h5py.version.hdf5_version,
        h5py_version=h5py.version.version,
    )


@cache
def _scanbus_version() -> str:
    try:
        return version(CREATOR)
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"
