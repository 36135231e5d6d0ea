"""Lanes on their way to the bus: what waits, what is packed, what was sent.

State only, guarded by the lock of the scan's queue, which decides; no Redis.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from scanbus.bus.protocol import EncodedEntry, RetransmitBuffer
from scanbus.publisher.buffers.chunk_buffer import ChunkBuffer, Piece
from scanbus.publisher.buffers.entry_builder import seal_entry
from scanbus.publisher.buffers.group_buffer import GroupBuffer
from scanbus.publisher.buffers.reorder_buffer import ReorderBuffer
from scanbus.schemas import LaneDescription

__all__ = [
    "FrameLaneQueue",
    "LaneQueue",
    "LateLaneQueue",
    "Slot",
    "ValueLaneQueue",
    "Waker",
]


class Waker:
    """Where a sender sleeps until it has work; guarded by the scan's lock.

    Attributes
    ----------
    lanes : list of LaneQueue
        What that sender sends, and nobody else; it may grow.
    must_compare : bool
        Whether it has to look at what Redis holds before it sends on.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._condition = threading.Condition(lock)
        self.lanes: list[LaneQueue] = []
        self.asleep = False
        self.must_compare = False

    def wake(self) -> None:
        """Wake the sender if it sleeps; the lock is held."""
        if self.asleep:
            self._condition.notify()

    def sleep(self, timeout_s: float) -> None:
        """Sleep until woken, at most so long; the lock is held."""
        self.asleep = True
        self._condition.wait(timeout_s)
        self.asleep = False


class LaneQueue:
    """One lane on its way: entries in the retransmit buffer, and who sends them.

    Guarded by the queue's lock; `order` by `feeding`, which is held by whoever puts
    points in, so that their order is one.

    Parameters
    ----------
    description : LaneDescription
        The lane.
    session : bytes
        Names this publisher.
    waker : Waker
        Where its sender sleeps.

    Attributes
    ----------
    unspooled : deque of EncodedEntry
        Entries that are to be written to the local spool before they are sent.
    """

    def __init__(
        self, description: LaneDescription, session: bytes, waker: Waker
    ) -> None:
        self.description = description
        self.retransmit = RetransmitBuffer(session)
        self.waker = waker
        self.spool_waker: Waker | None = None
        self.unspooled: deque[EncodedEntry] = deque()
        self.unspooled_bytes = 0
        self.feeding = threading.Lock()
        self.order: ReorderBuffer[Any] | None = None
        self.ending = False
        self.abandoned = False
        self._session = session
        waker.lanes.append(self)

    @property
    def name(self) -> str:
        """The lane's name."""
        return self.description.name

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory that are not known to be durable."""
        return self.entry_bytes

    @property
    def entry_bytes(self) -> int:
        """Bytes in memory of all that are entries already."""
        return self.retransmit.memory_bytes + self.unspooled_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of points that wait for those before them."""
        return 0 if self.order is None else self.order.nbytes

    @property
    def length(self) -> int:
        """Points that its entries have, or will have."""
        return self.unspooled[-1].stop if self.unspooled else self.retransmit.stop

    @property
    def is_sealed(self) -> bool:
        """Whether there is a seal, though perhaps not sent."""
        return self.retransmit.sealed or bool(
            self.unspooled and self.unspooled[-1].is_seal
        )

    @property
    def is_run_out(self) -> bool:
        """Whether all points are entries."""
        return True

    @property
    def has_work(self) -> bool:
        """Whether its sender has something to do."""
        return self.retransmit.has_unsent or self.can_seal

    @property
    def can_seal(self) -> bool:
        """Whether nothing but the seal is missing."""
        return self.ending and self.is_run_out and not self.is_sealed

    @property
    def is_delivered(self) -> bool:
        """Whether Redis has all of it, the seal included, or never will."""
        sealed = self.retransmit.sealed and not self.retransmit.has_unsent
        return self.abandoned or sealed

    def put(self, entry: EncodedEntry) -> None:
        """Have an entry sent after those before it; the lock is held."""
        if self.spool_waker is None:
            self.retransmit.put(entry)
        else:
            self.unspooled.append(entry)
            self.unspooled_bytes += entry.nbytes

    def spool_to(self, waker: Waker) -> None:
        """Have entries written to a spool, by who sleeps there, before they are sent.

        To be called before there are any.
        """
        self.retransmit = RetransmitBuffer(self._session, keeps_payloads=False)
        self.spool_waker = waker

    def note_spooled(self, *, keep_payload: bool) -> None:
        """Have the first unspooled entry sent, now that it is in the spool."""
        entry = self.unspooled.popleft()
        self.unspooled_bytes -= entry.nbytes
        self.retransmit.put(entry if keep_payload else entry.put_aside())
        self.waker.wake()

    def drop(self) -> None:
        """Forget all entries: nobody will send them any more."""
        self.retransmit.drop()
        self.unspooled.clear()
        self.unspooled_bytes = 0

    def seal(self) -> None:
        """Put the seal behind the last entry if it is time; the lock is held."""
        if self.can_seal:
            self.put(seal_entry(self.length, self._session))

    def wake(self) -> None:
        """Wake whoever makes its entries and sends or spools them; the lock is held."""
        (self.spool_waker or self.waker).wake()


class LateLaneQueue(LaneQueue):
    """A lane of points that came after their place was closed, one per entry."""

    is_made = False


class ValueLaneQueue(LaneQueue):
    """A lane of small values, gathered by its group."""

    def __init__(
        self, description: LaneDescription, session: bytes, waker: Waker
    ) -> None:
        super().__init__(description, session, waker)
        self.buffer = GroupBuffer(description)
        self.encoding_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory that are not known to be durable."""
        gathered = self.buffer.pending_bytes + self.encoding_bytes + self.held_bytes
        return self.entry_bytes + gathered

    @property
    def length(self) -> int:
        """Points that its entries have, or will have."""
        return self.buffer.taken

    @property
    def is_run_out(self) -> bool:
        """Whether all points are entries."""
        return not self.buffer.has_complete and not self.encoding_bytes

    @property
    def has_work(self) -> bool:
        """Whether its sender has something to do."""
        return super().has_work or self.buffer.has_complete


class Slot:
    """The place of a piece in its lane's order while it is packed."""

    __slots__ = ("frozen", "piece")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.frozen: EncodedEntry | None = None


class FrameLaneQueue(LaneQueue):
    """A lane of frames: gathered into chunks, packed by encoders, kept in order."""

    def __init__(
        self,
        description: LaneDescription,
        session: bytes,
        waker: Waker,
        compression: float,
    ) -> None:
        super().__init__(description, session, waker)
        self.chunks = ChunkBuffer(description)
        # Kept, for it is worked out anew whenever the description is asked.
        self.point_bytes = description.point_bytes
        self.slots: deque[Slot] = deque()
        self.raw_bytes = 0
        self.held_since = 0.0
        self.packed_from = 0
        self.packed_to = 0
        packs = description.channels[0].codec != "none"
        self.compression = compression if packs else 1.0

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory that are not known to be durable, raw until packed."""
        return self.entry_bytes + self.raw_bytes

    @property
    def length(self) -> int:
        """Points that its entries have, or will have."""
        return self.chunks.count

    @property
    def is_run_out(self) -> bool:
        """Whether all points are entries."""
        return not self.slots

    def note_packed(self, piece: Piece, entry: EncodedEntry) -> None:
        """Take note of how well frames pack."""
        self.raw_bytes -= piece.raw_bytes
        # Of frames that the program packed nobody knows; they are counted as they are.
        if piece.frames is not None and piece.raw_bytes != len(entry.payload):
            self.packed_from += piece.raw_bytes
            self.packed_to += len(entry.payload)

    @property
    def misjudged(self) -> str:
        """Say so if frames pack much worse than the plan was told, else empty."""
        if self.packed_to * self.compression <= 1.25 * self.packed_from:
            return ""
        return (
            f"frames of {self.name} pack {self.packed_from / self.packed_to:.1f} : 1, "
            f"not {self.compression:.1f} : 1 as expected (compression), so that open "
            "segments do not fit"
        )
