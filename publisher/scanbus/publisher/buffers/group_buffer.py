"""Buffer small values until every channel of a group has the point.

An entry of a group holds all its channels for the same points. Programs send channel
by channel, one value or many at a time, up to hundreds of thousands per second: the
work per value is one ``list.append``; numpy arrays are made when the sender takes
them. Pure: no Redis, no thread, and the clock is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import GATHERED_BYTES, TIME_BYTES, Ends, Times, Variable
from scanbus.publisher.buffers.point_times import PointTimes
from scanbus.schemas import ChannelDescription, LaneDescription
from scanbus.schemas.errors import ScanStateError

__all__ = ["Gap", "GroupBuffer", "Run", "Series", "Taken"]

# From this many on, single numbers are kept as an array: 8 bytes instead of 32.
_COMPACT_POINTS = 4096
# The smallest block that is allocated for arrays to be copied into.
_BLOCK_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Gap:
    """Points that will never come."""

    count: int

    def __len__(self) -> int:
        """Return how many points."""
        return self.count


Run: TypeAlias = npt.NDArray[Any] | Variable | Gap | list[Any]
"""Consecutive points of one channel; a list holds plain numbers."""


class _Block:
    """Contiguous memory for consecutive arrays of points of one channel.

    An entry of many small arrays is then one array, and is sent without another copy.

    Parameters
    ----------
    points : numpy.ndarray
        Shape ``(n, *shape)``.
    """

    __slots__ = ("begin", "points", "stop")

    def __init__(self, points: npt.NDArray[Any]) -> None:
        self.points = points
        self.begin = 0
        self.stop = 0

    @property
    def space(self) -> int:
        """How many more points fit."""
        return len(self.points) - self.stop

    def take(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Append a copy of points; return all from `begin` on."""
        stop = self.stop + len(points)
        self.points[self.stop : stop] = points
        self.stop = stop
        return self.points[self.begin : stop]


class _Sealed(list[Any]):
    """Takes no value: the scan has ended."""

    def append(self, _value: Any, /) -> None:
        """Refuse it."""
        raise ScanStateError("the scan is over: nothing can be sent")


class Series:
    """The points of one channel that are in no entry yet.

    Only appending to `scalars` needs no lock. They come after all runs, so once there
    was a run that is not applied yet, `takes_scalars` is False.

    Parameters
    ----------
    channel : ChannelDescription
        The channel.
    start : int
        The first point to come.
    """

    __slots__ = (
        "_block",
        "_dtype",
        "_is_open",
        "_is_variable",
        "_point_bytes",
        "_run_bytes",
        "_run_stop",
        "_runs",
        "_shape",
        "_taken",
        "channel",
        "is_awaited",
        "scalars",
        "takes_scalars",
    )

    def __init__(self, channel: ChannelDescription, start: int = 0) -> None:
        self.channel = channel
        # Cached: the description computes them at each access.
        self._dtype = channel.numpy_dtype
        self._shape = channel.shape
        self._is_variable = channel.is_variable
        self._point_bytes = channel.point_bytes
        self.scalars: list[Any] = []
        self.is_awaited = False
        self.takes_scalars = True
        self._runs: deque[Run] = deque()
        self._run_stop = self._taken = start
        self._run_bytes = 0
        self._block: _Block | None = None
        self._is_open = False  # Whether the last run ends the block, and may grow.

    @property
    def count(self) -> int:
        """Points that came so far, with those that were taken."""
        return self._run_stop + len(self.scalars)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the points that were not taken."""
        if self._is_variable:
            return self._run_bytes
        return (self.count - self._taken) * self._point_bytes

    def plain(self, values: Any) -> npt.NDArray[Any] | None:
        """Return an array as points; None if type or shape are not as declared."""
        if self._is_variable or type(values) is not np.ndarray:
            return None
        if values.dtype != self._dtype:
            return None
        shape = values.shape
        if shape == self._shape:
            return values[np.newaxis]
        is_many = len(shape) == len(self._shape) + 1 and shape[1:] == self._shape
        return values if is_many else None

    def append(self, run: Run) -> None:
        """Append points, which the caller gives away; small arrays are put together."""
        self._flush_scalars()
        if isinstance(run, np.ndarray) and not self._is_large(run):
            self._copy(run)
        else:
            self._push(run)

    def _is_large(self, points: npt.NDArray[Any]) -> bool:
        return points.nbytes >= _BLOCK_BYTES and points.dtype == self._dtype

    def end(self) -> None:
        """Take no more single numbers."""
        scalars, self.scalars = self.scalars, _Sealed()
        self._push_scalars(scalars)

    def _copy(self, points: npt.NDArray[Any]) -> None:
        self._run_stop += len(points)
        while len(points):
            block = self._block
            if block is None or not block.space:
                block = self._block = self._new_block()
            part = points[: block.space]
            points = points[len(part) :]
            if not self._is_open:
                block.begin = block.stop
            run = block.take(part)
            if self._is_open:
                self._runs[-1] = run
            else:
                self._runs.append(run)
            self._is_open = block.space > 0

    def _new_block(self) -> _Block:
        # As large as what is pending, at most one entry: that is little if the sender
        # keeps up. A block stays in memory as long as the last entry that refers to it.
        nbytes = min(max(self.pending_bytes, _BLOCK_BYTES), GATHERED_BYTES)
        count = max(1, nbytes // (self._point_bytes + TIME_BYTES))
        return _Block(np.empty((count, *self._shape), self._dtype))

    def compact(self) -> None:
        """Convert single numbers to an array if they have become many."""
        if len(self.scalars) >= _COMPACT_POINTS:
            self._flush_scalars()

    def _flush_scalars(self) -> None:
        # Another thread may append meanwhile: only what was copied is removed.
        scalars = self.scalars[:]
        if scalars:
            # In this order: who reads `count` meanwhile may find too few points.
            del self.scalars[: len(scalars)]
            self._push_scalars(scalars)

    def _push_scalars(self, scalars: list[Any]) -> None:
        self._push(np.array(scalars, self._dtype))

    def _push(self, run: Run) -> None:
        if len(run):
            self._is_open = False
            self._runs.append(run)
            self._run_stop += len(run)
            self._run_bytes += _variable_bytes(run)

    def take(self, count: int) -> list[Run]:
        """Remove and return the next `count` points, which must be there."""
        self._taken += count
        taken: list[Run] = []
        while count and self._runs:
            run = self._runs.popleft()
            is_open = self._is_open and not self._runs
            if len(run) > count:
                run, rest = _split(run, count)
                self._runs.appendleft(rest)
                if is_open and self._block is not None:
                    self._block.begin += count
            elif is_open:
                self._is_open = False
            taken.append(run)
            self._run_bytes -= _variable_bytes(run)
            count -= len(run)
        if count:
            taken.append(self.scalars[:count])
            del self.scalars[:count]
            self._run_stop += count
        return taken

    @property
    def contiguous(self) -> int:
        """How many of the next points are contiguous in memory."""
        return len(self._runs[0]) if self._runs else len(self.scalars)

    def sizes(self, count: int) -> npt.NDArray[np.int64]:
        """Return the bytes of each of the next `count` points of variable length."""
        found: list[npt.NDArray[np.int64]] = []
        for run in self._runs:
            if count <= 0:
                break
            found.append(_sizes(run)[:count])
            count -= len(run)
        return np.concatenate(found)


def _sizes(run: Run) -> npt.NDArray[np.int64]:
    if isinstance(run, Variable):
        return run.lengths.astype(np.int64) * run.values.itemsize + 4
    return np.full(len(run), 4, np.int64)


def _variable_bytes(run: Run) -> int:
    if isinstance(run, Variable):
        return 4 * len(run) + run.values.nbytes
    return 4 * len(run) if isinstance(run, Gap) else 0


def _split(run: Run, count: int) -> tuple[Run, Run]:
    if isinstance(run, Gap):
        return Gap(count), Gap(len(run) - count)
    if isinstance(run, Variable):
        cut = int(run.lengths[:count].sum(dtype=np.int64))
        head = Variable(run.lengths[:count], run.values[:cut])
        return head, Variable(run.lengths[count:], run.values[cut:])
    return run[:count], run[count:]


@dataclass(frozen=True, slots=True)
class Taken:
    """Points of a whole group that become one entry.

    Attributes
    ----------
    first, count : int
        The points ``[first, first + count)``.
    runs : tuple of list
        For each channel, in the lane's order, runs with `count` points in all.
    times : numpy.ndarray or tuple of float
        Time of each point, or of the first and the last, in seconds since 1970.
    """

    first: int
    count: int
    runs: tuple[list[Run], ...]
    times: Times | Ends


class GroupBuffer:
    """The values of one group that are in no entry yet.

    Not safe to share between threads without a lock, except for `Series.scalars` and
    `note_reached`.

    Parameters
    ----------
    lane : LaneDescription
        The group.
    start : int
        The first point to come: those before it are in entries already.
    """

    def __init__(self, lane: LaneDescription, start: int = 0) -> None:
        self._lane = lane
        self.series = {each.name: Series(each, start) for each in lane.channels}
        self._all = tuple(self.series.values())
        self._variable = tuple(s for s in self._all if s.channel.is_variable)
        self._fixed_bytes = sum(
            series.channel.point_bytes
            for series in self._all
            if not series.channel.is_variable
        )
        self._times = PointTimes(start)
        self._reached: deque[tuple[int, float]] = deque()
        self.taken = self.complete = start
        self._update_complete()

    @property
    def pending_bytes(self) -> int:
        """Bytes of all points that are in no entry yet, and of their given times."""
        pending = sum(series.pending_bytes for series in self._all)
        return pending + self._times.nbytes

    @property
    def has_complete(self) -> bool:
        """Whether a point that all channels have is in no entry yet."""
        return self.complete > self.taken

    @property
    def length(self) -> int:
        """Points of the longest channel so far."""
        return max(series.count for series in self._all)

    def longest_and_shortest(self) -> tuple[str, str, int]:
        """Return the longest and the shortest channel, and how many points apart."""
        longest = max(self._all, key=lambda series: series.count)
        shortest = min(self._all, key=lambda series: series.count)
        behind = longest.count - shortest.count
        return longest.channel.name, shortest.channel.name, behind

    def check_times(self, name: str, times: Times) -> None:
        """Refuse times of the next points of a channel if these have others.

        Raises
        ------
        ValueError
            If another channel of the group gave a point of them another time.
        """
        found = self._times.conflict(self.series[name].count, times)
        if found is not None:
            point, known, given = found
            raise ValueError(
                f"{name}: point {point} has the time {known!r} from another channel of "
                f"the group {self._lane.name!r}, got {given!r}; points of a group have "
                "one time: give it with one channel, or declare no group"
            )

    def append(self, name: str, run: Run, times: Times | None = None) -> None:
        """Append points of one channel.

        Parameters
        ----------
        times : numpy.ndarray, optional
            Time of each of them, in seconds since 1970; if another channel gave points
            of them a time, that is kept.
        """
        series = self.series[name]
        start = series.count
        series.append(run)
        if times is not None and len(run):
            self._times.give(start, times)

    def advance(self, now: float) -> bool:
        """Update which points are complete; return whether there are more.

        Parameters
        ----------
        now : float
            Time of the points for which none was noted, in seconds since 1970.
        """
        before = self.complete
        self._update_complete()
        self._apply_reached()
        self._times.reach(self.complete, now)
        return self.complete > before

    def note_reached(self, count: int, now: float) -> None:
        """Note, without a lock, when an awaited channel had `count` points."""
        self._reached.append((count, now))

    def _apply_reached(self) -> None:
        while self._reached:
            count, then = self._reached[0]
            if count > self.complete and len(self._all) == 1:
                return  # It came during this call.
            self._reached.popleft()
            if count <= self.complete:
                self._times.reach(count, then)

    def _update_complete(self) -> None:
        if len(self._all) == 1:
            self._all[0].is_awaited = True
            self.complete = self._all[0].count
            return
        counts = [series.count for series in self._all]
        self.complete = min(counts)
        # The last channel that lacks the next point: programs send in order, so this
        # one usually completes it, and only then is an update needed.
        awaited = len(counts) - 1 - counts[::-1].index(self.complete)
        for index, series in enumerate(self._all):
            series.is_awaited = index == awaited

    def compact(self) -> None:
        """Convert single numbers to arrays where they have become many."""
        for series in self._all:
            series.compact()

    def end(self, now: float) -> None:
        """Extend the shorter channels with gaps to the length of the longest."""
        for series in self._all:
            series.end()
        length = self.length
        for series in self._all:
            series.append(Gap(length - series.count))
        self.advance(now)

    def take(self) -> Taken | None:
        """Return the points of the next entry; None if no point is complete."""
        first = self.taken
        count = self._entry_points()
        if not count:
            return None
        runs = tuple(series.take(count) for series in self._all)
        self.taken += count
        return Taken(first, count, runs, self._times.take(first, first + count))

    def _entry_points(self) -> int:
        """Return how many complete points fit the segment and an entry's bytes."""
        per_segment = self._lane.points_per_segment
        boundary = (self.taken // per_segment + 1) * per_segment
        count = min(self.complete, boundary) - self.taken
        if count < 2:
            return count
        if not self._variable:
            most = max(1, GATHERED_BYTES // (self._fixed_bytes + TIME_BYTES))
            contiguous = self._all[0].contiguous if len(self._all) == 1 else most
            # Contiguous points need no copy: worth it from half an entry on.
            return min(count, most, contiguous if 2 * contiguous > most else most)
        sizes = np.full(count, self._fixed_bytes + TIME_BYTES, np.int64)
        for series in self._variable:
            sizes += series.sizes(count)
        fits = int(np.searchsorted(np.cumsum(sizes), GATHERED_BYTES, "right"))
        return max(1, min(count, fits))


def gap_ranges(first: int, runs: Sequence[Run]) -> tuple[tuple[int, int], ...]:
    """Return the points that are gaps in some runs, adjacent ones merged.

    Examples
    --------
    >>> gap_ranges(10, [Gap(2), [1.0], Gap(1), Gap(1)])
    ((10, 12), (13, 15))
    """
    edges = [first]
    for run in runs:
        edges.append(edges[-1] + len(run))
    found: list[tuple[int, int]] = []
    for run, (start, stop) in zip(runs, pairwise(edges), strict=True):
        if not isinstance(run, Gap):
            continue
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return tuple(found)
