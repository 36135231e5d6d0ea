"""Lanes on their way to the bus: what waits, what is packed, what was sent.

State only, guarded by the lock of the scan's delivery, which decides; no Redis.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from scanbus.bus.outbox import Frozen, Outbox
from scanbus.publisher.chunking import ChunkBuffer, Piece
from scanbus.publisher.gathering import GroupBuffer
from scanbus.schemas import LaneDescription

__all__ = ["FrameLane", "Lane", "Slot", "ValueLane", "Waker"]


class Waker:
    """Where a sender sleeps until it has work; guarded by the scan's lock."""

    def __init__(self, lock: threading.Lock) -> None:
        self._condition = threading.Condition(lock)
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


class Lane:
    """One lane on its way: entries in the outbox, and who sends them.

    Guarded by the delivery's lock.
    """

    def __init__(self, description: LaneDescription, session: bytes) -> None:
        self.description = description
        self.outbox = Outbox(session)
        self.waker: Waker | None = None
        self.ending = False
        self.abandoned = False

    @property
    def name(self) -> str:
        """The lane's name."""
        return self.description.name

    @property
    def is_delivered(self) -> bool:
        """Whether Redis has all of it, the seal included, or never will."""
        sealed = self.outbox.sealed and not self.outbox.has_unsent
        return self.abandoned or sealed

    def wake(self) -> None:
        """Wake its sender; the lock is held."""
        if self.waker is not None:
            self.waker.wake()


class ValueLane(Lane):
    """A lane of small values, gathered by its group."""

    def __init__(self, description: LaneDescription, session: bytes) -> None:
        super().__init__(description, session)
        self.buffer = GroupBuffer(description)
        self.freezing_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """Bytes that are not known to be durable."""
        return self.outbox.nbytes + self.buffer.pending_bytes + self.freezing_bytes

    @property
    def has_work(self) -> bool:
        """Whether its sender has something to do."""
        return (
            self.outbox.has_unsent
            or self.buffer.has_complete
            or (self.ending and not self.outbox.sealed)
        )


class Slot:
    """The place of a piece in its lane's order while it is packed."""

    __slots__ = ("frozen", "piece")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.frozen: Frozen | None = None


class FrameLane(Lane):
    """A lane of frames: gathered into chunks, packed by encoders, kept in order.

    `feeding` is held by whoever puts frames in, so that their order is one.
    """

    def __init__(
        self, description: LaneDescription, session: bytes, compression: float
    ) -> None:
        super().__init__(description, session)
        self.chunks = ChunkBuffer(description)
        self.feeding = threading.Lock()
        self.slots: deque[Slot] = deque()
        self.raw_bytes = 0
        self.held_since = 0.0
        self.packed_from = 0
        self.packed_to = 0
        packs = description.channels[0].codec != "none"
        self.compression = compression if packs else 1.0

    @property
    def kept_bytes(self) -> int:
        """Bytes that are not known to be durable, raw until they are packed."""
        return self.outbox.nbytes + self.raw_bytes

    @property
    def has_work(self) -> bool:
        """Whether its sender has something to do."""
        return self.outbox.has_unsent or self.can_seal

    def note_packed(self, piece: Piece, entry: Frozen) -> None:
        """Take note of how well frames pack."""
        self.raw_bytes -= piece.raw_bytes
        if isinstance(piece.frames, np.ndarray):
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

    @property
    def can_seal(self) -> bool:
        """Whether all frames are entries and only the seal is missing."""
        return self.ending and not self.slots and not self.outbox.sealed
