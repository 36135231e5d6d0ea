"""What all files of the ESRF layout share: the root's attributes, times, names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2s
from importlib.metadata import PackageNotFoundError, version

import h5py

from scanbus.schemas.names import MAX_NAME_LENGTH
from scanbus.writer.model.nexus_tree import Value

__all__ = ["iso_time", "now_iso", "root_attributes", "scanbus_version", "unique_name"]

CREATOR = "scanbus"


def root_attributes(
    file_name: str, publisher: str, now_iso: str, *, creator_version: str | None = None
) -> dict[str, Value]:
    """Return the attributes of an NXroot, without ``NX_class`` and ``default``.

    Parameters
    ----------
    file_name : str
        Name of the file, without folder: the tree may be moved.
    publisher : str
        Program that published the scan, with its version behind a blank if it said
        one; empty where the file is nobody's.
    now_iso : str
        When this version of the file is written.
    creator_version : str, optional
        Version of scanbus; that of the installed one by default.

    References
    ----------
    NeXus base class NXroot.
    """
    name, _, publisher_version = publisher.strip().partition(" ")
    written_by: dict[str, Value] = {
        "file_name": file_name,
        # A new version is a new file under the old name, hence one time for both.
        "file_time": now_iso,
        "file_update_time": now_iso,
        "creator": CREATOR,
        "creator_version": creator_version or scanbus_version(),
        "HDF5_Version": h5py.version.hdf5_version,
        "h5py_version": h5py.version.version,
    }
    if name:
        written_by["publisher"] = name
    if publisher_version:
        written_by["publisher_version"] = publisher_version
    return written_by


@cache
def scanbus_version() -> str:
    """Return the version of the installed scanbus."""
    try:
        return version(CREATOR)
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"


def now_iso() -> str:
    """Return the time as files state it: local, ISO 8601, with the offset from UTC."""
    return datetime.now(UTC).astimezone().isoformat()


def iso_time(seconds: float) -> str:
    """Return a time of a document as files state it.

    Parameters
    ----------
    seconds : float
        Since 1970 (UTC). It came over the bus and may be anything: what is no time
        of a calendar becomes 1970.

    Examples
    --------
    >>> datetime.fromisoformat(iso_time(1.5)).timestamp()
    1.5
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat()
    except (OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(0, UTC).isoformat()


def unique_name(wanted: str, taken: Collection[str]) -> str:
    """Return a NeXus name that is not taken, the wanted one if it can be.

    Examples
    --------
    >>> unique_name("lysozyme-2_0001_1.1", ())
    'lysozyme_2_0001_1.1'
    >>> unique_name("plot", {"plot"})
    'plot_2'
    >>> unique_name("a" * 80, ())[-12:]
    'aaaa_b8bd094'
    """
    name = re.sub(r"[^a-zA-Z0-9_.]", "_", wanted).strip(".") or "_"
    if len(name) > MAX_NAME_LENGTH:
        # A digest, so that the same name is cut the same way in every file.
        digest = blake2s(os.fsencode(wanted), digest_size=4).hexdigest()[:7]
        name = f"{name[: MAX_NAME_LENGTH - 8]}_{digest}"
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name[: MAX_NAME_LENGTH - 6]}_{number}"
    return found
