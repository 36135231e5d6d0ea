"""Points that the program numbers itself, and timeouts of held points.

The steps that a :class:`ReorderBuffer` returns are applied here: the next points are
queued, holes become gaps, and a point whose place was closed goes to the channel's lane
of late points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Variable
from scanbus.publisher.buffers.entry_builder import late_entry
from scanbus.publisher.buffers.group_buffer import Gap, Run
from scanbus.publisher.buffers.reorder_buffer import (
    Hole,
    Late,
    Ready,
    ReorderBuffer,
    Step,
)
from scanbus.publisher.queue.frame_lane import FrameLaneQueue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = [
    "Arrived",
    "awaits_timeout",
    "flush_overdue",
    "order_of",
    "run_bytes",
    "send_numbered",
    "skip_points",
]

log = get_logger()

_InputLane: TypeAlias = FrameLaneQueue | ValueLaneQueue


@dataclass(frozen=True, slots=True)
class Arrived:
    """One point as it came.

    Attributes
    ----------
    value : numpy.ndarray, Variable or bytes
        Shape ``(1, *shape)``; bytes if it is compressed.
    time : float
        When it was taken, in seconds since 1970.
    nbytes : int
        Bytes that it counts as until it is compressed.
    is_ours : bool
        Whether the program no longer changes `value`.
    """

    value: npt.NDArray[Any] | Variable | bytes
    time: float
    nbytes: int
    is_ours: bool = False


_Order: TypeAlias = ReorderBuffer[Arrived]


def order_of(queue: ScanQueue, lane: _InputLane, name: str) -> _Order:
    """Return the reorder buffer of a lane, made when first used.

    Raises
    ------
    ValueError
        If the lane has more than one channel.
    """
    if lane.order is None:
        if len(lane.description.channels) > 1:
            raise ValueError(
                f"{name}: it shares the group {lane.name!r} with other channels; only "
                "points of a channel on its own may be numbered"
            )
        order: _Order = ReorderBuffer(
            name,
            lane.next_point,
            window_points=queue.limits.reorder_window,
            window_s=queue.limits.reorder_s,
        )
        queue.use_order(lane, order)
        return order
    return lane.order


def send_numbered(
    queue: ScanQueue, lane: _InputLane, point: int | None, arrived: Sequence[Arrived]
) -> None:
    """Add points that the program has numbered; the lane's `input_lock` is held.

    Parameters
    ----------
    point : int, optional
        Number of the first one; None for the one after all that came.

    Raises
    ------
    ValueError
        If one of them was sent before; none was added then.
    DeadlineError
        If there is no room in time; the points before were added.
    """
    order = order_of(queue, lane, lane.description.channels[0].name)
    first = order.stop if point is None else point
    order.check(first, len(arrived))
    for number, each in enumerate(arrived, first):
        lane.reserve(each.nbytes)
        held = each if number == order.next_point else _copied(each)
        most = queue.room_to_hold(lane)
        steps = order.push(number, held, each.nbytes, monotonic(), most)
        _apply(queue, lane, steps)
    if order.is_holding:
        queue.wake(lane)  # Its thread must watch the timeout from now on.


def _copied(arrived: Arrived) -> Arrived:
    """Return a point that may be held: the program may reuse its array."""
    if isinstance(arrived.value, np.ndarray) and not arrived.is_ours:
        return replace(arrived, value=arrived.value.copy(), is_ours=True)
    return arrived


def skip_points(queue: ScanQueue, lane: _InputLane, count: int) -> None:
    """Declare that the points after all that came will never come."""
    with lane.input_lock:
        lane.reserve(0)
        if lane.order is None:
            _skip(queue, lane, count)
        else:
            _apply(queue, lane, lane.order.skip(count))


def give_up_holes(queue: ScanQueue) -> None:
    """Close all holes as gaps: no more points will come."""
    for lane in queue.lanes.values():
        with lane.input_lock:
            if lane.order is not None:
                _apply(queue, lane, lane.order.flush())


def awaits_timeout(lane: LaneQueue) -> bool:
    """Return whether a lane holds points that a timeout will flush."""
    holding = lane.order is not None and lane.order.is_holding
    return holding or (isinstance(lane, FrameLaneQueue) and lane.chunks.held > 0)


def flush_overdue(queue: ScanQueue, lane: LaneQueue, max_wait_s: float) -> None:
    """Flush incomplete chunks and points behind holes that have waited too long.

    If another thread is adding points to the lane, it is skipped.

    Parameters
    ----------
    max_wait_s : float
        Longest time, in seconds, that a frame waits for its chunk; points behind holes
        wait as long as their reorder buffer allows.
    """
    if isinstance(lane, FrameLaneQueue):
        queue.encoders.flush_idle(lane, max_wait_s)
    if lane.order is None or not lane.input_lock.acquire(blocking=False):
        return
    try:
        _apply(queue, lane, lane.order.give_up(monotonic()))
    finally:
        lane.input_lock.release()


def run_bytes(run: Run) -> int:
    """Return the bytes that points count as until they are in an entry."""
    if isinstance(run, Variable):
        return 4 * len(run) + run.values.nbytes
    return int(run.nbytes) if isinstance(run, np.ndarray) else 0


def _apply(queue: ScanQueue, lane: LaneQueue, steps: Iterable[Step[Arrived]]) -> None:
    """Apply the steps of a reorder buffer; room is reserved, so this never waits."""
    for step in steps:
        match step:
            case Ready(item):
                _take_next(queue, lane, item)
            case Hole(count):
                _skip(queue, lane, count)
            case Late(point, item):
                _take_late(queue, lane, point, item)


def _take_next(queue: ScanQueue, lane: LaneQueue, item: Arrived) -> None:
    value = item.value
    if isinstance(lane, FrameLaneQueue):
        frame = value if isinstance(value, bytes) else value[0]  # type: ignore[index]
        queue.encoders.take(lane, frame, item.time, copy=not item.is_ours)
    elif isinstance(lane, ValueLaneQueue) and not isinstance(value, bytes):
        lane.gather(lane.description.channels[0].name, value, np.array([item.time]))


def _skip(queue: ScanQueue, lane: LaneQueue, count: int) -> None:
    if isinstance(lane, FrameLaneQueue):
        queue.encoders.skip(lane, count)
    elif isinstance(lane, ValueLaneQueue):
        lane.gather(lane.description.channels[0].name, Gap(count), None)


def _take_late(queue: ScanQueue, lane: LaneQueue, point: int, item: Arrived) -> None:
    build = partial(
        late_entry,
        lane.description.channels[0],
        point=point,
        value=item.value,
        time=item.time,
        session=queue.session,
    )
    count = queue.put_late(lane, build, reserved_bytes=item.nbytes)
    if count == 1:
        log.warning(LogEvent.LATE_POINTS, scan=queue.uid, lane=lane.name)
