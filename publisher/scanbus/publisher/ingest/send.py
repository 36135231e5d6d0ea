"""What a program sends, on its way into the queue: checked, cut, timed.

Runs in the program's thread; the only waiting is for room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import time as wall_clock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Variable
from scanbus.publisher.declare.values import (
    frames_of,
    number_of,
    packed_frames_of,
    points_of,
)
from scanbus.publisher.ingest.enqueue import (
    advance,
    put_frames,
    put_packed,
    put_values,
    run_bytes,
)
from scanbus.publisher.ingest.numbered import Arrived, order_of, send_numbered
from scanbus.publisher.queue.lane_queue import FrameLaneQueue, ValueLaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import ChannelDescription

__all__ = ["Times", "feed_frames", "feed_packed", "feed_values"]

Times: TypeAlias = float | Sequence[float] | None
"""When points were taken: all of them, or the first and the last; None for now."""

_Points: TypeAlias = npt.NDArray[Any] | Variable
# Large arrays are taken in parts of this, so that the quota bounds what is kept.
_PART_BYTES = 2**20


def feed_values(
    queue: ScanQueue,
    lane: ValueLaneQueue,
    channel: ChannelDescription,
    values: Any,
    time: Times,
    *,
    point: int | None = None,
) -> None:
    """Take one value or many of one channel.

    Parameters
    ----------
    point : int, optional
        Which point the first one is, where the program numbers them.

    Raises
    ------
    ValueError
        If they do not fit the channel.
    DeadlineError
        If there is no room for too long.
    """
    numbered = point is not None or lane.order is not None
    series = lane.buffer.series[channel.name]
    if time is None and not numbered:
        plain = series.plain(values)
        if plain is not None and plain.nbytes <= _PART_BYTES:
            put_values(queue, lane, channel.name, plain, None)
            return
    if not (numbered or time is not None or channel.shape or channel.is_string):
        number = number_of(channel, values)
        if number is not None:
            series.scalars.append(number)
            if series.is_awaited or not len(series.scalars) & 1023:
                advance(queue, lane)
            return
    points = points_of(channel, values)
    if not numbered:
        for part, times in _parts(channel, points, time):
            put_values(queue, lane, channel.name, part, times)
        return
    with lane.feeding:
        order = order_of(queue, lane, channel.name)
        first = order.stop if point is None else point
        if not order.is_next(first):
            send_numbered(queue, lane, first, _arrived(points, time))
            return
        order.check(first, len(points))
        for part, times in _parts(channel, points, time):
            put_values(queue, lane, channel.name, part, times)
            order.advance(len(part))


def feed_frames(
    queue: ScanQueue,
    lane: FrameLaneQueue,
    values: Any,
    time: Times,
    *,
    point: int | None = None,
    copy: bool = True,
) -> None:
    """Take one frame or many; arguments and errors as for values.

    Parameters
    ----------
    copy : bool
        Whether the program may change the array afterwards.
    """
    frames = frames_of(lane.description.channels[0], values)
    times = _frame_times(time, len(frames))
    with lane.feeding:
        if point is None and lane.order is None:
            put_frames(queue, lane, frames, times, copy=copy)
            return
        nbytes = lane.point_bytes
        arrived = [
            Arrived(frames[index : index + 1], (taken, taken), nbytes, not copy)
            for index, taken in enumerate(times)
        ]
        send_numbered(queue, lane, point, arrived)


def feed_packed(
    queue: ScanQueue,
    lane: FrameLaneQueue,
    packed: Any,
    time: Times,
    *,
    point: int | None = None,
) -> None:
    """Take frames that the program packed, each a chunk.

    Raises
    ------
    ValueError
        If chunks are of more than one frame, or these cannot be frames.
    """
    channel = lane.description.channels[0]
    if lane.description.points_per_chunk != 1:
        raise ValueError(
            f"{channel.name}: packed frames need chunks of one frame, got "
            f"{lane.description.points_per_chunk}; declare points_per_chunk=1"
        )
    frames = packed_frames_of(channel, packed)
    times = _frame_times(time, len(frames))
    with lane.feeding:
        if point is None and lane.order is None:
            put_packed(queue, lane, frames, times)
            return
        arrived = [
            Arrived(frame, (taken, taken), len(frame))
            for frame, taken in zip(frames, times, strict=True)
        ]
        send_numbered(queue, lane, point, arrived)


def _parts(
    channel: ChannelDescription, points: _Points, time: Times
) -> Iterator[tuple[_Points, tuple[float, float] | None]]:
    count = len(points)
    per_part = max(1, _PART_BYTES // max(1, channel.point_bytes))
    if count <= per_part:
        yield points, None if time is None else _ends(time)
        return
    for start in range(0, count, per_part):
        stop = min(start + per_part, count)
        times = _times_of_part(time, start, stop, count)
        yield _part(points, start, stop), times


def _arrived(points: _Points, time: Times) -> list[Arrived]:
    parts = [_part(points, index, index + 1) for index in range(len(points))]
    return [
        Arrived(part, (taken, taken), run_bytes(part))
        for part, taken in zip(parts, _frame_times(time, len(parts)), strict=True)
    ]


def _part(points: _Points, start: int, stop: int) -> _Points:
    if isinstance(points, Variable):
        edges = np.concatenate(([0], np.cumsum(points.lengths, dtype=np.int64)))
        values = points.values[edges[start] : edges[stop]]
        return Variable(points.lengths[start:stop], values)
    return points[start:stop]


def _ends(time: float | Sequence[float]) -> tuple[float, float]:
    if isinstance(time, int | float | np.number):
        return float(time), float(time)
    return float(time[0]), float(time[-1])


def _times_of_part(
    time: Times, start: int, stop: int, count: int
) -> tuple[float, float] | None:
    if time is None:
        return None
    first, last = _ends(time)
    step = (last - first) / max(1, count - 1)
    return first + start * step, first + (stop - 1) * step


def _frame_times(time: Times, count: int) -> list[float]:
    first, last = _ends(wall_clock() if time is None else time)
    step = (last - first) / max(1, count - 1)
    return [first + index * step for index in range(count)]
