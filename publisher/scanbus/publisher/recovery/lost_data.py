"""What a scan lost with damaged records of its spool: gaps on the bus, and their text.

Entries of a lane are contiguous, so a gap takes the place of the points that were in
damaged records. The end of the scan names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scanbus.bus.protocol import EncodedEntry, lost_entry
from scanbus.publisher.spool import Loss
from scanbus.schemas import LaneDescription, LostData

__all__ = ["LostPoints", "lane_losses", "lost_data", "with_gaps"]

_MAX_TEXT = 4096


class LostPoints(NamedTuple):
    """Points that a program had and lost.

    Attributes
    ----------
    channel : str
        The channel; empty if it is not points, or not known which.
    first, stop : int
        The points ``[first, stop)``.
    text : str
        Why, in one sentence.
    """

    channel: str
    first: int
    stop: int
    text: str


def lost_data(lane: LaneDescription, text: str, first: int, stop: int) -> LostData:
    """Return the document on the lost points ``[first, stop)`` of a lane."""
    text = f"{lane.name}: {text}"[:_MAX_TEXT]
    if lane.is_late or stop <= first:
        return LostData(text=text)  # Late points are counted as they came.
    return LostData(text=text, lane=lane.name, first=first, stop=stop)


def lane_losses(
    lane: LaneDescription, found: Sequence[EncodedEntry | Loss], begin: int
) -> Iterator[LostData]:
    """Yield what a spooled lane lost; an earlier scan has the points before `begin`."""
    for each in found:
        if isinstance(each, Loss) and (each.is_unknown or each.stop > begin):
            yield lost_data(lane, str(each), each.first, each.stop)


def with_gaps(
    lane: LaneDescription, found: Sequence[EncodedEntry | Loss], session: bytes
) -> Iterator[EncodedEntry]:
    """Yield the entries of a spooled lane, with gaps for the points that it lost."""
    for each in found:
        if isinstance(each, EncodedEntry):
            yield each
            continue
        first = each.first
        while first < each.stop:
            # No entry crosses the boundary of a segment.
            boundary = (first // lane.points_per_segment + 1) * lane.points_per_segment
            stop = min(each.stop, boundary)
            yield lost_entry(first, stop, session)
            first = stop
