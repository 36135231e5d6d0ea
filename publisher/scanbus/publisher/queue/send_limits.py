"""Limits of a publisher: longest waits and most bytes kept."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SendLimits"]


@dataclass(frozen=True, slots=True)
class SendLimits:
    """Longest waits, in seconds, and most bytes that a publisher keeps.

    Attributes
    ----------
    send_deadline_s : float
        Longest wait of a send for room.
    reorder_window : int
        Largest distance, in points, of a numbered point from the next of its lane.
    reorder_s : float
        Longest time that a numbered point waits for the points before it.
    memory_bytes_kept : int
        With a spool: bytes of a scan that stay in memory; more are read back.
    spool_sync_s : float
        Interval between syncs of the spool to the disk.
    """

    send_deadline_s: float = 60.0
    reorder_window: int = 64
    reorder_s: float = 5.0
    memory_bytes_kept: int = 256 * 2**20
    spool_sync_s: float = 0.5
