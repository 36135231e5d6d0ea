"""Check points that a program sends, split, time and copy them, and hand them over.

Runs in the program's thread, which waits only for room, changes nothing that other
threads use and takes no lock: an exception of a signal handler may end it anywhere.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from time import time as wall_clock
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.publisher.buffers.group_buffer import Gap, Series
from scanbus.publisher.declare.masked import is_masked, masked_points, runs_of
from scanbus.publisher.declare.times import GivenTimes, times_of
from scanbus.publisher.declare.values import frames_of, packed_frames_of, points_of
from scanbus.publisher.ingest.arrived import Arrived, Item
from scanbus.publisher.ingest.numbered_points import check_points, take_items
from scanbus.publisher.ingest.send_values import PART_BYTES, ValueIntake
from scanbus.publisher.queue.frame_lane import FrameLaneQueue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import UnknownChannelError

__all__ = ["ScanIntake"]


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
        self._values = ValueIntake(queue)
        self._lanes: dict[str, tuple[LaneQueue, ChannelDescription]] = {}
        floats: dict[str, Series] = {}
        for lane in queue.lanes.values():
            if not lane.description.is_declared:
                continue
            for channel in lane.description.channels:
                self._lanes[channel.given_name] = lane, channel
                # No other channel has it: valid names of a program stay.
                self._lanes.setdefault(channel.name, (lane, channel))
                if isinstance(lane, ValueLaneQueue) and _is_float(channel):
                    floats[channel.name] = lane.series[channel.name]
        queue.offer_fast_series(floats)
        self.fast: Mapping[str, Series] = queue.fast_series

    def process_scalars(self, name: str) -> None:
        """Note that single numbers were appended to `fast`; wait for room sometimes."""
        lane, channel = self._lanes[name]
        assert isinstance(lane, ValueLaneQueue)
        self._values.note_scalar(lane, lane.series[channel.name])

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
            self._values.send(lane, channel, values, time, first)
        elif isinstance(lane, FrameLaneQueue):
            if packed is None:
                frames = frames_of(channel, values)
                self._send_frames(lane, channel, frames, time, first, copy)
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
        first = None if point is None else operator.index(point)
        if first is not None and missing.any():
            raise ValueError(f"{name}: a numbered point is masked; leave it out")
        if isinstance(lane, ValueLaneQueue):
            times = times_of(name, time, len(points))
            if first is None:
                self._values.send_masked(lane, channel, points, missing, times)
            else:
                self._values.send_points(
                    lane, channel, points, times, first, copy=False
                )
        elif isinstance(lane, FrameLaneQueue):
            self._send_frames(lane, channel, points, time, first, False, missing)

    def skip(self, name: str, count: int) -> None:
        """Declare that points will never come; see ``Scan.skip``."""
        lane, channel = self._open_lane(name)
        if isinstance(lane, ValueLaneQueue):
            self._values.skip(lane, channel.name, count)
        elif isinstance(lane, FrameLaneQueue):
            lane.admit(0)
            part = _Part(self._queue, lane, None)
            part.add([Gap(count)])
            part.hand_over()

    def _open_lane(self, name: str) -> tuple[LaneQueue, ChannelDescription]:
        found = self._lanes.get(name)
        if found is None:
            raise UnknownChannelError(name, tuple(self._lanes))
        self._queue.check_open()
        return found

    # -------------------------------------------------------------------- frames

    def _send_frames(  # noqa: PLR0917 - as in `send`
        self,
        lane: FrameLaneQueue,
        channel: ChannelDescription,
        frames: npt.NDArray[Any],
        time: GivenTimes,
        point: int | None,
        copy: bool,
        missing: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        times = _times_or_now(channel.name, time, len(frames))
        is_given = time is not None
        part = _Part(self._queue, lane, point)

        def arrive(start: int, stop: int) -> Iterator[Arrived]:
            for index in range(start, stop):
                part.admit(lane.point_bytes)
                frame = self._private(lane, frames[index]) if copy else frames[index]
                yield Arrived(frame, times[index], lane.point_bytes, copy, is_given)

        if point is not None:
            check_points(self._queue, lane, channel.name, point, len(frames))
        if missing is None:
            part.add(arrive(0, len(frames)))
        else:
            runs = (
                [Gap(stop - start)] if is_missing else arrive(start, stop)
                for start, stop, is_missing in runs_of(missing)
            )
            part.add(chain.from_iterable(runs))
        part.hand_over()

    def _private(
        self, lane: FrameLaneQueue, frame: npt.NDArray[Any]
    ) -> npt.NDArray[Any] | bytes:
        return self._queue.encoders.private(lane, frame)

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
        part = _Part(self._queue, lane, point)

        def arrive() -> Iterator[Arrived]:
            for frame, taken in zip(frames, times, strict=True):
                part.admit(len(frame))
                yield Arrived(frame, taken, len(frame))

        if point is not None:
            check_points(self._queue, lane, channel.name, point, len(frames))
        part.add(arrive())
        part.hand_over()


class _Part:
    """Frames of one call that are handed over together, if there is room for them.

    Parameters
    ----------
    queue : ScanQueue
        The scan.
    lane : FrameLaneQueue
        Their lane.
    first : int, optional
        Number of the first frame; None if they follow the last one.
    """

    def __init__(
        self, queue: ScanQueue, lane: FrameLaneQueue, first: int | None
    ) -> None:
        self._queue = queue
        self._lane = lane
        self._first = first
        self._items: list[Item] = []
        self._nbytes = 0

    def admit(self, nbytes: int) -> None:
        """Wait until there is room for one more frame.

        What there was room for is handed over before: only then can it make room.
        """
        if not self._lane.admits(nbytes, self._nbytes):
            self.hand_over()
            self._lane.admit(nbytes)

    def add(self, items: Iterable[Item]) -> None:
        """Add frames, and hand them over whenever they are `PART_BYTES`."""
        if self._first is None:
            self._lane.numbered_stop = None
        for item in items:
            self._items.append(item)
            self._nbytes += item.nbytes if isinstance(item, Arrived) else 0
            if self._nbytes >= PART_BYTES:
                self.hand_over()

    def hand_over(self) -> None:
        """Hand over what was added, if anything."""
        if not self._items:
            return
        items, nbytes, first = self._items, self._nbytes, self._first
        self._items, self._nbytes = [], 0
        self._first = None if first is None else first + len(items)
        self._queue.inbox.hand_over(
            nbytes, take_items, self._queue, self._lane, first, items
        )


def _is_float(channel: ChannelDescription) -> bool:
    return not channel.shape and channel.numpy_dtype == np.float64


def _times_or_now(name: str, given: GivenTimes, count: int) -> list[float]:
    times = None if given is None else times_of(name, given, count)
    return [wall_clock()] * count if times is None else times.tolist()
