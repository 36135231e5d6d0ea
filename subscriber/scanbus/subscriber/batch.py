"""Consecutive points of one channel, decoded at the first access."""

from __future__ import annotations

import numpy as np

from scanbus.bus.protocol import Entry, Times
from scanbus.schemas import ChannelDescription, LaneDescription, PointRange
from scanbus.subscriber.holes import hole_reason
from scanbus.subscriber.points import Values, entry_values, missing_in, missing_values

__all__ = ["Batch"]


class Batch:
    """Consecutive points of one channel from one entry.

    Parameters
    ----------
    lane : LaneDescription
        The lane of the channel.
    index : int
        Place of the channel in the lane.
    start, stop : int
        The points ``[start, stop)``.
    entry : Entry or None
        The entry that holds them; None if there is no usable one: all points are
        missing then.
    reason : str
        Why an entry is bad; otherwise that follows from the entry.

    Attributes
    ----------
    channel : str
        Name of the channel.
    missing : tuple of PointRange
        Missing points of the batch; `values` holds the channel's missing value there.
    reason : str
        Why points are missing; empty if none are.
    """

    def __init__(
        self,
        lane: LaneDescription,
        index: int,
        start: int,
        stop: int,
        *,
        entry: Entry | None = None,
        reason: str = "",
    ) -> None:
        self._lane = lane
        self._index = index
        self._entry = entry
        self._values: Values | None = None
        self.start = start
        self.stop = stop
        self.channel = lane.channels[index].name
        self.missing: tuple[PointRange, ...] = (
            missing_in(entry, self.channel, start, stop) if entry else ((start, stop),)
        )
        self.reason = reason or (hole_reason(entry) if self.missing else "")

    def __len__(self) -> int:
        """Return the number of points."""
        return self.stop - self.start

    def __repr__(self) -> str:
        return f"<Batch {self.channel} [{self.start}, {self.stop})>"

    @property
    def description(self) -> ChannelDescription:
        """Description of the channel."""
        return self._lane.channels[self._index]

    @property
    def times(self) -> Times:
        """Time of each point, seconds since 1970 UTC, float64; NaN if not known.

        The array is read-only. Missing points have no time.
        """
        if self._entry is None:
            return np.broadcast_to(np.float64(np.nan), len(self))
        first = self._entry.first
        times = self._entry.times[self.start - first : self.stop - first]
        if not self.missing:
            return times
        times = times.copy()
        for start, stop in self.missing:
            times[start - self.start : stop - self.start] = np.nan
        return times

    @property
    def values(self) -> Values:
        """The values, decoded at the first access; arrays may be read-only.

        An array of shape ``(len(batch), *shape)``; a list of strings or of arrays for
        channels whose points differ in size.

        Raises
        ------
        PayloadError
            If the bytes do not fit the channel's description.
        """
        if self._values is None:
            self._values = self._decoded()
        return self._values

    def _decoded(self) -> Values:
        if self._entry is None:
            return missing_values(self.description, len(self))
        first = self._entry.first
        values = entry_values(self._lane, self._index, self._entry)
        return values[self.start - first : self.stop - first]
