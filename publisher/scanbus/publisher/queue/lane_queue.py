"""One lane on its way to the bus: entries that wait, were sent, are not durable yet.

State only, no Redis. It is guarded by the scan's lock: other classes of this package
hold it while they call, but for methods that say that they take it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from scanbus.bus.protocol import EncodedEntry, RetransmitBuffer
from scanbus.publisher.buffers.entry_builder import seal_entry
from scanbus.publisher.buffers.reorder_buffer import ReorderBuffer
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import LaneDescription

__all__ = ["LaneQueue", "LateLaneQueue"]


class LaneQueue:
    """One lane on its way: entries in the retransmit buffer, and who sends them.

    Guarded by the scan's lock; `order` by `input_lock`, which is held by whoever puts
    points in, so that their order is one.

    Parameters
    ----------
    description : LaneDescription
        The lane.
    session : bytes
        Names this publisher.
    waker : Waker
        Where its sender sleeps.
    spool_waker : Waker, optional
        Where who writes its entries to a local spool sleeps: they are spooled before
        they are sent.

    Attributes
    ----------
    input_lock : threading.Lock
        Held by whoever puts points in.
    order : ReorderBuffer or None
        What keeps points in order that the program numbers.
    """

    def __init__(
        self,
        description: LaneDescription,
        session: bytes,
        waker: Waker,
        spool_waker: Waker | None = None,
    ) -> None:
        self.description = description
        self.input_lock = threading.Lock()
        self.order: ReorderBuffer[Any] | None = None
        self._retransmit = RetransmitBuffer(session, keeps_payloads=spool_waker is None)
        self._waker = waker
        self._spool_waker = spool_waker
        self._unspooled: deque[EncodedEntry] = deque()
        self._unspooled_bytes = 0
        self._is_ending = False
        self._is_abandoned = False
        self._session = session

    @property
    def name(self) -> str:
        """The lane's name."""
        return self.description.name

    def is_sent_by(self, waker: Waker) -> bool:
        """Whether the sender that sleeps there sends it."""
        return self._waker is waker

    # ------------------------------------------------------------- what is kept

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory that are not known to be durable."""
        return self._retransmit.memory_bytes + self._unspooled_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of points that wait for those before them."""
        return 0 if self.order is None else self.order.nbytes

    @property
    def sent_bytes(self) -> int:
        """Bytes that Redis has and no file yet."""
        return self._retransmit.sent_bytes

    @property
    def unsent_bytes(self) -> int:
        """Bytes of entries that may be sent and that Redis has not."""
        return self._retransmit.unsent_bytes

    @property
    def is_packing(self) -> bool:
        """Whether it will take less memory without any help."""
        return False

    @property
    def saved_bytes(self) -> int:
        """How much smaller what is kept will be when it is packed, as expected."""
        return 0

    def unreserve(self, raw_bytes: int) -> None:
        """Count a point no longer that did not come, or came late."""

    def packed_bytes(self, raw_bytes: int) -> float:
        """Return what points of so many bytes take when packed, as expected."""
        return raw_bytes

    @property
    def why_full(self) -> str:
        """Why its points keep room taken for longer than planned; empty if not."""
        return ""

    @property
    def why_incomplete(self) -> str:
        """Why no entry can be made of what it has; empty if one can."""
        return ""

    @property
    def unspooled_bytes(self) -> int:
        """Bytes of entries that wait for the spool."""
        return self._unspooled_bytes

    # ------------------------------------------------------------ how far it is

    @property
    def length(self) -> int:
        """Points that its entries have, or will have."""
        return self._unspooled[-1].stop if self._unspooled else self._retransmit.stop

    @property
    def next_point(self) -> int:
        """The point after the last one that came."""
        return self.length

    @property
    def reached(self) -> int:
        """Points so far, of its last channel to have them."""
        return self.length

    @property
    def durable(self) -> int:
        """The first point that no file is known to have."""
        return self._retransmit.durable

    @property
    def first_kept(self) -> int:
        """The first point that is kept here."""
        return self._retransmit.first

    @property
    def handed_over(self) -> int:
        """The first point that neither Redis has nor, where there is one, the spool."""
        if self._spool_waker is None:
            return self._retransmit.sent_stop
        return self._retransmit.stop

    @property
    def is_ending(self) -> bool:
        """Whether nothing is added any more."""
        return self._is_ending

    @property
    def is_drained(self) -> bool:
        """Whether all points are entries."""
        return True

    @property
    def has_work(self) -> bool:
        """Whether its sender has something to do."""
        return self._retransmit.has_unsent or self.can_seal

    @property
    def has_spool_work(self) -> bool:
        """Whether who writes the spool has something to do."""
        return bool(self._unspooled) or self.can_seal

    @property
    def can_seal(self) -> bool:
        """Whether nothing but the seal is missing."""
        if not (self._is_ending and self.is_drained):
            return False
        is_waiting = bool(self._unspooled and self._unspooled[-1].is_seal)
        return not (self._retransmit.sealed or is_waiting)

    @property
    def is_sealed(self) -> bool:
        """Whether the seal may be sent, or was."""
        return self._retransmit.sealed

    @property
    def is_delivered(self) -> bool:
        """Whether Redis has all of it, the seal included, or never will."""
        sealed = self._retransmit.sealed and not self._retransmit.has_unsent
        return self._is_abandoned or sealed

    # -------------------------------------------------------------- transitions

    def put(self, entry: EncodedEntry) -> None:
        """Have an entry sent after those before it."""
        if self._spool_waker is None:
            self._retransmit.put(entry)
        else:
            self._unspooled.append(entry)
            self._unspooled_bytes += entry.nbytes

    def end(self) -> None:
        """Take nothing more: the seal is next."""
        self._is_ending = True
        self.wake()

    def seal(self) -> None:
        """Put the seal behind the last entry if it is time."""
        if self.can_seal:
            self.put(seal_entry(self.length, self._session))

    def refill(self, entries: Sequence[EncodedEntry], reached: int | None) -> None:
        """Take what a spool holds of a lane to which nothing is added any more.

        Parameters
        ----------
        reached : int, optional
            How far Redis has it, where it is not sealed there: a crash of the machine
            may have cost the spool what Redis has.
        """
        for entry in entries:
            self._retransmit.put(entry)
        # Files are removed when all in them is durable, and nothing else is missing.
        self._retransmit.mark_durable(self._retransmit.first)
        if reached is not None:
            self._retransmit.stop = max(self._retransmit.stop, reached)

    @property
    def next_unsent(self) -> EncodedEntry | None:
        """The entry that is to be sent next."""
        return self._retransmit.next_unsent

    def to_send(self, max_bytes: int) -> list[EncodedEntry]:
        """Return the next entries, at most so many bytes, but one if there is any."""
        return self._retransmit.to_send(max_bytes)

    def note_sent(self, n_entries: int) -> None:
        """Mark the next entries as sent."""
        self._retransmit.mark_sent(n_entries)

    def note_durable(self, point: int) -> bool:
        """Forget what the writer has; return whether that is more than before."""
        is_news = point > self._retransmit.durable
        if is_news:
            self._retransmit.mark_durable(point)
        return is_news

    def resume_after(self, last_id: bytes) -> int:
        """Arrange to send again what Redis lacks; return how many bytes that are."""
        before = self._retransmit.unsent_bytes
        self._retransmit.resume_after(last_id)
        return self._retransmit.unsent_bytes - before

    @property
    def next_unspooled(self) -> EncodedEntry | None:
        """The entry that is to be written to the spool next."""
        return self._unspooled[0] if self._unspooled else None

    def note_spooled(self, max_kept_bytes: int) -> None:
        """Have the first unspooled entry sent, now that it is in the spool.

        Its payload is read back from there if that much is kept in memory already.
        """
        entry = self._unspooled.popleft()
        self._unspooled_bytes -= entry.nbytes
        keep_payload = self._retransmit.memory_bytes < most_kept_bytes
        self._retransmit.put(entry if keep_payload else entry.without_payload())
        self._waker.wake()

    def abandon(self) -> None:
        """Wait no longer for Redis to have it: its sender gave up."""
        self._is_abandoned = True

    def drop(self) -> None:
        """Forget all entries: nobody will send them any more."""
        self._retransmit.drop()
        self._unspooled.clear()
        self._unspooled_bytes = 0

    def wake(self) -> None:
        """Wake whoever makes its entries and sends or spools them."""
        (self._spool_waker or self._waker).wake()


class LateLaneQueue(LaneQueue):
    """A lane of points that came after their place was closed, one per entry."""
