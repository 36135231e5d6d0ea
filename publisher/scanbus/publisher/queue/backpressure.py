"""Whether a scan may keep more, and why not. Pure; the queue waits."""

from __future__ import annotations

from collections.abc import Collection

from scanbus.publisher.queue.lane_queue import (
    FrameLaneQueue,
    LaneQueue,
    LateLaneQueue,
    ValueLaneQueue,
)

__all__ = ["fits", "late_counts", "why_no_room"]


def fits(lanes: Collection[LaneQueue], lane: LaneQueue, need: int, limit: int) -> bool:
    """Whether a scan may keep `need` more bytes, for a point of `lane`.

    Parameters
    ----------
    lanes : collection of LaneQueue
        All of the scan.
    limit : int
        What it may keep; where it keeps nothing, any point fits.
    """
    kept = sum(each.kept_bytes for each in lanes)
    if kept + need <= limit or not kept:
        return True
    if not isinstance(lane, FrameLaneQueue):
        return False
    frame_lanes = [each for each in lanes if isinstance(each, FrameLaneQueue)]
    if any(each.slots for each in frame_lanes):
        return False
    # Nothing is being packed that would make room: what is held in chunks counts as
    # what it will be, as the plan counted it, else it could wait for ever.
    for each in frame_lanes:
        kept -= int(each.raw_bytes * (1 - 1 / each.compression))
    return kept + need / lane.compression <= limit


def late_counts(lanes: Collection[LaneQueue]) -> dict[str, int]:
    """Return how many points of which channel came too late."""
    return {
        lane.description.channels[0].name: lane.length
        for lane in lanes
        if isinstance(lane, LateLaneQueue)
    }


def why_no_room(lanes: Collection[LaneQueue], lane: LaneQueue, why_full: str) -> str:
    """Return why a point of `lane` has to wait.

    Parameters
    ----------
    why_full : str
        Why nothing becomes durable, as far as is known elsewhere.
    """
    if isinstance(lane, ValueLaneQueue):
        ahead, behind, points = lane.buffer.laggard()
        if points and not lane.buffer.has_complete:
            return f"{ahead} is {points} points ahead of {behind} in its group"
    reasons = [why_full]
    if isinstance(lane, FrameLaneQueue) and lane.misjudged:
        reasons.append(lane.misjudged)
    late = late_counts(lanes)
    if late:
        counts = ", ".join(f"{count} of {name}" for name, count in late.items())
        reasons.append(f"late points are kept until the scan ends: {counts}")
    return "; ".join(reasons)
