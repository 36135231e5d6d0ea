"""The times of a group's points that are in no entry yet.

A time that the program gave is kept as it is. Points without one get the time when the
last channel of the group had them, to within a millisecond: a straight line then takes
two numbers on the bus instead of one for each point. Pure: the clock is an argument.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

import numpy as np

from scanbus.bus.protocol import TIME_BYTES, Ends, Times

__all__ = ["EVEN_S", "PointTimes"]

EVEN_S = 1e-3
"""Points without a time of the program's have theirs to within this, in seconds."""


@dataclass(slots=True)
class _Given:
    """Consecutive points whose times the program gave."""

    start: int
    times: array[float]

    @property
    def stop(self) -> int:
        return self.start + len(self.times)


@dataclass(slots=True)
class _Line:
    """Points ``[start, stop)`` that came evenly from time `first` to `last`."""

    start: int
    stop: int
    first: float
    last: float

    def at(self, point: int) -> float:
        if self.stop - self.start < 2:
            return self.last
        share = (point - self.start) / (self.stop - self.start - 1)
        return self.first + (self.last - self.first) * share


class PointTimes:
    """Times of points, from the program or from the clock; see the module.

    Not safe to share between threads without a lock.

    Parameters
    ----------
    start : int
        The first point to come.

    Attributes
    ----------
    stop : int
        The points before this one have a time.
    """

    def __init__(self, start: int = 0) -> None:
        self._given: list[_Given] = []  # Ascending, neither overlapping nor adjacent.
        self._lines: deque[_Line] = deque()
        self.stop = start

    @property
    def nbytes(self) -> int:
        """Bytes of the times that the program gave."""
        return TIME_BYTES * sum(len(run.times) for run in self._given)

    def conflict(self, start: int, times: Times) -> tuple[int, float, float] | None:
        """Return a point that has another time, that time and the new one, or None."""
        stop = start + len(times)
        for run in self._overlapping(start, stop):
            low, high = max(start, run.start), min(stop, run.stop)
            known = np.frombuffer(run.times[low - run.start : high - run.start])
            given = times[low - start : high - start]
            differs = known.view(np.uint64) != given.view(np.uint64)
            if differs.any():
                index = int(np.argmax(differs))
                return low + index, float(known[index]), float(given[index])
        return None

    def give(self, start: int, times: Times) -> None:
        """Set the times of points from `start` on; those set before are kept."""
        stop = start + len(times)
        for run in [*self._overlapping(start, stop)]:
            if start < run.start:
                self._insert(start, times[: run.start - start])
            times = times[run.stop - start :] if run.stop < stop else times[:0]
            start = run.stop
        self._insert(start, times)

    def _overlapping(self, start: int, stop: int) -> list[_Given]:
        first = bisect_right(self._given, start, key=lambda run: run.stop)
        return [run for run in self._given[first:] if run.start < stop]

    def _is_given(self, start: int, stop: int) -> bool:
        found = self._overlapping(start, stop)
        return bool(found) and found[0].start <= start and stop <= found[0].stop

    def _insert(self, start: int, times: Times) -> None:
        if not len(times):
            return
        index = bisect_right(self._given, start, key=lambda run: run.start)
        before = self._given[index - 1] if index else None
        if before is not None and before.stop == start:
            before.times.frombytes(times.tobytes())
        else:
            before = _Given(start, array("d", times.tobytes()))
            self._given.insert(index, before)
            index += 1
        if index < len(self._given) and self._given[index].start == before.stop:
            before.times.extend(self._given.pop(index).times)

    def reach(self, stop: int, now: float) -> None:
        """Let the points before `stop` that have no time have `now`."""
        if stop <= self.stop:
            return
        if self._given and self._is_given(self.stop, stop):
            self.stop = stop
            return
        last = self._lines[-1] if self._lines else None
        is_next = last is not None and last.stop == self.stop
        if last is not None and is_next and 0.0 <= now - last.first < EVEN_S:
            last.stop, last.last = stop, now
        else:
            self._lines.append(_Line(self.stop, stop, now, now))
        self.stop = stop

    def take(self, start: int, stop: int) -> Times | Ends:
        """Return the times of the next points, and forget them; all must have one.

        Two times stand for points to which the program gave none, if a straight line
        is right to within a millisecond.
        """
        lines = self._lines_in(start, stop)
        given = self._overlapping(start, stop)
        if not given:
            ends = lines[0].at(start), lines[-1].at(stop - 1)
            if _is_straight(lines, start, stop, ends):
                return ends
        times = _along(lines, start, stop)
        for run in given:
            low, high = max(start, run.start), min(stop, run.stop)
            known = run.times[low - run.start : high - run.start]
            times[low - start : high - start] = np.frombuffer(known)
        self._forget(stop)
        return times

    def _lines_in(self, start: int, stop: int) -> list[_Line]:
        while self._lines and self._lines[0].stop <= start:
            self._lines.popleft()
        found = []
        for line in self._lines:
            if line.start >= stop:
                break
            found.append(line)
        return found

    def _forget(self, stop: int) -> None:
        while self._given and self._given[0].start < stop:
            run = self._given[0]
            if run.stop > stop:
                del run.times[: stop - run.start]
                run.start = stop
                return
            del self._given[0]


def _along(lines: list[_Line], start: int, stop: int) -> Times:
    """Return the times of points; any value for those that no line has.

    For all lines at once: a slow channel has one for each few points.
    """
    points: list[int] = []
    times: list[float] = []
    for line in lines:
        low, last = max(start, line.start), min(stop, line.stop) - 1
        points.append(low)
        times.append(line.at(low))
        if last > low:
            points.append(last)
            times.append(line.at(last))
    if not points:
        return np.empty(stop - start)
    return np.interp(np.arange(start, stop), points, times)


def _is_straight(lines: list[_Line], start: int, stop: int, ends: Ends) -> bool:
    """Return whether all points come within `EVEN_S` of a line from end to end."""
    if len(lines) == 1:
        return True
    whole = _Line(start, stop, *ends)
    return all(
        abs(whole.at(point) - line.at(point)) <= EVEN_S
        for line in lines
        for point in (max(start, line.start), min(stop, line.stop) - 1)
    )
