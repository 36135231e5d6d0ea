"""Put points that come out of order into order, within a bounded window.

Some detectors deliver frames out of order. A point ahead of the next one is held until
the points between have come; when it has waited too long, or too much is held, the
missing points are given up and become a gap. A point that comes after it was given up
is late. Pure: no Redis, no thread, and the clock is an argument.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from scanbus.schemas import MAX_POINTS

__all__ = ["Hole", "Late", "Ready", "ReorderBuffer", "Step"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ready(Generic[_T]):
    """The next point of the lane."""

    item: _T


@dataclass(frozen=True, slots=True)
class Hole:
    """The next points of the lane will never come."""

    count: int


@dataclass(frozen=True, slots=True)
class Late(Generic[_T]):
    """A point that came after its place was closed."""

    point: int
    item: _T


Step: TypeAlias = Ready[_T] | Hole | Late[_T]


@dataclass(frozen=True, slots=True)
class _Held(Generic[_T]):
    item: _T
    nbytes: int
    since_s: float


class ReorderBuffer(Generic[_T]):
    """The points of one channel that are held for missing ones before them.

    Not safe to share between threads.

    Parameters
    ----------
    name : str
        The channel, for error messages.
    next_point : int
        The first point that has not come.
    window_points : int
        Largest distance, in points, between the next point and the last one held.
    window_s : float
        Longest time, in seconds, that a point waits for those before it.
    """

    def __init__(
        self, name: str, next_point: int, *, window_points: int, window_s: float
    ) -> None:
        self._name = name
        self._window_points = window_points
        self._window_s = window_s
        self._held: dict[int, _Held[_T]] = {}
        # Ranges that were given up, ascending, neither overlapping nor adjacent.
        self._closed: list[tuple[int, int]] = []
        self.next_point = next_point
        self.nbytes = 0

    @property
    def is_holding(self) -> bool:
        """Whether points are held for missing ones."""
        return bool(self._held)

    def is_next(self, point: int) -> bool:
        """Return whether points from this one on are in order."""
        return point == self.next_point and not self._held

    @property
    def stop(self) -> int:
        """The point after the last one that came."""
        return max(self._held) + 1 if self._held else self.next_point

    def check(self, point: int, count: int) -> None:
        """Refuse points that were sent before.

        Raises
        ------
        ValueError
            If any of ``[point, point + count)`` was sent before, or is out of range.
        """
        if point < 0 or point + count > MAX_POINTS:
            raise ValueError(f"{self._name}: point {point} is out of range")
        if point >= self.next_point and not self._held:
            return
        for one in range(point, point + count):
            is_closed = one < self.next_point and self._closed_range(one) is None
            if is_closed or one in self._held:
                raise ValueError(f"{self._name}: point {one} was sent before")

    def push(
        self, point: int, item: _T, nbytes: int, now_s: float, max_bytes: float
    ) -> list[Step[_T]]:
        """Add one point that was checked; return the steps that follow from it.

        Parameters
        ----------
        point : int
            Its number, from 0.
        nbytes : int
            Bytes that it counts as while it is held.
        now_s : float
            The time of a monotonic clock, in seconds.
        max_bytes : float
            Most bytes held; above, holes are given up at once.

        Raises
        ------
        ValueError
            If the point was sent before.
        """
        if point < self.next_point:
            self._reopen(point)
            return [Late(point, item)]
        self._held[point] = _Held(item, nbytes, now_s)
        self.nbytes += nbytes
        steps = self._drain()
        while self._held and (
            self.stop - self.next_point > self._window_points or self.nbytes > max_bytes
        ):
            steps += self._give_up_first()
        return steps

    def advance(self, count: int) -> None:
        """Skip over points that came in order while none was held."""
        self.next_point += count

    def skip(self, count: int) -> list[Step[_T]]:
        """Declare that the points after all that came will never come.

        Holes before the held points are given up.
        """
        return [*self.flush(), *self._close(count)]

    def give_up(self, now_s: float) -> list[Step[_T]]:
        """Give up the holes that were noticed at least `window_s` ago."""
        steps: list[Step[_T]] = []
        # Every held point is behind the first hole: the oldest one revealed it.
        while self._held and now_s >= self._noticed_s + self._window_s:
            steps += self._give_up_first()
        return steps

    def flush(self) -> list[Step[_T]]:
        """Give up all holes."""
        steps: list[Step[_T]] = []
        while self._held:
            steps += self._give_up_first()
        return steps

    @property
    def _noticed_s(self) -> float:
        return min(held.since_s for held in self._held.values())

    def _give_up_first(self) -> list[Step[_T]]:
        return [*self._close(min(self._held) - self.next_point), *self._drain()]

    def _drain(self) -> list[Step[_T]]:
        steps: list[Step[_T]] = []
        while (held := self._held.pop(self.next_point, None)) is not None:
            self.next_point += 1
            self.nbytes -= held.nbytes
            steps.append(Ready(held.item))
        return steps

    def _close(self, count: int) -> list[Step[_T]]:
        if not count:
            return []
        start, self.next_point = self.next_point, self.next_point + count
        if self._closed and self._closed[-1][1] == start:
            start = self._closed.pop()[0]
        self._closed.append((start, self.next_point))
        return [Hole(count)]

    def _closed_range(self, point: int) -> int | None:
        """Return the index of the range given up that has this point; None if none."""
        index = bisect_right(self._closed, (point, MAX_POINTS)) - 1
        if index < 0 or point >= self._closed[index][1]:
            return None
        return index

    def _reopen(self, point: int) -> None:
        """Remove a late point from the ranges that were given up."""
        index = self._closed_range(point)
        if index is None:
            raise ValueError(f"{self._name}: point {point} was sent before")
        start, stop = self._closed[index]
        rest = [(start, point), (point + 1, stop)]
        self._closed[index : index + 1] = [each for each in rest if each[0] < each[1]]
