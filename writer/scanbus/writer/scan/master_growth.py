"""When the masters of a growing scan are updated."""

from __future__ import annotations

import time
from collections.abc import Sequence

from scanbus.schemas import Storage
from scanbus.writer.scan.lane_writer import LaneWriter

__all__ = ["MasterGrowth"]


class MasterGrowth:
    """Decides when the masters of a growing scan are updated.

    When its segments have doubled, or an update is needed because some were joined; not
    more often than every `every_s` seconds.

    Parameters
    ----------
    every_s : float
        Shortest interval between updates.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_at = 0.0
        self._next_size = 1

    def is_due(self, lanes: Sequence[LaneWriter], *, is_needed: bool) -> bool:
        """Return whether an update is due; the caller makes it then."""
        # Masters never refer to segments of small values, which are removed later.
        size = sum(
            lane.n_published for lane in lanes if lane.lane.storage is Storage.FILES
        )
        now = time.monotonic()
        if not (is_needed or size >= self._next_size) or now < self._next_at:
            return False
        self._next_size = 2 * size
        self._next_at = now + self._every_s
        return True
