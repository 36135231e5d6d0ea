"""Refuse a scan into which another publisher publishes.

Redis does not: it refuses an entry whose id is not above the last one, but accepts an
entry of points 0 to 2 after one of point 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas.errors import LaneConflictError

__all__ = ["refuse_used_lanes"]


def refuse_used_lanes(queue: ScanQueue, used: Mapping[str, bytes]) -> None:
    """Give a scan up if Redis has entries of its lanes before it sends any.

    Parameters
    ----------
    used : mapping
        Each lane that is not empty, and the id of its last entry.

    Raises
    ------
    LaneConflictError
        If there is one.
    """
    if not used:
        return
    lane, last = next(iter(used.items()))
    error = LaneConflictError(lane, last.decode())
    queue.watch.mark_lost(error)
    if queue.spool is not None:
        queue.spool.remove()
    raise error
