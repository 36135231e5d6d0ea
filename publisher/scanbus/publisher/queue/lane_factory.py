"""Make the lane queues of a scan: new, spooled, of late points, of static arrays.

Callers hold the scan's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import time as wall_clock

import numpy as np

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.buffers.chunk_buffer import Piece
from scanbus.publisher.buffers.entry_builder import frame_entry
from scanbus.publisher.queue.backpressure import Backpressure
from scanbus.publisher.queue.frame_lane import FrameLaneQueue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_state import ScanState
from scanbus.publisher.queue.static_lane import StaticLaneQueue
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.schemas import LaneDescription, Storage

__all__ = [
    "LaneRest",
    "chunk_bytes",
    "late_lane",
    "open_lane",
    "recovered_lane",
    "reopened_lane",
    "static_lane",
]


@dataclass(frozen=True, slots=True)
class LaneRest:
    """What is left of a lane whose publisher died.

    Attributes
    ----------
    description : LaneDescription
        The lane.
    entries : sequence of EncodedEntry
        Its entries in the spool, or on the bus if there is no spool.
    reached : int or None
        First point that Redis lacks; None if the lane is sealed there.
    begin : int
        An earlier scan has the points before it: it was closed, and this one goes on.
    """

    description: LaneDescription
    entries: Sequence[EncodedEntry]
    reached: int | None
    begin: int = 0

    @property
    def is_sealed(self) -> bool:
        """Whether it has its seal: no points are added."""
        return self.reached is None or any(each.is_seal for each in self.entries[-1:])

    @property
    def stop(self) -> int:
        """The point after the last one that is in an entry."""
        ends = (each.stop for each in self.entries[-1:])
        return max([self.reached or 0, self.begin, *ends])


def chunk_bytes(lanes: Iterable[LaneDescription]) -> int:
    """Return the bytes of one chunk of each detector together."""
    return sum(
        lane.points_per_chunk * lane.point_bytes
        for lane in lanes
        if lane.storage is Storage.FILES
    )


def open_lane(
    state: ScanState,
    description: LaneDescription,
    session: bytes,
    backpressure: Backpressure,
    compression: float,
    *,
    start: int = 0,
) -> LaneQueue:
    """Return the queue of a lane to which a program sends points.

    Parameters
    ----------
    compression : float
        Expected compression ratio of frames, raw over compressed bytes.
    start : int
        The first point to come.
    """
    if description.storage is not Storage.FILES:
        return ValueLaneQueue(
            description,
            session,
            state.main_waker,
            state.spool_waker,
            backpressure=backpressure,
            start=start,
        )
    return FrameLaneQueue(
        description,
        session,
        state.new_waker(),
        state.spool_waker,
        backpressure=backpressure,
        compression=compression,
        start=start,
    )


def recovered_lane(state: ScanState, rest: LaneRest, session: bytes) -> LaneQueue:
    """Return the queue of a lane that a dead publisher left, and that ends here."""
    description = rest.description
    # Late points of a detector have no sender of their own: they are few.
    is_own = description.storage is Storage.FILES and description.is_declared
    waker = state.new_waker() if is_own else state.main_waker
    kind = StaticLaneQueue if description.is_static else LaneQueue
    lane = kind(description, session, waker, state.spool_waker)
    lane.refill(rest.entries, rest.reached, rest.begin)
    lane.end()
    return lane


def reopened_lane(
    state: ScanState,
    rest: LaneRest,
    session: bytes,
    backpressure: Backpressure,
    compression: float,
) -> LaneQueue:
    """Return the queue of a lane that a dead publisher left, for more points."""
    description = rest.description
    if description.is_static:
        return recovered_lane(state, rest, session)
    if description.is_late:
        lane = LaneQueue(description, session, state.main_waker, state.spool_waker)
    else:
        lane = open_lane(
            state, description, session, backpressure, compression, start=rest.stop
        )
    lane.refill(rest.entries, rest.reached, rest.begin)
    return lane


def late_lane(state: ScanState, lane: LaneQueue, session: bytes) -> LaneQueue:
    """Return the queue of a lane's late points, made with the first of them."""
    description = lane.description.late_lane(lane.description.channels[0])
    late = state.lanes.get(description.name)
    if late is None:
        late = LaneQueue(description, session, state.main_waker, state.spool_waker)
        state.add_lanes([late])
    return late


def static_lane(
    state: ScanState, description: LaneDescription, packed: bytes, session: bytes
) -> LaneQueue:
    """Return the queue of a static array's lane: its one point, and the seal."""
    wakers = state.main_waker, state.spool_waker
    lane = StaticLaneQueue(description, session, *wakers)
    piece = Piece(0, 1, packed, np.array([wall_clock()]))
    lane.put(frame_entry(description, piece, session))
    lane.end()
    return lane
