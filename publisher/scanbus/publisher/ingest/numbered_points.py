"""Points that the program numbers itself, and timeouts of held points.

All but `check_points` runs in the threads of the publisher.

The steps that a :class:`ReorderBuffer` returns are applied here: the next points are
queued, holes become gaps, and a point whose place was closed goes to the channel's lane
of late points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, Variable
from scanbus.publisher.buffers.entry_builder import late_entry
from scanbus.publisher.buffers.group_buffer import Gap
from scanbus.publisher.buffers.reorder_buffer import (
    Hole,
    Late,
    Ready,
    ReorderBuffer,
    Step,
)
from scanbus.publisher.ingest.arrived import (
    Arrived,
    Item,
    NumberedRun,
    Points,
)
from scanbus.publisher.queue.frame_lane import FrameLaneQueue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.schemas import MAX_POINTS
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = [
    "awaits_timeout",
    "check_points",
    "flush_overdue",
    "order_of",
    "take_items",
    "take_numbered",
    "take_numbered_run",
    "take_runs",
]

log = get_logger()

_InputLane: TypeAlias = FrameLaneQueue | ValueLaneQueue


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


def check_points(
    queue: ScanQueue, lane: _InputLane, name: str, first: int, count: int
) -> None:
    """Refuse numbered points that came before; nothing was taken then.

    In the program's thread. Whether a point came that is not behind all others, the
    worker knows.

    Raises
    ------
    ValueError
        If one of them came before, or if the lane has more than one channel.
    """
    stop = first + count
    known = lane.numbered_stop
    if known is not None and known <= first and stop <= MAX_POINTS:
        lane.numbered_stop = stop
        return

    def check() -> None:
        with lane.input_lock:
            order = order_of(queue, lane, name)
            order.check(first, count)
            lane.numbered_stop = max(order.stop, stop)

    queue.inbox.ask(check)


def take_numbered(
    queue: ScanQueue, lane: _InputLane, point: int | None, arrived: Arrived
) -> None:
    """Add one point that the program has numbered.

    Parameters
    ----------
    point : int, optional
        Its number; None for the one after all that came.
    """
    if isinstance(lane, FrameLaneQueue):
        lane.count_raw(arrived.nbytes)
    with lane.input_lock:
        order = order_of(queue, lane, lane.description.channels[0].name)
        number = order.stop if point is None else point
        most = queue.room_to_hold(lane)
        steps = order.push(number, arrived, arrived.nbytes, monotonic(), most)
        _apply(queue, lane, steps)
        if order.is_holding:
            queue.wake(lane)  # Its thread must watch the timeout from now on.


def take_numbered_run(
    queue: ScanQueue, lane: ValueLaneQueue, came: NumberedRun
) -> None:
    """Add numbered values: as one run if they are next, else each as a point."""
    name = lane.description.channels[0].name
    with lane.input_lock:
        order = order_of(queue, lane, name)
        first = order.stop if came.first is None else came.first
        is_next = order.is_next(first)
        if is_next:
            lane.gather(name, came.run, came.times)
            order.advance(len(came.run))
    if not is_next:
        for number, each in enumerate(came.arrived(), first):
            take_numbered(queue, lane, number, each)


def take_items(
    queue: ScanQueue, lane: FrameLaneQueue, first: int | None, items: Sequence[Item]
) -> None:
    """Add frames, and frames that never come.

    Parameters
    ----------
    first : int, optional
        Number of the first one; None for the one after all that came.
    """
    for index, item in enumerate(items):
        if isinstance(item, Gap):
            _skip_points(queue, lane, len(item))
        elif first is None and lane.order is None:
            lane.count_raw(item.nbytes)
            with lane.input_lock:
                _take_next(queue, lane, item)
        else:
            take_numbered(queue, lane, None if first is None else first + index, item)


def take_runs(
    queue: ScanQueue,
    lane: ValueLaneQueue,
    name: str,
    runs: Sequence[tuple[Points | Gap, Times | None]],
    now: float,
) -> None:
    """Add the next values of a channel, and gaps where there are none."""
    for run, times in runs:
        if len(lane.description.channels) > 1:
            lane.gather(name, run, times, now)
        elif isinstance(run, Gap):
            _skip_points(queue, lane, len(run))
        elif lane.order is None:
            lane.gather(name, run, times, now)
        else:
            take_numbered_run(queue, lane, NumberedRun(None, run, times, now))


def _skip_points(queue: ScanQueue, lane: _InputLane, count: int) -> None:
    """Declare that the points after all that came will never come."""
    with lane.input_lock:
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
        assert not isinstance(value, Variable)
        queue.encoders.take(
            lane,
            value,
            item.time,
            item.nbytes,
            is_private=item.is_private,
            is_given=item.is_given,
        )
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
        value=_as_point(lane, item.value),
        time=item.time,
        session=queue.session,
    )
    count = queue.put_late(lane, build, reserved_bytes=item.nbytes)
    if count == 1:
        log.warning(LogEvent.LATE_POINTS, scan=queue.uid, lane=lane.name)


def _as_point(
    lane: LaneQueue, value: npt.NDArray[Any] | Variable | bytes
) -> npt.NDArray[Any] | Variable | bytes:
    if isinstance(lane, FrameLaneQueue) and isinstance(value, np.ndarray):
        return value[np.newaxis]
    return value
