"""What a publisher keeps of one lane until the writer has it.

Pure: entries in, entries to send out. An entry is frozen once it is in here: a retry
sends the same bytes. The sender that owns the connection decides when.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice

from scanbus.bus.protocol.entries import SEAL_ID, checksum_of, entry_id, pack_header

__all__ = ["EncodedEntry", "RetransmitBuffer"]

# Redis keeps a stream entry in a listpack with its id and field names.
_ENTRY_OVERHEAD = 64


@dataclass(frozen=True, slots=True)
class EncodedEntry:
    """An entry as it is sent, and sent again.

    Attributes
    ----------
    id : bytes
        Its id in the stream.
    stop : int
        The point after its last one; for the seal, the length of the lane.
    header : bytes
        msgpack.
    payload : bytes
        Raw; empty for gaps and the seal.
    is_stand_in : bool
        It says of points that Redis lost that the writer has them.
    aside_bytes : int
        Bytes of the payload where it is kept elsewhere; `payload` is empty then.
    """

    id: bytes
    stop: int
    header: bytes
    payload: bytes | memoryview = b""
    is_stand_in: bool = False
    aside_bytes: int = 0

    @property
    def nbytes(self) -> int:
        """What it costs on the bus, about."""
        return self.memory_bytes + self.aside_bytes

    @property
    def memory_bytes(self) -> int:
        """What it costs here, about."""
        return len(self.header) + len(self.payload) + _ENTRY_OVERHEAD

    def put_aside(self) -> EncodedEntry:
        """Return it without its payload, which somebody else keeps."""
        if not len(self.payload):
            return self
        return replace(self, payload=b"", aside_bytes=len(self.payload))

    @property
    def is_seal(self) -> bool:
        """Whether nothing can follow it."""
        return self.id == SEAL_ID


class RetransmitBuffer:
    """The entries of one lane that are not known to be durable, in order.

    One sender owns it; it is not safe to share between threads without a lock.

    Parameters
    ----------
    session : bytes
        Names this publisher in the headers.
    keeps_payloads : bool
        Whether payloads stay here once they were sent; somebody else keeps them if
        not, and whoever sends fetches them.
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
        """Keep an entry and have it sent."""
        self._kept.append(entry)
        self._count(entry, 1)
        self.stop = entry.stop
        self.sealed = self.sealed or entry.is_seal

    def to_send(self, max_bytes: int) -> list[EncodedEntry]:
        """Return the next entries that were not sent, at least one if there is any."""
        batch: list[EncodedEntry] = []
        taken = 0
        for index in range(self._n_sent, len(self._kept)):
            entry = self._kept[index]
            if batch and taken + entry.nbytes > max_bytes:
                break
            batch.append(entry)
            taken += entry.nbytes
        return batch

    @property
    def has_unsent(self) -> bool:
        """Whether anything waits to be sent."""
        return self._n_sent < len(self._kept)

    @property
    def next_unsent(self) -> EncodedEntry | None:
        """The entry that is sent next."""
        return self._kept[self._n_sent] if self.has_unsent else None

    @property
    def first(self) -> int:
        """The first point that is kept here, the end of the lane if there is none."""
        return self._first_of(self._kept[0]) if self._kept else self.stop

    @property
    def sent_stop(self) -> int:
        """The point after the last one that was sent."""
        return self._kept[self._n_sent - 1].stop if self._n_sent else self.first

    @property
    def is_durable(self) -> bool:
        """Whether the lane is sealed and nothing of it is at risk."""
        return self.sealed and self.durable >= self.stop and not self.has_unsent

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be sent."""
        waiting = islice(self._kept, self._n_sent, None)
        return sum(entry.nbytes for entry in waiting)

    def sent(self, n_entries: int) -> None:
        """Take note that Redis stored the next `n_entries`."""
        for index in range(self._n_sent, self._n_sent + n_entries):
            entry = self._kept[index]
            self.sent_bytes += entry.nbytes
            if not self._keeps_payloads:
                self._kept[index] = entry.put_aside()
                self.memory_bytes -= len(entry.payload)
        self._n_sent += n_entries
        self._forget_durable()

    def durable_up_to(self, point: int) -> None:
        """Forget what the writer has: entries that end at or before `point`."""
        self.durable = max(self.durable, min(point, self.stop))
        self._forget_durable()

    def _forget_durable(self) -> None:
        # Only what was sent: after a loss, the order of the lane comes first, and
        # the seal is kept to the end, as a lane without it never ends.
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
        """Forget all entries: nobody will send them again."""
        self._kept.clear()
        self._n_sent = 0
        self.nbytes = self.memory_bytes = self.sent_bytes = 0

    def resume_after(self, last_id: bytes | None) -> None:
        """Compare with what the lane holds now and arrange to send the rest again.

        Parameters
        ----------
        last_id : bytes or None
            The lane's last id; None or ``0-0`` if it is empty or was made again. The
            entry must be of this publisher: the caller has looked.
        """
        last = _numbers(last_id) if last_id else (0, 0)
        lane_stop = last[0] + last[1]
        # A stand-in was made for another state of the lane than this one.
        while self._kept and self._kept[0].is_stand_in:
            self._count(self._kept.popleft(), -1)
        there = [entry.nbytes for entry in self._kept if _numbers(entry.id) <= last]
        self._n_sent, self.sent_bytes = len(there), sum(there)
        first = self.first
        # Never for points that are not durable, whatever the caller believes.
        if self._n_sent == 0 and lane_stop < first <= self.durable:
            self._stand_in_for(lane_stop, first)
        self._forget_durable()

    def _stand_in_for(self, start: int, stop: int) -> None:
        """Say for points that Redis lost but the writer has that they are durable."""
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
        return entry.stop if entry.is_seal else _numbers(entry.id)[0]


def _numbers(stream_id: bytes) -> tuple[int, int]:
    first, _, second = stream_id.partition(b"-")
    return int(first), int(second)
