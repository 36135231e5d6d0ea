"""The queue of one lane: entries not yet spooled, not yet sent, not yet durable.

State only, no Redis. Guarded by the scan's lock: other classes of this package hold it
during calls, except of methods that say that they take it.
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

__all__ = ["LaneQueue"]


class LaneQueue:
    """Entries of one lane that are not durable, and the wakers of their threads.

    A queue of this class itself is for a lane of late points, or of a spooled scan.

    Guarded by the scan's lock; `order` by `input_lock`, which a thread holds while it
    adds points, so that they have one order.

    Parameters
    ----------
    description : LaneDescription
        The lane.
    session : bytes
        Names this publisher.
    waker : Waker
        On which its sender sleeps.
    spool_waker : Waker, optional
        On which the spool writer sleeps: if given, entries are spooled, then sent.

    Attributes
    ----------
    numbered_stop : int or None
        No point from this one on was handed over; None if that is not known.
    order : ReorderBuffer or None
        What orders points that the program numbers; None while it numbers none.
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
        self.numbered_stop: int | None = None
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

    @property
    def is_static(self) -> bool:
        """Whether its one point is an array of the metadata."""
        return self.description.is_static

    def is_sent_by(self, waker: Waker) -> bool:
        """Return whether the sender with this waker sends the lane."""
        return self._waker is waker

    # ------------------------------------------------------------- what is kept

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory that are not known to be durable."""
        return self._retransmit.memory_bytes + self._unspooled_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of points held for missing ones before them."""
        return 0 if self.order is None else self.order.nbytes

    @property
    def sent_bytes(self) -> int:
        """Bytes that Redis has and that are not durable."""
        return self._retransmit.sent_bytes

    @property
    def unsent_bytes(self) -> int:
        """Bytes of entries that may be sent and that Redis lacks."""
        return self._retransmit.unsent_bytes

    @property
    def is_packing(self) -> bool:
        """Whether compression is in progress, and will free memory."""
        return False

    @property
    def saved_bytes(self) -> int:
        """Bytes by which compression is expected to reduce what is kept."""
        return 0

    def unreserve(self, raw_bytes: int) -> None:
        """Release the room reserved for a point that did not come, or came late."""

    def packed_bytes(self, raw_bytes: int) -> float:
        """Return the expected compressed size of points, in bytes."""
        return raw_bytes

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
        """Points so far, in entries or still to be put into one."""
        return self._unspooled[-1].stop if self._unspooled else self._retransmit.stop

    @property
    def next_point(self) -> int:
        """The point after the last one that came."""
        return self.length

    @property
    def reached(self) -> int:
        """Points so far that all its channels have."""
        return self.length

    @property
    def durable(self) -> int:
        """The first point that is not known to be durable."""
        return self._retransmit.durable

    @property
    def first_kept(self) -> int:
        """The first point that is kept here."""
        return self._retransmit.first_kept

    @property
    def handed_over(self) -> int:
        """The first point not yet in the spool, or without a spool not yet in Redis."""
        if self._spool_waker is None:
            return self._retransmit.sent_stop
        return self._retransmit.stop

    @property
    def points_by_place(self) -> tuple[int, int, int]:
        """Points that are not durable: in Redis, in the spool only, and nowhere."""
        kept = self._retransmit
        sent = max(kept.sent_stop, kept.durable)
        spooled = sent if self._spool_waker is None else max(kept.stop, sent)
        nowhere = max(0, self.next_point - spooled)
        return sent - kept.durable, spooled - sent, nowhere

    @property
    def is_drained(self) -> bool:
        """Whether all points are in entries."""
        return True

    @property
    def has_work(self) -> bool:
        """Whether its sender has work."""
        return self._retransmit.has_unsent or self.can_seal

    @property
    def has_spool_work(self) -> bool:
        """Whether the spool writer has work."""
        return bool(self._unspooled) or self.can_seal

    @property
    def can_seal(self) -> bool:
        """Whether only the seal is missing."""
        if not (self._is_ending and self.is_drained):
            return False
        is_waiting = bool(self._unspooled and self._unspooled[-1].is_seal)
        return not (self._retransmit.sealed or is_waiting)

    @property
    def is_sealed(self) -> bool:
        """Whether the seal is ready to be sent, or was sent."""
        return self._retransmit.sealed

    @property
    def is_delivered(self) -> bool:
        """Whether Redis has all of it, with the seal, or never will."""
        kept = self._retransmit
        return self._is_abandoned or (kept.sealed and not kept.has_unsent)

    # -------------------------------------------------------------- transitions

    def put(self, entry: EncodedEntry) -> None:
        """Queue an entry, to be sent after all earlier ones."""
        if self._spool_waker is None:
            self._retransmit.put(entry)
        else:
            self._unspooled.append(entry)
            self._unspooled_bytes += entry.nbytes

    def end(self) -> None:
        """Accept no more points: the seal is next."""
        self._is_ending = True
        self.wake()

    def seal(self) -> None:
        """Add the seal if only that is missing."""
        if self.can_seal:
            self.put(seal_entry(self.length, self._session))

    def refill(
        self, entries: Sequence[EncodedEntry], reached: int | None, begin: int
    ) -> None:
        """Load the entries that a dead publisher left of a lane.

        Parameters
        ----------
        reached : int, optional
            First point that Redis lacks; None if the lane is sealed there. After a
            crash of the machine, Redis may have entries that the spool lost.
        begin : int
            The points before it are not sent: an earlier scan has them.
        """
        for entry in entries:
            self._retransmit.put(entry)
        if begin:
            self.begin_again(begin)
        # Files are removed when all in them is durable, and nothing else is missing.
        # What an earlier scan has is not durable in this one.
        if self._retransmit.first > begin:
            self._retransmit.mark_durable(self._retransmit.first)
        if reached is not None:
            self._retransmit.stop = max(self._retransmit.stop, reached)

    @property
    def next_unsent(self) -> EncodedEntry | None:
        """The entry to be sent next."""
        return self._retransmit.next_unsent

    def to_send(self, max_bytes: int) -> list[EncodedEntry]:
        """Return the next entries, at most `max_bytes`, but one if there is any."""
        return self._retransmit.to_send(max_bytes)

    def lose(self, entry: EncodedEntry) -> None:
        """Put a gap in the place of an unsent entry that cannot be read back."""
        self._retransmit.lose(entry)

    def note_sent(self, n_entries: int) -> bool:
        """Mark the next entries as sent; return whether none are added any more."""
        self._retransmit.mark_sent(n_entries)
        return self._is_ending

    def note_durable(self, point: int) -> bool:
        """Release entries before `point`; return whether that is more than before."""
        is_news = point > self._retransmit.durable
        if is_news:
            self._retransmit.mark_durable(point)
        return is_news

    def resume_after(self, last_id: bytes) -> int:
        """Queue again the entries that Redis has lost; return their bytes."""
        return self._retransmit.resume_after(last_id)

    def begin_again(self, point: int) -> None:
        """Keep only what ends after a point, for the lane of another scan."""
        self._retransmit.begin_again(point)

    def _put_back(self, entry: EncodedEntry) -> None:
        """Send an entry of the begin of a lane that begins again."""
        self._retransmit.put_back(entry)

    @property
    def next_unspooled(self) -> EncodedEntry | None:
        """The entry to be written to the spool next."""
        return self._unspooled[0] if self._unspooled else None

    def note_spooled(self, max_kept_bytes: int) -> None:
        """Mark the next entry as spooled, so that it is sent.

        Its payload stays in memory only while less than `max_kept_bytes` are kept;
        otherwise it is read back from the spool.
        """
        entry = self._unspooled.popleft()
        self._unspooled_bytes -= entry.nbytes
        keep_payload = self._retransmit.memory_bytes < max_kept_bytes
        self._retransmit.put(entry if keep_payload else entry.without_payload())
        self._waker.wake()

    def abandon(self) -> None:
        """Mark the lane as never to be sent completely: its sender gave up."""
        self._is_abandoned = True

    def drop(self) -> None:
        """Remove all entries: they are not sent any more."""
        self._retransmit.drop()
        self._unspooled.clear()
        self._unspooled_bytes = 0

    def wake(self) -> None:
        """Wake the thread that makes its entries and sends or spools them."""
        (self._spool_waker or self._waker).wake()
