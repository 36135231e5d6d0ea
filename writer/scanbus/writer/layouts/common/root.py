"""Root attributes and times in all files: masters, segments and scan files."""

from __future__ import annotations

from datetime import UTC, datetime

from scanbus.writer.model.file_stamp import CREATOR, FileStamp
from scanbus.writer.model.nexus_tree import Value

__all__ = ["iso_time", "root_attributes"]


def root_attributes(
    file_name: str, publisher: str, stamp: FileStamp
) -> dict[str, Value]:
    """Return the attributes of an NXroot, without ``NX_class`` and ``default``.

    Parameters
    ----------
    file_name : str
        Name of the file without folder, since the folder tree may be moved.
    publisher : str
        Program that published the scan, followed by a space and its version if known;
        empty for a file that has no publisher.
    stamp : FileStamp
        Provenance of this version of the file.

    References
    ----------
    NeXus base class NXroot.
    """
    name, _, publisher_version = publisher.strip().partition(" ")
    written_by: dict[str, Value] = {
        "file_name": file_name,
        # A new version replaces the file as a whole, so both times are the same.
        "file_time": stamp.time,
        "file_update_time": stamp.time,
        "creator": CREATOR,
        "creator_version": stamp.scanbus_version,
        "HDF5_Version": stamp.hdf5_version,
        "h5py_version": stamp.h5py_version,
    }
    if stamp.commit:
        written_by["creator_commit"] = stamp.commit
    if stamp.hdf5plugin_version:
        written_by["hdf5plugin_version"] = stamp.hdf5plugin_version
    if stamp.codecs:
        written_by["codec_versions"] = stamp.codecs
    if name:
        written_by["publisher"] = name
    if publisher_version:
        written_by["publisher_version"] = publisher_version
    return written_by


def iso_time(seconds: float) -> str:
    """Return a time as ISO 8601 text with UTC offset (NeXus type NX_DATE_TIME).

    Parameters
    ----------
    seconds : float
        Seconds since 1970 (UTC). It comes from the bus unchecked; a value outside the
        calendar becomes 1970.

    Examples
    --------
    >>> datetime.fromisoformat(iso_time(1.5)).timestamp()
    1.5
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat()
    except (OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(0, UTC).isoformat()
