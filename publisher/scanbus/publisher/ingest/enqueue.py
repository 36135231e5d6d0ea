"""What a program puts into a scan: values are gathered, frames packed, room waited for.

Runs in the program's threads; the only waiting is for room.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from time import time as wall_clock
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import EncodedEntry, Variable
from scanbus.publisher.buffers.group_buffer import Gap, Run
from scanbus.publisher.queue.lane_queue import (
    FrameLaneQueue,
    LaneQueue,
    LateLaneQueue,
    ValueLaneQueue,
)
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import ChannelDescription
from scanbus.schemas.logs import get_logger

__all__ = [
    "advance",
    "put_frames",
    "put_late",
    "put_packed",
    "put_values",
    "reserve",
    "run_bytes",
    "skip",
    "take_values",
]

log = get_logger()

# Looking at everything that is kept costs too much for every single value.
_LOOK_EVERY_POINTS = 256


def advance(queue: ScanQueue, lane: ValueLaneQueue) -> None:
    """Look after single values: complete points, memory, room."""
    with queue.lock:
        buffer = lane.buffer
        if buffer.advance(wall_clock()):
            lane.wake()
            if buffer.complete % _LOOK_EVERY_POINTS:
                return
        buffer.compact()
        queue.wait_for_room(lane, 0)


def put_values(
    queue: ScanQueue,
    lane: ValueLaneQueue,
    name: str,
    run: Run,
    times: tuple[float, float] | None,
) -> None:
    """Take checked values of one channel; wait until there is room for them.

    Raises
    ------
    DeadlineError
        If there is no room for too long.
    """
    with queue.lock:
        queue.wait_for_room(lane, run_bytes(run))
        _gather(lane, name, run, times)


def take_values(
    queue: ScanQueue, lane: ValueLaneQueue, run: Run, times: tuple[float, float] | None
) -> None:
    """Take values of a lane of one channel for which there is room."""
    with queue.lock:
        _gather(lane, lane.description.channels[0].name, run, times)


def _gather(
    lane: ValueLaneQueue,
    name: str,
    run: Run,
    times: tuple[float, float] | None,
) -> None:
    lane.buffer.append(name, run, times)
    if lane.buffer.advance(wall_clock()):
        lane.wake()


def put_frames(
    queue: ScanQueue,
    lane: FrameLaneQueue,
    frames: npt.NDArray[Any],
    times: list[float],
    *,
    copy: bool,
) -> None:
    """Take checked frames, one after the other, and have them packed.

    Raises
    ------
    DeadlineError
        If there is no room for too long; the frames before it are taken.
    """
    frame_bytes = lane.point_bytes
    for frame, time in zip(frames, times, strict=True):
        reserve(queue, lane, frame_bytes)
        queue.encoders.take(lane, frame, time, copy=copy)


def put_packed(
    queue: ScanQueue, lane: FrameLaneQueue, frames: list[bytes], times: list[float]
) -> None:
    """Take frames that are packed already."""
    for frame, time in zip(frames, times, strict=True):
        reserve(queue, lane, len(frame))
        queue.encoders.take(lane, frame, time, copy=False)


def skip(queue: ScanQueue, lane: LaneQueue, count: int) -> None:
    """Say that the next points of a lane of one channel will never come."""
    if isinstance(lane, FrameLaneQueue):
        queue.encoders.skip(lane, count)
    elif isinstance(lane, ValueLaneQueue):
        take_values(queue, lane, Gap(count), None)


def put_late(
    queue: ScanQueue,
    lane: LaneQueue,
    freeze: Callable[[int], EncodedEntry],
    raw_bytes: int,
) -> None:
    """Take a point that came after its place was closed.

    Parameters
    ----------
    freeze : callable
        Returns its entry from the number of the arrival.
    raw_bytes : int
        What was reserved for it.
    """
    late = _late_lane(queue, lane, lane.description.channels[0])
    # Whoever feeds the lane feeds this one, so nobody else counts meanwhile.
    entry = freeze(late.length)
    with queue.lock:
        if isinstance(lane, FrameLaneQueue):
            lane.raw_bytes -= raw_bytes
        late.put(entry)
        late.wake()
    if late.length == 1:
        log.warning("late_points", scan=queue.uid, lane=lane.name)


def _late_lane(
    queue: ScanQueue, lane: LaneQueue, channel: ChannelDescription
) -> LaneQueue:
    description = lane.description.late_lane(channel)
    with queue.lock:
        late = queue.lanes.get(description.name)
        if late is None:
            late = LateLaneQueue(description, queue.session, queue.main_waker)
            queue.adopt(late)
    return late


def reserve(queue: ScanQueue, lane: LaneQueue, raw_bytes: int) -> None:
    """Wait until there is room for a point.

    Raises
    ------
    DeadlineError
        If there is none for too long.
    """
    with queue.lock:
        queue.wait_for_room(lane, raw_bytes)
        if not isinstance(lane, FrameLaneQueue):
            return
        lane.raw_bytes += raw_bytes
        if not lane.chunks.held:
            lane.held_since = monotonic()
            if lane.description.points_per_chunk > 1:
                lane.wake()  # It has to look at the clock from now on.


def run_bytes(run: Run) -> int:
    """Return what points count as until they are an entry."""
    if isinstance(run, Variable):
        return 4 * len(run) + run.values.nbytes
    return int(run.nbytes) if isinstance(run, np.ndarray) else 0
