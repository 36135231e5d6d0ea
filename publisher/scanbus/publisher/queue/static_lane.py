"""The queue of a static array's lane: one point, kept until the scan is released.

A scan that goes on as another one sends its arrays again: the metadata of the new scan
refer to them, and its file must not depend on that of the closed one.
"""

from __future__ import annotations

from collections.abc import Sequence

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import LaneDescription

__all__ = ["StaticLaneQueue"]


class StaticLaneQueue(LaneQueue):
    """A static array's lane; parameters, and what guards it, are those of a lane.

    The array, packed, stays in memory, or with a spool on the disk. It does not count
    as kept once it is durable.
    """

    def __init__(
        self,
        description: LaneDescription,
        session: bytes,
        waker: Waker,
        spool_waker: Waker | None = None,
    ) -> None:
        super().__init__(description, session, waker, spool_waker)
        self._is_spooled = spool_waker is not None
        self._array: EncodedEntry | None = None

    @property
    def first_kept(self) -> int:
        """The first point that is kept here."""
        return self.length if self._array is None else 0

    def put(self, entry: EncodedEntry) -> None:
        """Queue an entry, to be sent after all earlier ones."""
        super().put(entry)
        self._keep([entry])

    def refill(
        self, entries: Sequence[EncodedEntry], reached: int | None, begin: int
    ) -> None:
        """Load the spooled entries; see `LaneQueue.refill`."""
        self._keep(entries)
        super().refill(entries, reached, begin)

    def _keep(self, entries: Sequence[EncodedEntry]) -> None:
        for entry in entries:
            if not entry.is_seal:
                self._array = entry.without_payload() if self._is_spooled else entry

    def begin_again(self, point: int) -> None:
        """Keep all of it, for the lane of another scan."""
        super().begin_again(point)
        is_waiting = self.next_unspooled is not None and not self.next_unspooled.is_seal
        if self._array is not None and not is_waiting:
            self._put_back(self._array)

    def drop(self) -> None:
        """Remove all entries: they are not sent any more."""
        super().drop()
        self._array = None
