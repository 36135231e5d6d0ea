"""Intervals and limits of a scan writer."""

from __future__ import annotations

from dataclasses import dataclass, field

from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.sources import WANTED_SOURCES
from scanbus.writer.model.value_files import COPIED_BYTES

__all__ = ["Pace"]


@dataclass(frozen=True)
class Pace:
    """Intervals of a scan writer in seconds, and sizes in bytes.

    Attributes
    ----------
    flush_s : float
        Interval at which temporary files are flushed.
    poll_s : float
        Interval at which events are read.
    master_s : float
        Age of the running scan's master at most.
    lapse_s : float
        Time without arrivals, after the publisher's heartbeat expired, until the scan
        is interrupted.
    check_s : float
        Interval at which the lease is renewed and disk space is checked.
    read_bytes : int
        Largest number of bytes per read from Redis.
    copied_bytes : int
        Bytes of small values that the master copies.
    least_free_bytes : int
        Free disk space below which the scan is paused.
    low_water_bytes : int
        Free disk space below which a warning is logged.
    grace_s : float
        How long replaced segments stay after the last master that named them.
    wanted_sources : int
        Number of detector files of a scan above which finished ones are joined.
    reference_wait_s : float
        How long an ended scan waits for files of frames by reference.
    manifest : bool
        Whether files are hashed for the manifest of the scan.
    choice : LayoutChoice
        Layouts of scans that ask for none, and the site templates that there are.
    """

    flush_s: float = 1.0
    poll_s: float = 0.2
    master_s: float = 10.0
    lapse_s: float = 3.0
    check_s: float = 2.0
    read_bytes: int = 16 * 2**20
    copied_bytes: int = COPIED_BYTES
    least_free_bytes: int = 0
    low_water_bytes: int = 0
    grace_s: float = 300.0
    wanted_sources: int = WANTED_SOURCES
    reference_wait_s: float = 0.0
    manifest: bool = True
    choice: LayoutChoice = field(default_factory=LayoutChoice)
