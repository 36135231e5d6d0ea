"""Points of several channels that belong together, by the numbers that they carry.

Detectors and digitisers of a pulsed source lose pulses each for themselves, so equal
points of two channels may be of different pulses. Pure, but for reading values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.schemas import ChannelDescription, PointRange, ranges
from scanbus.subscriber.batch import Batch
from scanbus.subscriber.points import Values, missing_values

__all__ = ["Ids", "Joined", "join_ids"]

Numbers = npt.NDArray[np.int64]
Read = Callable[[str, int, int], Iterator[Batch]]


@dataclass(frozen=True)
class Ids:
    """The numbers of one channel's points.

    Attributes
    ----------
    values : numpy.ndarray
        Number of each point, from point 0.
    known : numpy.ndarray
        Whether the number of a point is known.
    is_over : bool
        Whether no further point will come.
    """

    values: Numbers
    known: npt.NDArray[np.bool_]
    is_over: bool


@dataclass(frozen=True)
class Joined:
    """Points of several channels by their numbers, ascending.

    Attributes
    ----------
    ids : numpy.ndarray
        Every number that any of the channels has, once; int64.
    points : mapping
        Channel to its point for each number, int64; -1 if it has none.
    holes : mapping
        Channel to the numbers that it never had.
    pending : mapping
        Channel to the numbers that it does not have yet: it goes on, and they are
        beyond its last one.
    unnumbered : mapping
        Channel to its points whose number is not known.
    repeated : mapping
        Channel to the points whose number an earlier one has.
    """

    ids: Numbers
    points: Mapping[str, Numbers]
    holes: Mapping[str, Numbers]
    pending: Mapping[str, Numbers]
    unnumbered: Mapping[str, tuple[PointRange, ...]]
    repeated: Mapping[str, tuple[PointRange, ...]]
    _read: Read | None = field(default=None, repr=False, compare=False)
    _channels: Mapping[str, ChannelDescription] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def is_whole(self) -> npt.NDArray[np.bool_]:
        """Whether all channels have a point, for each number."""
        columns = [points >= 0 for points in self.points.values()]
        return np.logical_and.reduce(columns) if columns else np.zeros(0, bool)

    def read(
        self, channel: str, start: int = 0, stop: int | None = None
    ) -> tuple[Values, npt.NDArray[np.bool_]]:
        """Return a channel's values for the numbers ``ids[start:stop]``.

        Returns
        -------
        values : numpy.ndarray or list
            In the order of `ids`; the channel's missing value in holes.
        is_there : numpy.ndarray
            Whether there is a value, for each number.

        Raises
        ------
        NotYetError, NeverError, NoLongerError, PayloadError
            As of ``ScanReader.read``.
        """
        if self._read is None:
            raise ValueError("joined without a scan to read from")
        wanted = self.points[channel][start:stop]
        is_there = wanted >= 0
        places = np.flatnonzero(is_there)
        order = places[np.argsort(wanted[places], kind="stable")]
        found = _empty(self._channels[channel], len(wanted))
        for first, last in ranges(wanted[order].tolist()):
            for batch in self._read(channel, first, last):
                here = order[np.isin(wanted[order], np.arange(batch.start, batch.stop))]
                _put(found, here, batch)
                for low, high in batch.missing:
                    is_there[(wanted >= low) & (wanted < high)] = False
        return found, is_there


def _empty(channel: ChannelDescription, count: int) -> Values:
    values = missing_values(channel, count)
    return values.copy() if isinstance(values, np.ndarray) else [*values]


def _put(found: Values, places: npt.NDArray[np.intp], batch: Batch) -> None:
    if isinstance(found, np.ndarray):
        found[places] = batch.values
        return
    for place, value in zip(places, batch.values, strict=True):
        found[int(place)] = value


def join_ids(
    of: Mapping[str, Ids],
    read: Read | None = None,
    channels: Mapping[str, ChannelDescription] | None = None,
) -> Joined:
    """Return which points of several channels have the same number.

    Parameters
    ----------
    of : mapping
        Channel to the numbers of its points.
    read : callable, optional
        Yields the batches of a channel's points ``[start, stop)``.
    channels : mapping, optional
        Descriptions of the channels.
    """
    firsts = {name: _first_points(ids) for name, ids in of.items()}
    every: list[Numbers] = [numbers for numbers, _, _ in firsts.values()]
    empty = np.empty(0, np.int64)
    ids: Numbers = np.unique(np.concatenate(every)) if every else empty
    points: dict[str, Numbers] = {}
    holes: dict[str, Numbers] = {}
    pending: dict[str, Numbers] = {}
    for name, (numbers, places, _) in firsts.items():
        column = np.full(len(ids), -1, np.int64)
        column[np.searchsorted(ids, numbers)] = places
        points[name] = column
        lacking = ids[column < 0]
        last = numbers.max(initial=np.iinfo(np.int64).min)
        may_come = (lacking > last) & (not of[name].is_over)
        holes[name], pending[name] = lacking[~may_come], lacking[may_come]
    return Joined(
        ids,
        points,
        holes,
        pending,
        {name: _listed(np.flatnonzero(~each.known)) for name, each in of.items()},
        {name: _listed(again) for name, (_, _, again) in firsts.items()},
        read,
        channels or {},
    )


def _first_points(ids: Ids) -> tuple[Numbers, Numbers, Numbers]:
    """Return numbers, the first point that has each, and points that repeat one."""
    places = np.flatnonzero(ids.known)
    numbers, index = np.unique(ids.values[places], return_index=True)
    again = np.setdiff1d(places, places[index])
    return numbers, places[index].astype(np.int64), again.astype(np.int64)


def _listed(points: Sequence[Any] | npt.NDArray[Any]) -> tuple[PointRange, ...]:
    return ranges(int(point) for point in points)
