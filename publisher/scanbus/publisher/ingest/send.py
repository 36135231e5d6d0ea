"""Check points that a program sends, split and time them, and add them to the queue.

Runs in the program's thread, which waits only for room.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from time import time as wall_clock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, Variable
from scanbus.publisher.buffers.group_buffer import Gap, Series
from scanbus.publisher.declare.masked import is_masked, masked_points, runs_of
from scanbus.publisher.declare.times import GivenTimes, times_of
from scanbus.publisher.declare.values import (
    frames_of,
    number_of,
    packed_frames_of,
    points_of,
)
from scanbus.publisher.ingest.numbered_points import (
    Arrived,
    order_of,
    run_bytes,
    send_numbered,
    skip_points,
)
from scanbus.publisher.queue.frame_lane import FrameLaneQueue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import UnknownChannelError

__all__ = ["ScanIntake"]

_Points: TypeAlias = npt.NDArray[Any] | Variable
# Large arrays are added in parts of this size, so that the quota limits what is kept.
_PART_BYTES = 2**20


class ScanIntake:
    """Adds what is sent to the channels of one prepared scan to its queue.

    The scan appends single floats to the series in `fast` without calling this class.

    Parameters
    ----------
    queue : ScanQueue
        The scan, with its lanes.
    """

    def __init__(self, queue: ScanQueue) -> None:
        self._queue = queue
        self._lanes: dict[str, tuple[LaneQueue, ChannelDescription]] = {}
        floats: dict[str, Series] = {}
        for lane in queue.lanes.values():
            for channel in lane.description.channels:
                self._lanes[channel.name] = lane, channel
                if isinstance(lane, ValueLaneQueue) and _is_float(channel):
                    floats[channel.name] = lane.series[channel.name]
        queue.offer_fast_series(floats)
        self.fast: Mapping[str, Series] = queue.fast_series

    def process_scalars(self, name: str) -> None:
        """Process single numbers that the scan appended to `fast`."""
        lane, _ = self._lanes[name]
        assert isinstance(lane, ValueLaneQueue)
        lane.process_scalars()

    def send(  # noqa: PLR0917 - the arguments of Scan.send, unchanged
        self,
        name: str,
        values: Any,
        packed: Any,
        time: GivenTimes,
        point: int | None,
        copy: bool,
    ) -> None:
        """Add points; arguments and errors are those of ``Scan.send``."""
        if type(values) is not np.ndarray and is_masked(values):
            self._send_masked(name, values, time, point)
            return
        lane, channel = self._open_lane(name)
        first = None if point is None else operator.index(point)
        if isinstance(lane, ValueLaneQueue):
            if packed is not None:
                raise ValueError(
                    f"{name}: only frames of a detector can be sent packed"
                )
            self._send_values(lane, channel, values, time, first)
        elif isinstance(lane, FrameLaneQueue):
            if packed is None:
                frames = frames_of(channel, values)
                self._send_frames(lane, frames, time, first, copy)
            elif values is None:
                self._send_packed(lane, channel, packed, time, first)
            else:
                raise ValueError(f"{name}: give either values or packed, not both")

    def _send_masked(
        self, name: str, values: Any, time: GivenTimes, point: int | None
    ) -> None:
        lane, channel = self._open_lane(name)
        convert = frames_of if isinstance(lane, FrameLaneQueue) else points_of
        points, missing = masked_points(channel, values, convert)
        if point is not None and missing.any():
            raise ValueError(f"{name}: a numbered point is masked; leave it out")
        times = times_of(name, time, len(points))
        if isinstance(lane, ValueLaneQueue):
            lane.check_times(name, times)
        for start, stop, is_missing in runs_of(missing):
            taken = None if times is None else times[start:stop]
            if is_missing:
                self.skip(name, stop - start, taken)
            else:
                first = None if point is None else point + start
                self.send(name, points[start:stop], None, taken, first, False)

    def skip(self, name: str, count: int, times: Times | None = None) -> None:
        """Declare that points will never come; see ``Scan.skip``.

        Parameters
        ----------
        times : numpy.ndarray, optional
            Times of these points, which other channels of the group may have.
        """
        lane, _ = self._open_lane(name)
        if isinstance(lane, ValueLaneQueue) and len(lane.description.channels) > 1:
            lane.gather(name, Gap(count), times, need=0)
        elif isinstance(lane, ValueLaneQueue | FrameLaneQueue):
            skip_points(self._queue, lane, count)

    def _open_lane(self, name: str) -> tuple[LaneQueue, ChannelDescription]:
        found = self._lanes.get(name)
        if found is None:
            raise UnknownChannelError(name, tuple(self._lanes))
        self._queue.check_open()
        return found

    # -------------------------------------------------------------------- values

    def _send_values(
        self,
        lane: ValueLaneQueue,
        channel: ChannelDescription,
        values: Any,
        time: GivenTimes,
        point: int | None,
    ) -> None:
        numbered = point is not None or lane.order is not None
        if not numbered and time is None and _sent_plain(lane, channel, values):
            return
        points = points_of(channel, values)
        times = times_of(channel.name, time, len(points))
        if not numbered:
            lane.check_times(channel.name, times)
            for part, taken in _parts(channel, points, times):
                lane.gather(channel.name, part, taken, need=run_bytes(part))
            return
        with lane.input_lock:
            self._send_numbered_values(lane, channel, points, times, point)

    def _send_numbered_values(
        self,
        lane: ValueLaneQueue,
        channel: ChannelDescription,
        points: _Points,
        times: Times | None,
        point: int | None,
    ) -> None:
        order = order_of(self._queue, lane, channel.name)
        first = order.stop if point is None else point
        if not order.is_next(first):
            send_numbered(self._queue, lane, first, _arrived(points, times))
            return
        order.check(first, len(points))
        for part, taken in _parts(channel, points, times):
            lane.gather(channel.name, part, taken, need=run_bytes(part))
            order.advance(len(part))

    # -------------------------------------------------------------------- frames

    def _send_frames(
        self,
        lane: FrameLaneQueue,
        frames: npt.NDArray[Any],
        time: GivenTimes,
        point: int | None,
        copy: bool,
    ) -> None:
        times = _times_or_now(lane.name, time, len(frames))
        is_given = time is not None
        with lane.input_lock:
            if point is not None or lane.order is not None:
                nbytes = lane.point_bytes
                arrived = [
                    Arrived(frames[index : index + 1], taken, nbytes, not copy)
                    for index, taken in enumerate(times)
                ]
                send_numbered(self._queue, lane, point, arrived)
                return
            for frame, taken in zip(frames, times, strict=True):
                lane.reserve(lane.point_bytes)
                self._queue.encoders.take(
                    lane, frame, taken, copy=copy, is_given=is_given
                )

    def _send_packed(
        self,
        lane: FrameLaneQueue,
        channel: ChannelDescription,
        packed: Any,
        time: GivenTimes,
        point: int | None,
    ) -> None:
        if lane.description.points_per_chunk != 1:
            raise ValueError(
                f"{channel.name}: packed frames need chunks of one frame, got "
                f"{lane.description.points_per_chunk}; declare points_per_chunk=1"
            )
        frames = packed_frames_of(channel, packed)
        times = _times_or_now(channel.name, time, len(frames))
        with lane.input_lock:
            if point is not None or lane.order is not None:
                arrived = [
                    Arrived(frame, taken, len(frame))
                    for frame, taken in zip(frames, times, strict=True)
                ]
                send_numbered(self._queue, lane, point, arrived)
                return
            for frame, taken in zip(frames, times, strict=True):
                lane.reserve(len(frame))
                self._queue.encoders.take(lane, frame, taken, copy=False)


def _is_float(channel: ChannelDescription) -> bool:
    return not channel.shape and channel.numpy_dtype == np.float64


def _sent_plain(lane: ValueLaneQueue, channel: ChannelDescription, values: Any) -> bool:
    """Add an array as declared, or one number, on the fast path; else return False."""
    series = lane.series[channel.name]
    plain = series.plain(values)
    if plain is not None and plain.nbytes <= _PART_BYTES:
        lane.gather(channel.name, plain, None, need=run_bytes(plain))
        return True
    if channel.shape or channel.is_string:
        return False
    number = number_of(channel, values)
    if number is None:
        return False
    series.scalars.append(number)
    if series.is_awaited or not len(series.scalars) & 1023:
        lane.process_scalars()
    return True


def _parts(
    channel: ChannelDescription, points: _Points, times: Times | None
) -> Iterator[tuple[_Points, Times | None]]:
    count = len(points)
    per_part = max(1, _PART_BYTES // max(1, channel.point_bytes))
    if count <= per_part:
        yield points, times
        return
    for start in range(0, count, per_part):
        stop = min(start + per_part, count)
        taken = None if times is None else times[start:stop]
        yield _part(points, start, stop), taken


def _arrived(points: _Points, times: Times | None) -> list[Arrived]:
    parts = [_part(points, index, index + 1) for index in range(len(points))]
    taken = [wall_clock()] * len(parts) if times is None else times.tolist()
    return [
        Arrived(part, one, run_bytes(part))
        for part, one in zip(parts, taken, strict=True)
    ]


def _part(points: _Points, start: int, stop: int) -> _Points:
    if isinstance(points, Variable):
        edges = np.concatenate(([0], np.cumsum(points.lengths, dtype=np.int64)))
        values = points.values[edges[start] : edges[stop]]
        return Variable(points.lengths[start:stop], values)
    return points[start:stop]


def _times_or_now(name: str, given: GivenTimes, count: int) -> list[float]:
    times = None if given is None else times_of(name, given, count)
    return [wall_clock()] * count if times is None else times.tolist()
