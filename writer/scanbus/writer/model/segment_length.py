"""Where the segments of a lane end. Pure.

A lane declares upper limits: points, and bytes on the bus. Where it declares bytes, the
segments of a detector grow along the lane: the first ones are short, so that points are
durable and visible soon, and a long scan has few files all the same. Every writer that
reads the same entries from the same point ends its segments at the same points.
"""

from __future__ import annotations

from typing import Final

from scanbus.schemas import LaneDescription, Storage

__all__ = ["growing_points", "is_segment_full"]

# The first segments of a detector: at most so many points, or bytes before packing.
_FIRST_POINTS: Final = 10_000
_FIRST_BYTES: Final = 2**30
# A later one has at most this fraction of the points before it.
_GROWTH: Final = 32


def is_segment_full(
    lane: LaneDescription, start: int, point: int, bus_bytes: int
) -> bool:
    """Whether the segment of a lane that begins at `start` ends before `point`.

    Parameters
    ----------
    start, point : int
        First point of the segment, and the point that follows the entry just read.
    bus_bytes : int
        Size on the bus, in bytes, of the entries read for the segment.
    """
    if point % lane.points_per_segment == 0:
        return True
    if lane.segment_bytes is None:
        return False
    if lane.storage is not Storage.FILES:
        return bus_bytes >= lane.segment_bytes
    if point % lane.points_per_chunk:
        return False  # A chunk is stored in one file.
    is_long = point - start >= growing_points(lane, start)
    return is_long or bus_bytes >= lane.segment_bytes


def growing_points(lane: LaneDescription, start: int) -> int:
    """Return after how many points a detector's segment from `start` on ends."""
    first = min(_FIRST_POINTS, _FIRST_BYTES // lane.point_bytes)
    return max(1, first, start // _GROWTH)
