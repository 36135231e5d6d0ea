"""Frame numbers of one series: which are next, missing, repeated, or impossible.

Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum

__all__ = [
    "MAX_JUMP",
    "FrameNumbers",
    "Place",
    "begins_anew",
    "is_far_behind",
    "span_text",
]

# The counter of a detector that lost so many frames would not be believed.
MAX_JUMP = 1_000_000
# Frames of several senders, or of one with many threads, come out of order by so many.
_DISORDER = 64


def begins_anew(number: int, first: int, greatest: int) -> bool:
    """Whether a counter that went from `first` to `greatest` has begun again.

    Examples
    --------
    >>> [begins_anew(number, 0, 100) for number in (101, 40, 35, 0)]
    [False, False, True, True]
    """
    is_start = number == first or number <= 1 < first
    return is_start or is_far_behind(number, greatest)


def is_far_behind(number: int, greatest: int) -> bool:
    """Whether a number is so far behind that it is none out of order."""
    return number + _DISORDER < greatest


class Place(Enum):
    """Where a number stands among those that came before."""

    NEW = "new"
    REPEATED = "repeated"
    BEFORE_FIRST = "before the first"
    TOO_FAR = "too far ahead"


class FrameNumbers:
    """Numbers of the frames of one series that have come.

    Parameters
    ----------
    first : int
        Number of the first frame.
    stop : int, optional
        The number after those that came before, all of them; by default none did.
    came : int, optional
        Frames before this number came too, and some of their values may have not.
        They are none that are missing, and are new once more; by default none did.

    Examples
    --------
    >>> numbers = FrameNumbers(0)
    >>> [numbers.add(n).value for n in (0, 3, 3, 1)], numbers.missing()
    (['new', 'new', 'repeated', 'new'], [(2, 3)])
    >>> numbers = FrameNumbers(0, 2, came=5)
    >>> [numbers.add(n).value for n in (1, 4, 7)], numbers.missing()
    (['repeated', 'new', 'new'], [(5, 7)])
    """

    def __init__(
        self, first: int, stop: int | None = None, *, came: int | None = None
    ) -> None:
        self.first = first
        self.came = first if came is None else came
        self._stop = first if stop is None else stop
        # Ranges of missing numbers, sorted: starts and ends.
        self._starts: list[int] = []
        self._stops: list[int] = []

    @property
    def stop(self) -> int:
        """The number after the greatest one that came."""
        return self._stop

    @property
    def end(self) -> int:
        """The number after the greatest one that came, now or before."""
        return max(self._stop, self.came)

    @property
    def n_missing(self) -> int:
        """How many numbers before the greatest one have not come."""
        return sum(stop - start for start, stop in self.missing())

    @property
    def may_fill(self) -> bool:
        """Whether a missing number may still come in order; later, it is lost or late.

        Examples
        --------
        >>> numbers = FrameNumbers(0)
        >>> [(numbers.add(n).value, numbers.may_fill) for n in (0, 2, 64, 65)]
        [('new', False), ('new', True), ('new', True), ('new', True)]
        """
        return bool(self._starts) and self._stop - self._starts[-1] <= _DISORDER

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges of missing numbers, each with its end excluded."""
        ranges = zip(self._starts, self._stops, strict=True)
        return [(max(low, self.came), high) for low, high in ranges if high > self.came]

    def add(self, number: int) -> Place:
        """Note that a frame came; return where its number stands."""
        if number < self.first:
            return Place.BEFORE_FIRST
        if number >= self._stop:
            if number - self._stop > MAX_JUMP:
                return Place.TOO_FAR
            if number > self._stop:
                self._starts.append(self._stop)
                self._stops.append(number)
            self._stop = number + 1
            return Place.NEW
        return Place.NEW if self._fill(number) else Place.REPEATED

    def _fill(self, number: int) -> bool:
        """Take a number out of the missing ones; return whether it was among them."""
        index = bisect_right(self._starts, number) - 1
        if index < 0 or number >= self._stops[index]:
            return False
        start, stop = self._starts[index], self._stops[index]
        rest = [(start, number), (number + 1, stop)]
        kept = [(low, high) for low, high in rest if low < high]
        self._starts[index : index + 1] = [low for low, _ in kept]
        self._stops[index : index + 1] = [high for _, high in kept]
        return True


def span_text(first: int, stop: int) -> str:
    """Return the beginning of a sentence about frames that were lost.

    Examples
    --------
    >>> span_text(3, 4), span_text(3, 9)
    ('frame 3 was', 'frames 3 to 8 were')
    """
    if stop == first + 1:
        return f"frame {first} was"
    return f"frames {first} to {stop - 1} were"
