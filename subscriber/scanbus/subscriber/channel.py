"""Read the points of one channel that are on the bus now; nothing here waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scanbus.bus.protocol import Arrival
from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import (
    BadEntryError,
    NeverError,
    NoLongerError,
    NotYetError,
    PointError,
)
from scanbus.subscriber.batch import Batch
from scanbus.subscriber.holes import ScanAnswers, first_in_file, refuse_trimmed
from scanbus.subscriber.lane_view import Extent, LaneView
from scanbus.subscriber.points import Values, joined

__all__ = ["ChannelReader"]


class ChannelReader:
    """Reads one channel; owned by a `ScanReader`, which documents the methods.

    Parameters
    ----------
    view : LaneView
        The lane of the channel.
    index : int
        Place of the channel in the lane.
    scan : ScanAnswers
        The scan.
    """

    def __init__(self, view: LaneView, index: int, scan: ScanAnswers) -> None:
        self.view = view
        self.index = index
        self._scan = scan

    @property
    def description(self) -> ChannelDescription:
        """Description of the channel."""
        return self.view.lane.channels[self.index]

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.description.name

    def read(self, start: int, stop: int | None) -> Values:
        """Return the points ``[start, stop)`` as one array or list."""
        parts = [batch.values for batch in self.batches(start, stop)]
        return joined(self.description, parts)

    def batches(self, start: int, stop: int | None) -> Iterator[Batch]:
        """Yield the points ``[start, stop)`` entry by entry."""
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"{self.name}: points [{start}, {stop}) are not a range")
        extent = self.view.extent()
        if max(start, stop or 0) > extent.stop:
            raise self._beyond(max(start, extent.stop), extent)
        is_open = stop is None
        return self._batches(start, extent.stop if stop is None else stop, is_open)

    def _batches(self, start: int, stop: int, is_open: bool) -> Iterator[Batch]:
        reached = start
        for arrival in self.view.arrivals(start, stop) if start < stop else ():
            first = max(arrival.start, start)
            reached = min(arrival.stop, stop)
            if first >= reached:
                continue
            before = self.view.trimmed_before
            refuse_trimmed(self.name, arrival, first, before, self._scan)
            yield self._batch(first, reached, arrival)
        if reached < stop:
            error = self._absent(reached)
            # The last entries of a lane may be bad ones, which have no points.
            if isinstance(error, NoLongerError) or not is_open:
                raise error

    def _batch(self, start: int, stop: int, arrival: Arrival) -> Batch:
        lane, entry = self.view.lane, arrival.entry
        return Batch(lane, self.index, start, stop, entry=entry, reason=arrival.reason)

    def point(self, point: int) -> Any:
        """Return one point, reading only the entry that holds it."""
        if point < 0:
            raise ValueError(f"{self.name}: point {point} is negative")
        try:
            entry = self.view.entry_at(point)
        except BadEntryError:
            entry = None
        else:
            if entry is None and not self._is_lost(point):
                raise self._absent(point)
            if entry is not None and entry.is_durable and self._is_in_file(point):
                raise NoLongerError(self.name, point, self._scan.file())
        batch = Batch(self.view.lane, self.index, point, point + 1, entry=entry)
        return batch.values[0]

    def latest(self) -> tuple[int, Any]:
        """Return the newest point and its value."""
        extent = self.view.extent()
        if not extent.stop:
            raise self._beyond(0, extent)
        return extent.stop - 1, self.point(extent.stop - 1)

    def _is_lost(self, point: int) -> bool:
        """Whether a point that no entry holds was skipped, not trimmed."""
        if point >= self.view.extent().stop:
            return False
        return point >= self.view.trimmed_before() or not self._is_in_file(point)

    def _is_in_file(self, point: int) -> bool:
        lost = self._scan.lost(self.name)
        return first_in_file(point, point + 1, lost) is not None

    def _absent(self, point: int) -> PointError:
        """Return the error for a point that is not there: one of the three answers."""
        if point < self.view.trimmed_before():
            return NoLongerError(self.name, point, self._scan.file())
        return self._beyond(point, self.view.extent())

    def _beyond(self, point: int, extent: Extent) -> PointError:
        if extent.is_gone:
            return NoLongerError(self.name, point, self._scan.file())
        if extent.is_over or self._scan.is_judged():
            return NeverError(self.name, point, extent.stop)
        return NotYetError(self.name, point)
