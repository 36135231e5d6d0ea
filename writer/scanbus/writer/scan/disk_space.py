"""Disk space: what a scan still needs, what is free, and sentences about shortage.

A full disk pauses a scan but does not fail it: the data stay on the bus, and the writer
continues once there is space.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from scanbus.schemas.errors import StorageFullError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.scan.pace import Pace
from scanbus.writer.storage.error_numbers import errno_of

if TYPE_CHECKING:
    # Not loaded with this module: the service measures space and has no HDF5.
    from scanbus.writer.scan.lane_writer import LaneWriter

__all__ = [
    "FreeSpace",
    "SpaceWatch",
    "bytes_needed",
    "check_space",
    "disk_of",
    "free_bytes",
    "is_full",
    "storage_sentence",
]

log = get_logger()
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def bytes_needed(lanes: Iterable[LaneWriter], folder: Path) -> int:
    """Return an estimate of the bytes that the rest of a scan needs on the disk.

    Counts points that are declared or known to be on the bus, at the size per point of
    the last segment; at their uncompressed size if there is no segment yet.
    """
    needed = 0
    for lane in lanes:
        expected = [channel.points or 0 for channel in lane.lane.channels]
        length = lane.reader.length
        to_come = max([lane.reader.expected, *expected]) if length is None else length
        point_bytes = _point_bytes(lane, folder)
        needed += int(max(0, to_come - lane.stored) * point_bytes)
    return needed


def _point_bytes(lane: LaneWriter, folder: Path) -> float:
    last: SegmentFile | None = lane.segments[-1] if lane.segments else None
    # A shared segment has other lanes too.
    if last is None or not lane.has_own_files or last.stop == last.start:
        return float(lane.lane.point_bytes)
    try:
        size = (folder / last.name).stat().st_size
    except OSError:
        return float(lane.lane.point_bytes)
    return size / (last.stop - last.start)


def check_space(root: Path, needed: int, *, least: int) -> int:
    """Return the free bytes below a root, if a scan may start or continue.

    Parameters
    ----------
    needed : int
        Bytes that the scan is expected to need; used in the error only.
    least : int
        Required free bytes.

    Raises
    ------
    StorageFullError
        If less than `least` is free.
    """
    free = shutil.disk_usage(root).free
    if free < least:
        raise StorageFullError(str(root), max(needed, least), free)
    return free


class SpaceWatch:
    """Free space for one scan, with a warning before it is short.

    Parameters
    ----------
    root : pathlib.Path
        The root.
    folder : pathlib.Path
        The scan's folder, which may be on another disk: mounted there, or by a link.
    pace : Pace
        Bytes below which the scan does not continue, and below which to warn.
    """

    def __init__(self, root: Path, folder: Path, pace: Pace) -> None:
        self._root = root
        self._folder = folder
        self._least = pace.least_free_bytes
        self._low = pace.low_water_bytes
        self._is_low = False

    def check(self, needed: int) -> None:
        """Raise StorageFullError if space is short; warn once before it is.

        Parameters
        ----------
        needed : int
            Estimate of the bytes that the scan still needs.
        """
        disk = disk_of(self._root, self._folder)
        free = check_space(disk, needed, least=self._least)
        was_low, self._is_low = (
            self._is_low,
            free < max(needed + self._least, self._low),
        )
        if self._is_low and not was_low:
            log.warning(
                LogEvent.LOW_SPACE,
                root=str(disk),
                free_gb=round(free / 1e9, 2),
                needed_gb=round(needed / 1e9, 2),
            )


def disk_of(root: Path, folder: Path) -> Path:
    """Return the root, or the folder if that is on another disk."""
    return root if root.stat().st_dev == folder.stat().st_dev else folder


def free_bytes(root: Path) -> int:
    """Return the free bytes below a root; 0 if the root is not accessible."""
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return 0  # A lost mount may come back; scans are paused meanwhile.


class FreeSpace:
    """Free bytes below a root, measured with a timeout.

    statvfs(2) on a dead network mount may block for hours and cannot be interrupted, so
    it is called in a separate thread. It has one owner and is not safe to share.

    Parameters
    ----------
    root : pathlib.Path
        Any path on the mount.
    timeout_s : float
        How long to wait for the result, in seconds.
    """

    def __init__(self, root: Path, timeout_s: float = 0.2) -> None:
        self._root = root
        self._timeout_s = timeout_s
        self._bytes = 0
        self._thread: threading.Thread | None = None

    def measure(self) -> int:
        """Return the free bytes; 0 if the root is not accessible or does not answer.

        If the system allows no more threads, return the result of the last time.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._measure, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                return self._bytes
            self._thread = thread
        self._thread.join(self._timeout_s)
        if self._thread.is_alive():
            return 0
        self._thread = None
        return self._bytes

    def _measure(self) -> None:
        self._bytes = free_bytes(self._root)


def is_full(error: BaseException) -> bool:
    """Whether an error means that the disk or the user's disk quota is full."""
    return isinstance(error, StorageFullError) or errno_of(error) in _FULL


def storage_sentence(error: BaseException, root: Path, needed: int) -> str:
    """Return a sentence about why a scan is paused, with a remedy where one is known.

    Parameters
    ----------
    needed : int
        Bytes that the scan is expected to need.
    """
    if not is_full(error):
        reason = str(error).splitlines()[0]
        return f"paused: cannot write below {root}: {reason}{_remedy(error)}"
    if errno_of(error) == errno.EDQUOT:
        about = f"; the scan needs about {needed / 1e9:.3g} GB" if needed else ""
        return (
            f"paused: the disk quota of user {os.geteuid()} below {root} is used up"
            f"{about}. Raise the quota, or remove files of that user or group"
        )
    if isinstance(error, StorageFullError):
        needed = max(needed, error.needed_bytes)
    path = error.path if isinstance(error, StorageFullError) else str(root)
    full = StorageFullError(path, needed, free_bytes(Path(path)))
    return f"paused: {full}"


def _remedy(error: BaseException) -> str:
    number = errno_of(error)
    if number in _FORBIDDEN:
        return f". User {os.geteuid()} needs to write there, as when it started"
    if number == errno.EROFS:
        return ". It is mounted read-only; the scan needs it read-write"
    return ""
