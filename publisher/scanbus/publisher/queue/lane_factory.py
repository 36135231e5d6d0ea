"""Make the lane queues of a scan: new, spooled, of late points, of static arrays.

Callers hold the scan's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

__all__ = ["chunk_bytes", "late_lane", "open_lane", "recovered_lane", "static_lane"]


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
) -> LaneQueue:
    """Return the queue of a lane to which a program sends points.

    Parameters
    ----------
    compression : float
        Expected compression ratio of frames, raw over compressed bytes.
    """
    if description.storage is not Storage.FILES:
        wakers = state.main_waker, state.spool_waker
        return ValueLaneQueue(description, session, *wakers, backpressure=backpressure)
    return FrameLaneQueue(
        description,
        session,
        state.new_waker(),
        state.spool_waker,
        backpressure=backpressure,
        compression=compression,
    )


def recovered_lane(
    state: ScanState,
    description: LaneDescription,
    session: bytes,
    entries: Sequence[EncodedEntry],
    reached: int | None,
    *,
    begin: int,
) -> LaneQueue:
    """Return the queue of a lane that a dead publisher left in its spool.

    Parameters
    ----------
    reached : int, optional
        First point that Redis lacks; None if the lane is sealed there.
    begin : int
        An earlier scan has the points before it.
    """
    # Late points of a detector have no sender of their own: they are few.
    is_own = description.storage is Storage.FILES and description.is_declared
    waker = state.new_waker() if is_own else state.main_waker
    kind = StaticLaneQueue if description.is_static else LaneQueue
    lane = kind(description, session, waker, state.spool_waker)
    lane.refill(entries, reached, begin)
    lane.end()
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
