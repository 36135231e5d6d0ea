"""From the name of a channel to the lane that takes its points.

Made when a scan is prepared; what a program sends goes through here, but for single
numbers, for which the scan looks into `fast` itself.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from scanbus.publisher.buffers.group_buffer import Gap, Series
from scanbus.publisher.ingest.enqueue import advance, put_values
from scanbus.publisher.ingest.numbered import skip_points
from scanbus.publisher.ingest.send import Times, feed_frames, feed_packed, feed_values
from scanbus.publisher.queue.lane_queue import FrameLaneQueue, LaneQueue, ValueLaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import ScanStateError, UnknownChannelError

__all__ = ["Dispatch"]


class Dispatch:
    """The channels of one prepared scan.

    Parameters
    ----------
    queue : ScanQueue
        The scan, with its lanes.
    """

    def __init__(self, queue: ScanQueue) -> None:
        self._delivery = queue
        self._lanes: dict[str, tuple[LaneQueue, ChannelDescription]] = {}
        for lane in queue.lanes.values():
            for channel in lane.description.channels:
                self._lanes[channel.name] = lane, channel
                if isinstance(lane, ValueLaneQueue) and _is_float(channel):
                    # This very table: the queue empties it when the scan fails.
                    queue.series[channel.name] = lane.buffer.series[channel.name]
        self.fast: Mapping[str, Series] = queue.series

    def advance(self, name: str) -> None:
        """Look after single numbers that were put into `fast`."""
        lane, _ = self._lanes[name]
        assert isinstance(lane, ValueLaneQueue)
        advance(self._delivery, lane)

    def send(  # noqa: PLR0917 - what Scan.send was given, as it was
        self,
        name: str,
        values: Any,
        packed: Any,
        time: Times,
        point: int | None,
        copy: bool,
    ) -> None:
        """Take points; arguments and errors are those of ``Scan.send``."""
        lane, channel = self._open_lane(name)
        first = None if point is None else operator.index(point)
        if isinstance(lane, ValueLaneQueue):
            if packed is not None:
                raise ValueError(f"{name}: only a detector's frames are sent packed")
            feed_values(self._delivery, lane, channel, values, time, point=first)
        elif isinstance(lane, FrameLaneQueue):
            if packed is None:
                feed_frames(self._delivery, lane, values, time, point=first, copy=copy)
            elif values is None:
                feed_packed(self._delivery, lane, packed, time, point=first)
            else:
                raise ValueError(f"{name}: either values or packed frames")

    def skip(self, name: str, count: int) -> None:
        """Say that points will never come; see ``Scan.skip``."""
        lane, _ = self._open_lane(name)
        if isinstance(lane, ValueLaneQueue) and len(lane.description.channels) > 1:
            put_values(self._delivery, lane, name, Gap(count), None)
        else:
            skip_points(self._delivery, lane, count)

    def _open_lane(self, name: str) -> tuple[LaneQueue, ChannelDescription]:
        found = self._lanes.get(name)
        if found is None:
            raise UnknownChannelError(name, tuple(self._lanes))
        queue = self._delivery
        if queue.error is not None:
            raise queue.error
        if queue.is_over:
            raise ScanStateError(f"scan {queue.uid} is over: nothing can be sent")
        return found


def _is_float(channel: ChannelDescription) -> bool:
    return not channel.shape and channel.numpy_dtype.kind == "f"
