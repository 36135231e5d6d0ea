"""Room on the disk: how much a scan still needs, and what to say when it is short.

A full disk pauses a scan, it does not fail it: the data stay on the bus, and the writer
goes on by itself once there is room.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from scanbus.schemas.errors import StorageFullError
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.scan.lane_writer import LaneWriter

__all__ = [
    "FreeSpace",
    "bytes_needed",
    "check_space",
    "errno_of",
    "free_bytes",
    "is_full",
    "storage_sentence",
]

_ERRNO = re.compile(r"errno = (\d+)")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def bytes_needed(lanes: Iterable[LaneWriter], folder: Path) -> int:
    """Return about how many bytes the rest of a scan needs on the disk.

    Points that are announced, or known to be on the bus, at the size that the points
    before them had; unpacked where there are none yet.
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
    if last is None or last.stop == last.start:
        return float(lane.lane.point_bytes)
    try:
        size = (folder / last.name).stat().st_size
    except OSError:
        return float(lane.lane.point_bytes)
    return size / (last.stop - last.start)


def check_space(root: Path, needed: int, *, least: int) -> int:
    """Return the free bytes below a root, if a scan may begin or go on.

    Parameters
    ----------
    needed : int
        Bytes that the scan is expected to need.
    least : int
        With less free than this, nothing is begun.

    Raises
    ------
    StorageFullError
        If less than `least` is free.
    """
    free = shutil.disk_usage(root).free
    if free < least:
        raise StorageFullError(str(root), max(needed, least), free)
    return free


def free_bytes(root: Path) -> int:
    """Return the free bytes below a root; 0 where the root is not there just now."""
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return 0  # A mount that went away comes back; scans are paused meanwhile.


class FreeSpace:
    """The free bytes below a root, asked by somebody who must not hang.

    A dead network mount may not answer for hours, and nothing can interrupt the
    question, so a thread of its own asks it. One owner; not safe to share.

    Parameters
    ----------
    root : pathlib.Path
        Any path on the mount.
    timeout_s : float
        How long to wait for an answer.
    """

    def __init__(self, root: Path, timeout_s: float = 0.2) -> None:
        self._root = root
        self._timeout_s = timeout_s
        self._bytes = 0
        self._thread: threading.Thread | None = None

    def measure(self) -> int:
        """Return the free bytes; 0 where the root is not there or does not answer."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._measure, daemon=True)
            self._thread.start()
        self._thread.join(self._timeout_s)
        if self._thread.is_alive():
            return 0
        self._thread = None
        return self._bytes

    def _measure(self) -> None:
        self._bytes = free_bytes(self._root)


def errno_of(error: BaseException) -> int | None:
    """Return the system's number of an error, also where HDF5 says it in words only."""
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    found = _ERRNO.search(str(error))
    if found:
        return int(found[1])
    return errno_of(error.__cause__) if error.__cause__ is not None else None


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or its quota, is full."""
    return isinstance(error, StorageFullError) or errno_of(error) in _FULL


def storage_sentence(error: BaseException, root: Path, needed: int) -> str:
    """Say what a scan waits for, and what it needs."""
    if not is_full(error):
        reason = str(error).splitlines()[0]
        return f"paused: cannot write below {root}: {reason}{_remedy(error)}"
    if isinstance(error, StorageFullError):
        needed = max(needed, error.needed_bytes)
    full = StorageFullError(str(root), needed, free_bytes(root))
    return f"paused: {full}"


def _remedy(error: BaseException) -> str:
    number = errno_of(error)
    if number in _FORBIDDEN:
        return f". User {os.geteuid()} needs to write there, as when it started"
    if number == errno.EROFS:
        return ". It is mounted read-only; the scan needs it read-write"
    return ""
