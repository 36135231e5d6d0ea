"""Intervals and limits of a scan writer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pace"]


@dataclass(frozen=True)
class Pace:
    """How often a scan writer does what it does, in seconds; and bytes at a time."""

    flush_s: float = 1.0
    poll_s: float = 0.2
    master_s: float = 5.0
    lapse_s: float = 3.0
    check_s: float = 2.0
    read_bytes: int = 16 * 2**20
    least_free_bytes: int = 0
    low_water_bytes: int = 0
