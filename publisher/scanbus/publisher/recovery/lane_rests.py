"""What is left of each lane of a scan whose publisher died."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scanbus.bus.protocol import SEAL_ID
from scanbus.bus.store import Bus, stream_ends
from scanbus.publisher.queue.lane_factory import LaneRest
from scanbus.publisher.recovery.lost_data import lane_losses, with_gaps
from scanbus.publisher.spool import LeftScan
from scanbus.schemas import (
    Event,
    LaneDescription,
    LostData,
    ScanEnded,
    ScanPrepared,
    static_lanes,
)
from scanbus.schemas.file_names import late_lane_name

__all__ = ["lane_rests", "prepared_in"]


def prepared_in(events: Sequence[Event]) -> ScanPrepared | None:
    """Return the event that fixed the lanes; None if there is none."""
    return next((each for each in events if isinstance(each, ScanPrepared)), None)


def lane_rests(
    client: Bus, scan: LeftScan, events: Sequence[Event]
) -> tuple[list[LaneRest], list[LostData]]:
    """Return what is left of each lane of a scan, and what the spool lost of them.

    Parameters
    ----------
    events : sequence of Event
        Its events, without losses.
    """
    lanes = list(_lanes(events, scan))
    lost = [
        each
        for lane in lanes
        for each in lane_losses(
            lane, scan.entries.get(lane.name, ()), scan.begins.get(lane.name, 0)
        )
    ]
    return [_rest(client, lane, scan) for lane in lanes], lost


def _lanes(events: Sequence[Event], scan: LeftScan) -> Iterator[LaneDescription]:
    """Yield the lanes of a scan: its own, of static arrays, of its late points.

    The spool has no entries of a lane of late points that is in the files already, but
    Redis may have lost its seal.
    """
    prepared = prepared_in(events)
    ended = next((each for each in events if isinstance(each, ScanEnded)), None)
    counted = ended.late if ended else {}
    every = (getattr(event, "metadata", {}) for event in events)
    statics = {lane.name: lane for tree in every for lane in static_lanes(tree)}
    yield from statics.values()
    for lane in prepared.lanes if prepared else ():
        yield lane
        for channel in lane.channels:
            name = late_lane_name(channel.name)
            if name in scan.entries or channel.name in counted:
                yield lane.late_lane(channel)


def _rest(client: Bus, lane: LaneDescription, scan: LeftScan) -> LaneRest:
    ends = stream_ends(client, scan.announced.scan.uid, lane.name)
    last = ends[1] if ends else b"0-0"
    reached = None if last == SEAL_ID else sum(map(int, last.split(b"-")))
    found = scan.entries.get(lane.name, ())
    entries = list(with_gaps(lane, found, scan.session))
    return LaneRest(lane, entries, reached, scan.begins.get(lane.name, 0))
