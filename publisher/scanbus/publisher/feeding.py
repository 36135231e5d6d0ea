"""What a program sends, on its way into the delivery: checked, cut, timed.

Runs in the program's thread; the only waiting is for room.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import time as wall_clock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.blocks import Variable
from scanbus.publisher.checking import (
    frames_of,
    number_of,
    packed_frames_of,
    points_of,
)
from scanbus.publisher.delivery import Delivery
from scanbus.publisher.outgoing import FrameLane, ValueLane
from scanbus.schemas import ChannelDescription

__all__ = ["Times", "feed_frames", "feed_packed", "feed_values"]

Times: TypeAlias = float | Sequence[float] | None
"""When points were taken: all of them, or the first and the last; None for now."""

_Points: TypeAlias = npt.NDArray[Any] | Variable
# Large arrays are taken in parts of this, so that the quota bounds what is kept.
_PART_BYTES = 2**20


def feed_values(
    delivery: Delivery,
    lane: ValueLane,
    channel: ChannelDescription,
    values: Any,
    time: Times,
) -> None:
    """Take one value or many of one channel.

    Raises
    ------
    ValueError
        If they do not fit the channel.
    DeadlineError
        If there is no room for too long.
    """
    if time is None and not channel.shape and not channel.is_string:
        number = number_of(channel, values)
        if number is not None:
            series = lane.buffer.series[channel.name]
            series.scalars.append(number)
            if series.is_awaited or not len(series.scalars) & 1023:
                delivery.advance(lane)
            return
    points = points_of(channel, values)
    count = len(points)
    for start, stop in _parts(channel, count):
        part = _part(points, start, stop)
        times = _times_of_part(time, start, stop, count)
        delivery.put_values(lane, channel.name, part, _bytes_of(part), times)


def feed_frames(delivery: Delivery, lane: FrameLane, values: Any, time: Times) -> None:
    """Take one frame or many; arguments and errors as for values."""
    frames = frames_of(lane.description.channels[0], values)
    delivery.put_frames(lane, frames, _frame_times(time, len(frames)))


def feed_packed(delivery: Delivery, lane: FrameLane, packed: Any, time: Times) -> None:
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
    delivery.put_packed(lane, frames, _frame_times(time, len(frames)))


def _parts(channel: ChannelDescription, count: int) -> list[tuple[int, int]]:
    per_part = max(1, _PART_BYTES // max(1, channel.point_bytes))
    return [
        (start, min(start + per_part, count)) for start in range(0, count, per_part)
    ]


def _part(points: _Points, start: int, stop: int) -> _Points:
    if isinstance(points, Variable):
        edges = np.concatenate(([0], np.cumsum(points.lengths, dtype=np.int64)))
        values = points.values[edges[start] : edges[stop]]
        return Variable(points.lengths[start:stop], values)
    return points[start:stop]


def _bytes_of(part: _Points) -> int:
    if isinstance(part, Variable):
        return 4 * len(part) + part.values.nbytes
    return int(part.nbytes)


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
