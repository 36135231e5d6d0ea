"""What a program has sent, checked and its own no more, on its way to the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, Variable
from scanbus.publisher.buffers.group_buffer import Gap, Run

__all__ = ["Arrived", "Item", "NumberedRun", "Points", "part_of", "run_bytes"]

Points: TypeAlias = npt.NDArray[Any] | Variable


@dataclass(frozen=True, slots=True)
class Arrived:
    """One point as it came; nobody changes it any more.

    Attributes
    ----------
    value : numpy.ndarray, Variable or bytes
        A frame, or a value of shape ``(1, *shape)``; bytes if it is compressed.
    time : float
        When it was taken, in seconds since 1970.
    nbytes : int
        Bytes that it counts as until it is compressed.
    is_private : bool
        Whether an array is a copy of ours.
    is_given : bool
        Whether the program gave the time.
    """

    value: npt.NDArray[Any] | Variable | bytes
    time: float
    nbytes: int
    is_private: bool = False
    is_given: bool = True


@dataclass(frozen=True, slots=True)
class NumberedRun:
    """Consecutive values that the program has numbered.

    Attributes
    ----------
    first : int, optional
        Number of the first one; None for the one after all that came.
    run : numpy.ndarray or Variable
        All together; nobody changes them any more.
    times : numpy.ndarray, optional
        Time of each of them, in seconds since 1970.
    now : float
        Time of each of them if it is not given.
    """

    first: int | None
    run: Points
    times: Times | None
    now: float

    def arrived(self) -> list[Arrived]:
        """Return each of them as a point."""
        parts = [part_of(self.run, index, index + 1) for index in range(len(self.run))]
        taken = [self.now] * len(parts) if self.times is None else self.times.tolist()
        return [
            Arrived(part, one, run_bytes(part), is_private=True)
            for part, one in zip(parts, taken, strict=True)
        ]


Item: TypeAlias = Arrived | Gap
"""A frame, or frames that never come."""


def part_of(points: Points, start: int, stop: int) -> Points:
    """Return some of consecutive points."""
    if isinstance(points, Variable):
        edges = np.concatenate(([0], np.cumsum(points.lengths, dtype=np.int64)))
        values = points.values[edges[start] : edges[stop]]
        return Variable(points.lengths[start:stop], values)
    return points[start:stop]


def run_bytes(run: Run) -> int:
    """Return the bytes that points count as until they are in an entry."""
    if isinstance(run, Variable):
        return 4 * len(run) + run.values.nbytes
    return int(run.nbytes) if isinstance(run, np.ndarray) else 0
