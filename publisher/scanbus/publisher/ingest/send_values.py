"""Check small values that a program sends, split, time and copy them, hand them over.

Runs in the program's thread; see :mod:`scanbus.publisher.ingest.send`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from time import time as wall_clock
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, Variable
from scanbus.publisher.buffers.group_buffer import Gap, Run, Series
from scanbus.publisher.declare.masked import runs_of
from scanbus.publisher.declare.times import GivenTimes, times_of
from scanbus.publisher.declare.values import (
    number_of,
    points_of,
)
from scanbus.publisher.ingest.arrived import (
    NumberedRun,
    Points,
    part_of,
    run_bytes,
)
from scanbus.publisher.ingest.numbered_points import (
    check_points,
    take_numbered_run,
    take_runs,
)
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.schemas import ChannelDescription

__all__ = ["PART_BYTES", "ValueIntake"]

PART_BYTES = 2**20
"""Larger sends are handed over in parts of this size: the quota limits what is kept."""


class ValueIntake:
    """Hands over the small values of one prepared scan.

    Parameters
    ----------
    queue : ScanQueue
        The scan.
    """

    def __init__(self, queue: ScanQueue) -> None:
        self._queue = queue

    def note_scalar(self, lane: ValueLaneQueue, series: Series) -> None:
        """Note that a number was appended to a series; wait for room sometimes."""
        if lane.note_scalar(series):
            self._queue.inbox.hand_over(0, lane.settle)
            lane.admit(0)

    def skip(self, lane: ValueLaneQueue, name: str, count: int) -> None:
        """Hand over a gap of a channel."""
        lane.admit(0)
        self._add_runs(lane, name, [(Gap(count), None)])

    def send(
        self,
        lane: ValueLaneQueue,
        channel: ChannelDescription,
        values: Any,
        time: GivenTimes,
        point: int | None,
    ) -> None:
        """Hand over values; arguments and errors are those of ``Scan.send``."""
        numbered = point is not None or lane.order is not None
        if not numbered and time is None and self._sent_plain(lane, channel, values):
            return
        points = points_of(channel, values)
        times = times_of(channel.name, time, len(points))
        is_ours = isinstance(values, list | tuple | int | float)
        self.send_points(lane, channel, points, times, point, copy=not is_ours)

    def send_points(
        self,
        lane: ValueLaneQueue,
        channel: ChannelDescription,
        points: Points,
        times: Times | None,
        point: int | None,
        *,
        copy: bool,
    ) -> None:
        """Hand over points, or copies if the program may change them."""
        if point is not None or lane.order is not None:
            self._send_numbered(lane, channel, points, times, point, copy=copy)
            return
        self._check_times(lane, channel.name, times)
        for part, taken in _parts(channel, points, times):
            lane.admit(run_bytes(part))
            self._add_run(lane, channel.name, _private(part, copy=copy), taken)

    def send_masked(
        self,
        lane: ValueLaneQueue,
        channel: ChannelDescription,
        points: npt.NDArray[Any],
        missing: npt.NDArray[np.bool_],
        times: Times | None,
    ) -> None:
        """Hand over points, and gaps where they are missing, in one step.

        Points of more than `PART_BYTES` take one step for each part of that size.
        """
        self._check_times(lane, channel.name, times)
        per_part = _points_per_part(channel)
        for start in range(0, len(points), per_part):
            part = points[start : start + per_part]
            taken = None if times is None else times[start : start + per_part]
            lane.admit(part.nbytes)
            runs = _masked_runs(part, missing[start : start + per_part], taken)
            self._add_runs(lane, channel.name, [*runs])

    def _check_times(
        self, lane: ValueLaneQueue, name: str, times: Times | None
    ) -> None:
        if times is not None and len(lane.description.channels) > 1:
            # Other channels' times may have been handed over and not be applied yet.
            self._queue.inbox.ask(partial(lane.check_times, name, times))

    def _add_run(
        self,
        lane: ValueLaneQueue,
        name: str,
        run: Run,
        times: Times | None,
    ) -> None:
        self._withdraw_scalars(lane, name)
        now = wall_clock()
        self._queue.inbox.hand_over(run_bytes(run), lane.gather, name, run, times, now)

    def _add_runs(
        self,
        lane: ValueLaneQueue,
        name: str,
        runs: Sequence[tuple[Points | Gap, Times | None]],
    ) -> None:
        """Hand over points and gaps in one step."""
        lane.numbered_stop = None
        self._withdraw_scalars(lane, name)
        nbytes = sum(run_bytes(run) for run, _ in runs)
        self._queue.inbox.hand_over(
            nbytes, take_runs, self._queue, lane, name, runs, wall_clock()
        )

    def _withdraw_scalars(self, lane: ValueLaneQueue, name: str) -> None:
        """Hand over single numbers of a channel, too: they come after what is sent."""
        series = lane.series[name]
        if series.takes_scalars:
            series.takes_scalars = False
            self._queue.withdraw_fast(name)

    def _sent_plain(
        self, lane: ValueLaneQueue, channel: ChannelDescription, values: Any
    ) -> bool:
        """Send an array as declared, or one number, the short way, if it is one."""
        series = lane.series[channel.name]
        plain = series.plain(values)
        if plain is not None and plain.nbytes <= PART_BYTES:
            lane.admit(plain.nbytes)
            self._add_run(lane, channel.name, plain.copy(), None)
            return True
        if channel.shape or channel.is_string or not series.takes_scalars:
            return False
        number = number_of(channel, values)
        if number is None:
            return False
        series.scalars.append(number)
        if series.is_awaited or not len(series.scalars) & 1023:
            self.note_scalar(lane, series)
        return True

    def _send_numbered(
        self,
        lane: ValueLaneQueue,
        channel: ChannelDescription,
        points: Points,
        times: Times | None,
        point: int | None,
        *,
        copy: bool,
    ) -> None:
        queue = self._queue
        if point is None:
            lane.numbered_stop = None
        else:
            check_points(queue, lane, channel.name, point, len(points))
        self._withdraw_scalars(lane, channel.name)
        first, now = point, wall_clock()
        for part, taken in _parts(channel, points, times):
            nbytes = run_bytes(part)
            lane.admit(nbytes)
            came = NumberedRun(first, _private(part, copy=copy), taken, now)
            queue.inbox.hand_over(nbytes, take_numbered_run, queue, lane, came)
            first = None if first is None else first + len(part)


def _private(points: Points, *, copy: bool) -> Points:
    """Return points that the program cannot change; packed ones are so already."""
    return points if isinstance(points, Variable) or not copy else points.copy()


def _points_per_part(channel: ChannelDescription) -> int:
    return max(1, PART_BYTES // max(1, channel.point_bytes))


def _parts(
    channel: ChannelDescription, points: Points, times: Times | None
) -> Iterator[tuple[Points, Times | None]]:
    count = len(points)
    per_part = _points_per_part(channel)
    if count <= per_part:
        yield points, times
        return
    for start in range(0, count, per_part):
        stop = min(start + per_part, count)
        taken = None if times is None else times[start:stop]
        yield part_of(points, start, stop), taken


def _masked_runs(
    points: npt.NDArray[Any], missing: npt.NDArray[np.bool_], times: Times | None
) -> Iterator[tuple[Points | Gap, Times | None]]:
    for start, stop, is_missing in runs_of(missing):
        run: Points | Gap = Gap(stop - start) if is_missing else points[start:stop]
        yield run, None if times is None else times[start:stop]
