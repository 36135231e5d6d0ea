"""How long and how much a publisher waits and keeps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SendLimits"]


@dataclass(frozen=True, slots=True)
class SendLimits:
    """How long and how much a publisher waits and keeps.

    Attributes
    ----------
    send_deadline_s : float
        How long a send waits for room.
    reorder_window : int
        How many points ahead of the next one of its lane a point may come.
    reorder_s : float
        How long it waits for those before it.
    memory_bytes_kept : int
        Bytes of a scan that stay in memory where there is a spool; more is read back.
    spool_sync_s : float
        How often the spool is brought to the disk.
    """

    send_deadline_s: float = 60.0
    reorder_window: int = 64
    reorder_s: float = 5.0
    memory_bytes_kept: int = 256 * 2**20
    spool_sync_s: float = 0.5
