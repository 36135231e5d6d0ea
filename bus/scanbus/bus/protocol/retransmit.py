"""Retransmit buffer: a lane's entries that a publisher keeps until they are durable.

Pure: entries in, entries to send out. Entries here do not change any more: a retry
sends the same bytes. The sender that owns the connection decides when to send.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice

from scanbus.bus.protocol.entries import (
    SEAL_ID,
    checksum_of,
    entry_id,
    pack_header,
    split_id,
)

__all__ = ["EncodedEntry", "RetransmitBuffer", "lost_entry"]

# Redis stores a stream entry in a listpack with its id and field names.
_ENTRY_OVERHEAD = 64


@dataclass(frozen=True, slots=True)
class EncodedEntry:
    """An entry in the form in which it is sent, and sent again.

    Attributes
    ----------
    id : bytes
        Its id in the stream.
    stop : int
        The point after its last one; for the seal, the length of the lane.
    header : bytes
        The header, msgpack.
    payload : bytes
        The payload; empty for gaps and the seal.
    is_stand_in : bool
        Whether it is a placeholder for points that Redis lost but the writer has.
    spooled_bytes : int
        Size of the payload if only the spool has it; `payload` is empty then.
    lost_from : int
        Of a gap in the place of points that the spool lost: its first point. Redis may
        have some of them, and then the gap begins later. Otherwise -1.
    """

    id: bytes
    stop: int
    header: bytes
    payload: bytes | memoryview = b""
    is_stand_in: bool = False
    spooled_bytes: int = 0
    lost_from: int = -1

    @property
    def nbytes(self) -> int:
        """Approximate size on the bus, in bytes."""
        return self.memory_bytes + self.spooled_bytes

    @property
    def memory_bytes(self) -> int:
        """Approximate size in the publisher's memory, in bytes."""
        return len(self.header) + len(self.payload) + _ENTRY_OVERHEAD

    def without_payload(self) -> EncodedEntry:
        """Return this entry without its payload, which is in the spool."""
        if not len(self.payload):
            return self
        return replace(self, payload=b"", spooled_bytes=len(self.payload))

    @property
    def is_seal(self) -> bool:
        """Whether it is the seal: nothing can follow it."""
        return self.id == SEAL_ID


def lost_entry(
    first: int, stop: int, session: bytes, lost_from: int | None = None
) -> EncodedEntry:
    """Return the gap for points that the spool lost."""
    header = pack_header(session=session, checksum=checksum_of(b""), is_gap=True)
    lost_from = first if lost_from is None else lost_from
    return EncodedEntry(
        entry_id(first, stop - first), stop, header, lost_from=lost_from
    )


class RetransmitBuffer:
    """The entries of one lane that are not known to be durable, in order.

    One sender owns it; it is not safe to share between threads without a lock.

    Parameters
    ----------
    session : bytes
        Identifies this publisher in the headers.
    keeps_payloads : bool
        Whether payloads stay in memory after they were sent; if not, the spool has them
        and the sender loads them from there to send them again.

    Attributes
    ----------
    nbytes : int
        Approximate size of all entries on the bus.
    memory_bytes : int
        Approximate size of all entries in memory.
    sent_bytes : int
        Approximate size on the bus of the entries that were sent.
    durable : int
        The points before this one are durable.
    stop : int
        The point after the last one.
    sealed : bool
        Whether the seal was added.
    """

    def __init__(self, session: bytes, *, keeps_payloads: bool = True) -> None:
        self._session = session
        self._keeps_payloads = keeps_payloads
        self._kept: deque[EncodedEntry] = deque()
        self._n_sent = 0
        self.nbytes = 0
        self.memory_bytes = 0
        self.sent_bytes = 0
        self.durable = 0
        self.stop = 0
        self.sealed = False

    def put(self, entry: EncodedEntry) -> None:
        """Append an entry; it is to be sent."""
        self._kept.append(entry)
        self._count(entry, 1)
        self.stop = entry.stop
        self.sealed = self.sealed or entry.is_seal

    def to_send(self, max_bytes: int) -> list[EncodedEntry]:
        """Return the next unsent entries of at most `max_bytes`, but at least one.

        None if all were sent.
        """
        batch: list[EncodedEntry] = []
        taken = 0
        for index in range(self._n_sent, len(self._kept)):
            entry = self._kept[index]
            if batch and taken + entry.nbytes > max_bytes:
                break
            batch.append(entry)
            taken += entry.nbytes
        return batch

    def lose(self, entry: EncodedEntry) -> None:
        """Put a gap in the place of an unsent entry whose payload cannot be read."""
        for index in range(self._n_sent, len(self._kept)):
            if self._kept[index].id == entry.id:
                gap = lost_entry(self._first_of(entry), entry.stop, self._session)
                self._replace(index, gap)

    def _replace(self, index: int, entry: EncodedEntry) -> None:
        self._count(self._kept[index], -1)
        self._kept[index] = entry
        self._count(entry, 1)

    @property
    def has_unsent(self) -> bool:
        """Whether there are unsent entries."""
        return self._n_sent < len(self._kept)

    @property
    def next_unsent(self) -> EncodedEntry | None:
        """The entry that is sent next; None if all were sent."""
        return self._kept[self._n_sent] if self.has_unsent else None

    @property
    def first(self) -> int:
        """The first point in the buffer; `stop` if it is empty."""
        return self._first_of(self._kept[0]) if self._kept else self.stop

    @property
    def first_kept(self) -> int:
        """The first point whose entry is here; `stop` if there is none.

        A placeholder stands for points that are in files only.
        """
        kept = (each for each in self._kept if not each.is_stand_in)
        entry = next(kept, None)
        return self.stop if entry is None else self._first_of(entry)

    @property
    def sent_stop(self) -> int:
        """The point after the last one that was sent."""
        return self._kept[self._n_sent - 1].stop if self._n_sent else self.first

    @property
    def is_durable(self) -> bool:
        """Whether the lane is sealed, sent and durable to its end."""
        return self.sealed and self.durable >= self.stop and not self.has_unsent

    @property
    def unsent_bytes(self) -> int:
        """Approximate size of the unsent entries on the bus, in bytes."""
        unsent = islice(self._kept, self._n_sent, None)
        return sum(entry.nbytes for entry in unsent)

    def mark_sent(self, n_entries: int) -> None:
        """Mark the next `n_entries` entries as sent: Redis stored them."""
        for index in range(self._n_sent, self._n_sent + n_entries):
            entry = self._kept[index]
            self.sent_bytes += entry.nbytes
            if not self._keeps_payloads:
                self._kept[index] = entry.without_payload()
                self.memory_bytes -= len(entry.payload)
        self._n_sent += n_entries
        self._remove_durable()

    def mark_durable(self, point: int) -> None:
        """Remove entries that the writer has: those that end at or before `point`."""
        self.durable = max(self.durable, min(point, self.stop))
        self._remove_durable()

    def _remove_durable(self) -> None:
        # Only sent entries: after a loss, the entries of a lane must be sent in order.
        # The seal is never removed, as a lane without it never ends.
        while self._n_sent and not self._kept[0].is_seal:
            if self._kept[0].stop > self.durable:
                return
            entry = self._kept.popleft()
            self._count(entry, -1)
            self.sent_bytes -= entry.nbytes
            self._n_sent -= 1

    def _count(self, entry: EncodedEntry, sign: int) -> None:
        self.nbytes += sign * entry.nbytes
        self.memory_bytes += sign * entry.memory_bytes

    def drop(self) -> None:
        """Remove all entries: they will not be sent again."""
        self._kept.clear()
        self._n_sent = 0
        self.nbytes = self.memory_bytes = self.sent_bytes = 0

    def begin_again(self, point: int) -> None:
        """Keep only what ends after a point, for another lane that has nothing yet."""
        kept = [
            entry
            for entry in self._kept
            if entry.is_seal or (entry.stop > point and not entry.is_stand_in)
        ]
        self.drop()
        self.durable = 0
        for entry in kept:
            self._kept.append(entry)
            self._count(entry, 1)

    def put_back(self, entry: EncodedEntry) -> None:
        """Send an entry before all others, after `begin_again`, if it is not kept."""
        if all(each.id != entry.id for each in self._kept):
            self._kept.appendleft(entry)
            self._count(entry, 1)

    def resume_after(self, last_id: bytes | None) -> int:
        """Mark as sent only what the lane in Redis holds; the rest is sent again.

        Parameters
        ----------
        last_id : bytes or None
            The lane's last id; None or ``0-0`` if it is empty or was created anew. The
            caller must have checked that the entry is of this publisher.

        Returns
        -------
        int
            Bytes of the entries that were sent before and are sent again.
        """
        before = split_id(self._kept[self._n_sent - 1].id) if self._n_sent else (0, 0)
        last = split_id(last_id) if last_id else (0, 0)
        lane_stop = last[0] + last[1]
        # A placeholder was made for an earlier state of the lane.
        while self._kept and self._kept[0].is_stand_in:
            self._count(self._kept.popleft(), -1)
        self._trim_lost(lane_stop)
        stored = [entry.nbytes for entry in self._kept if split_id(entry.id) <= last]
        self._n_sent, self.sent_bytes = len(stored), sum(stored)
        first = self.first
        # Never for points that are not durable, whatever `last_id` is.
        if self._n_sent == 0 and lane_stop < first <= self.durable:
            self._prepend_stand_in(lane_stop, first)
        again = (
            entry.nbytes
            for entry in islice(self._kept, self._n_sent, None)
            if split_id(entry.id) <= before and not entry.is_stand_in
        )
        n_bytes = sum(again)
        self._remove_durable()
        return n_bytes

    def _trim_lost(self, lane_stop: int) -> None:
        """Have gaps for points that the spool lost begin where the lane ends."""
        for index, entry in enumerate(self._kept):
            if entry.lost_from >= 0:
                first = max(lane_stop, entry.lost_from)
                if first >= entry.stop:
                    first = entry.lost_from
                gap = lost_entry(first, entry.stop, self._session, entry.lost_from)
                self._replace(index, gap)

    def _prepend_stand_in(self, start: int, stop: int) -> None:
        """Prepend an entry that declares points that Redis lost as durable."""
        header = pack_header(
            session=self._session, checksum=checksum_of(b""), is_durable=True
        )
        stand_in = EncodedEntry(
            entry_id(start, stop - start), stop, header, is_stand_in=True
        )
        self._kept.appendleft(stand_in)
        self._count(stand_in, 1)

    @staticmethod
    def _first_of(entry: EncodedEntry) -> int:
        return entry.stop if entry.is_seal else split_id(entry.id)[0]
