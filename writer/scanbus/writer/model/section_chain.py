"""Which sections of shared segments hold the points of a lane. Pure.

A writer continues where the files end, so sections follow each other. After files were
lost, or a writer was killed, they may overlap: the points in both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scanbus.schemas import PointRange

__all__ = ["Piece", "cover"]


class Piece(NamedTuple):
    """The points ``[start, stop)`` of the section with this place in a list."""

    place: int
    start: int
    stop: int


def cover(sections: Sequence[PointRange], *, over_holes: bool = False) -> list[Piece]:
    """Return pieces of sections that together have each point once, ascending.

    Of sections that reach equally far, the one that comes first in the list is used.

    Parameters
    ----------
    over_holes : bool
        Whether to go on behind points that no section has; otherwise the pieces are
        contiguous from point 0.

    Examples
    --------
    >>> cover([(0, 4), (9, 12), (2, 6)])
    [Piece(place=0, start=0, stop=4), Piece(place=2, start=4, stop=6)]
    """
    ordered = sorted(range(len(sections)), key=lambda place: sections[place][0])
    pieces: list[Piece] = []
    reached = n_seen = 0
    best = stop = -1
    while True:
        while n_seen < len(ordered) and sections[ordered[n_seen]][0] <= reached:
            place = ordered[n_seen]
            n_seen += 1
            if sections[place][1] > stop:
                best, stop = place, sections[place][1]
        if stop > reached:
            pieces.append(Piece(best, reached, stop))
            reached = stop
        elif over_holes and n_seen < len(ordered):
            reached = sections[ordered[n_seen]][0]
        else:
            return pieces
