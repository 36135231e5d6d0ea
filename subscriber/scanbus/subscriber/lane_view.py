"""Read one lane as it is now: its extent, one entry, or a range of points.

Nothing here waits. Each reply of Redis is limited in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scanbus.bus.protocol import SEAL_ID, Arrival, Entry, Kind, LaneReader, split_id
from scanbus.bus.store import (
    Bus,
    find_entry_start,
    is_off_the_bus,
    read_cursor,
    read_entry,
    read_lanes,
    read_seal,
    stream_ends,
)
from scanbus.schemas import LaneDescription
from scanbus.subscriber.connection import Link

__all__ = ["READ_BYTES", "Extent", "LaneView"]

READ_BYTES = 32 * 2**20
"""Approximate limit of one reply of Redis, in bytes."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Range of points in a lane.

    Attributes
    ----------
    first : int
        The first point that is still on the bus; points before it were trimmed.
    stop : int
        The point after the last one.
    is_over : bool
        Whether the lane is sealed: `stop` is its length then.
    is_gone : bool
        Whether the scan was finished and removed from the bus.
    """

    first: int
    stop: int
    is_over: bool
    is_gone: bool = False


class LaneView:
    """One lane of one scan, for reading.

    Parameters
    ----------
    link : Link
        Connection to Redis.
    uid : str
        The scan's uid.
    lane : LaneDescription
        The lane.
    """

    def __init__(self, link: Link, uid: str, lane: LaneDescription) -> None:
        self._link = link
        self._uid = uid
        self.lane = lane

    def extent(self) -> Extent:
        """Return the lane's range of points now."""
        return self._link.ask(self._extent)

    def _extent(self, client: Bus) -> Extent:
        durable = read_cursor(client, self._uid, self.lane.name)
        ends = stream_ends(client, self._uid, self.lane.name)
        if ends is None or ends[1] == b"0-0":
            # Not created yet or empty; or the scan was removed.
            is_gone = ends is None and is_off_the_bus(client, self._uid)
            return Extent(durable, durable, is_over=False, is_gone=is_gone)
        is_over = ends[1] == SEAL_ID
        stop = self._sealed_stop(client) if is_over else sum(split_id(ends[1]))
        if stop is None:
            # The scan was removed between the two commands.
            is_gone = is_off_the_bus(client, self._uid)
            return Extent(durable, durable, is_over=False, is_gone=is_gone)
        is_empty = ends[0] in (b"0-0", SEAL_ID)
        first = stop if is_empty else split_id(ends[0])[0]
        return Extent(first, stop, is_over)

    def _sealed_stop(self, client: Bus) -> int | None:
        seal = read_seal(client, self._uid, self.lane)
        return None if seal is None else seal.first

    def entry_at(self, point: int) -> Entry | None:
        """Return the entry that holds a point; None if there is none.

        Raises
        ------
        BadEntryError
            If it cannot be used.
        """
        return self._link.ask(
            lambda client: read_entry(client, self._uid, self.lane, point)
        )

    def reader_from(self, point: int) -> LaneReader:
        """Return a reader that starts at the entry that holds `point`."""
        start = point
        if point:
            start = self._link.ask(
                lambda client: find_entry_start(
                    client, self._uid, self.lane.name, point
                )
            )
        return LaneReader(self._uid, self.lane, start)

    def arrivals(self, start: int, stop: int) -> Iterator[Arrival]:
        """Yield the arrivals with the points ``[start, stop)`` that are on the bus now.

        Entries at both ends may hold points outside the range. Points that are not on
        the bus are yielded as jumps, but not those after the last entry.
        """
        reader = self.reader_from(start)
        while reader.expected < stop:
            found = self._link.ask(
                lambda client: read_lanes(
                    client, [reader], max_bytes=READ_BYTES, block_ms=0
                )
            )
            if not found:
                return
            for arrival in found[0][1]:
                if arrival.start < stop and arrival.kind not in _NO_POINTS:
                    yield arrival

    def trimmed_before(self) -> int:
        """Return the point before which points may be trimmed: the writer has them.

        Only durable points before the first entry are; others that no entry holds were
        lost or never sent, and no file has them either.
        """
        first = self.extent().first
        durable = self._link.ask(
            lambda client: read_cursor(client, self._uid, self.lane.name)
        )
        return min(durable, first)


_NO_POINTS = (Kind.SEAL, Kind.OVERLAP)
