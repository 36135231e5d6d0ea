"""What all files of the ESRF layout share: the root's attributes, times, names."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from scanbus.schemas.names import MAX_NAME_LENGTH, nexus_name
from scanbus.writer.model.file_stamp import CREATOR, FileStamp
from scanbus.writer.model.nexus_tree import Value

__all__ = ["iso_time", "root_attributes", "unique_name"]


def root_attributes(
    file_name: str, publisher: str, stamp: FileStamp
) -> dict[str, Value]:
    """Return the attributes of an NXroot, without ``NX_class`` and ``default``.

    Parameters
    ----------
    file_name : str
        Name of the file, without folder: the tree may be moved.
    publisher : str
        Program that published the scan, with its version behind a blank if it said
        one; empty where the file is nobody's.
    stamp : FileStamp
        Of this version of the file.

    References
    ----------
    NeXus base class NXroot.
    """
    name, _, publisher_version = publisher.strip().partition(" ")
    written_by: dict[str, Value] = {
        "file_name": file_name,
        # A new version is a new file under the old name, hence one time for both.
        "file_time": stamp.time,
        "file_update_time": stamp.time,
        "creator": CREATOR,
        "creator_version": stamp.scanbus_version,
        "HDF5_Version": stamp.hdf5_version,
        "h5py_version": stamp.h5py_version,
    }
    if name:
        written_by["publisher"] = name
    if publisher_version:
        written_by["publisher_version"] = publisher_version
    return written_by


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
    """
    name = nexus_name(wanted)
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name[: MAX_NAME_LENGTH - 6]}_{number}"
    return found
