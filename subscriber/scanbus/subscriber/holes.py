"""Points that no reader gets: are they in a file, or lost, and why.

Pure. A lane says which points it lacks, but not whether a file has them: the writer's
cursor and the verdict say that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from scanbus.bus.protocol import Arrival, Entry, Kind
from scanbus.schemas import PointRange
from scanbus.schemas.errors import NoLongerError

__all__ = ["ScanAnswers", "first_in_file", "hole_reason", "refuse_trimmed", "without"]

_LOST = "lost: no entry on the bus has them, and no file"
_DECLARED = "declared missing by the publisher; if they came late, the file has them"


class ScanAnswers(Protocol):
    """What is known of a scan beyond its lanes."""

    def file(self) -> str:
        """Return the file with the points that are no longer on the bus."""
        ...

    def lost(self, channel: str) -> Sequence[PointRange]:
        """Return the points that no file has, by the final verdict."""
        ...

    def is_judged(self) -> bool:
        """Whether the scan has its final verdict: nothing more will come."""
        ...


def first_in_file(start: int, stop: int, lost: Sequence[PointRange]) -> int | None:
    """Return the first of the points ``[start, stop)`` that is not lost, if any.

    Parameters
    ----------
    lost : sequence of (int, int)
        Ranges of points, ascending.

    Examples
    --------
    >>> first_in_file(0, 8, [(0, 4), (4, 6), (7, 9)])
    6
    >>> first_in_file(0, 4, [(0, 4)]) is None
    True
    """
    for first, end in lost:
        if first <= start < end:
            start = end
    return start if start < stop else None


def without(
    ranges: Iterable[PointRange], others: Iterable[PointRange]
) -> list[PointRange]:
    """Return ascending ranges of points without those of others.

    Examples
    --------
    >>> without([(0, 4), (6, 9)], [(2, 3), (3, 7)])
    [(0, 2), (7, 9)]
    """
    left = sorted(ranges)
    for first, end in others:
        left = [piece for one in left for piece in _cut(one, (first, end))]
    return left


def _cut(one: PointRange, other: PointRange) -> list[PointRange]:
    pieces = ((one[0], min(one[1], other[0])), (max(one[0], other[1]), one[1]))
    return [(start, stop) for start, stop in pieces if start < stop]


def refuse_trimmed(
    channel: str,
    arrival: Arrival,
    start: int,
    trimmed_before: Callable[[], int],
    scan: ScanAnswers,
) -> None:
    """Raise if points of an arrival, from `start` on, are in a file only.

    Parameters
    ----------
    trimmed_before : callable
        Returns the point before which points may be trimmed; asked for a jump only.

    Raises
    ------
    NoLongerError
        With the first of them.
    """
    if arrival.entry is not None and arrival.entry.is_durable:
        stop = arrival.stop
    elif arrival.kind is Kind.JUMP:
        stop = min(arrival.stop, trimmed_before())
    else:
        return
    if start >= stop:
        return
    point = first_in_file(start, stop, scan.lost(channel))
    if point is not None:
        raise NoLongerError(channel, point, scan.file())


def hole_reason(entry: Entry | None) -> str:
    """Return why points are missing that a lane does not have.

    Parameters
    ----------
    entry : Entry or None
        The entry in their place; None if there is none.
    """
    return _LOST if entry is None or entry.is_durable else _DECLARED
