"""Consecutive points of one channel, decoded when they are looked at."""

from __future__ import annotations

from scanbus.bus.protocol import Entry
from scanbus.schemas import ChannelDescription, LaneDescription, PointRange
from scanbus.subscriber.points import Values, entry_values, missing_in, missing_values

__all__ = ["Batch"]


class Batch:
    """Consecutive points of one channel, as they came in one entry.

    Parameters
    ----------
    lane : LaneDescription
        The lane that carried them.
    index : int
        Place of the channel in the lane.
    start, stop : int
        The points ``[start, stop)``.
    entry : Entry or None
        What carried them; None if nothing usable did: all are missing then.
    reason : str
        Why points are missing, where that is known.

    Attributes
    ----------
    channel : str
        Name of the channel.
    missing : tuple of PointRange
        Points of the batch whose value only stands in for the one that is missing.
    times : tuple of float
        When the entry's first and last point were taken, seconds since 1970; 0 where
        nobody said.
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
        self.reason = reason
        self.channel = lane.channels[index].name
        self.times = entry.times if entry else (0.0, 0.0)
        self.missing: tuple[PointRange, ...] = (
            missing_in(entry, self.channel, start, stop) if entry else ((start, stop),)
        )

    def __len__(self) -> int:
        """Return how many points there are."""
        return self.stop - self.start

    def __repr__(self) -> str:
        return f"<Batch {self.channel} [{self.start}, {self.stop})>"

    @property
    def description(self) -> ChannelDescription:
        """What the channel is."""
        return self._lane.channels[self._index]

    @property
    def values(self) -> Values:
        """The values, decoded with the first look; arrays may be read-only.

        Raises
        ------
        PayloadError
            If the bytes are not what the channel declares.
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
