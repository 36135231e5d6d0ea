"""What came from one lane: the next points, a seal, or what is wrong.

A :class:`LaneReader` knows the next point that must come and turns raw stream entries
into :class:`Arrival`: a good entry, or what is wrong. It is pure: whoever asks Redis
hands it the replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scanbus.bus.protocol.entries import PAYLOAD_FIELD, Entry, parse_entry
from scanbus.bus.protocol.keys import lane_key
from scanbus.schemas import (
    ENTRY_OVERHEAD_BYTES,
    MAX_POINTS,
    LaneDescription,
    Storage,
)
from scanbus.schemas.errors import BadEntryError

__all__ = ["MAX_COUNT", "Arrival", "Kind", "LaneReader"]

# A publisher gathers small values into entries of at most this (docs/protocol.md).
GATHERED_BYTES = 1 << 20


# Segments that a lane may lose in one piece and still be believed.
MAX_JUMP = 10_000


# Redis serves nobody else meanwhile: some milliseconds for so many.
MAX_COUNT = 512


# From here on copying an entry into a script and hashing it, as Redis's Lua does with
# every string, costs more than a round trip for fewer entries.
_LARGE_BYTES = 1 << 16


class Kind(Enum):
    """What came from a lane."""

    POINTS = "points"
    """The next points, good or declared never to come."""
    SEAL = "seal"
    """The lane is over."""
    JUMP = "jump"
    """Points between are not on the bus: trimmed, or lost."""
    OVERLAP = "overlap"
    """Points that came before."""
    BAD = "bad"
    """An entry that cannot be used."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One thing that came from a lane.

    Attributes
    ----------
    kind : Kind
        What it is.
    start, stop : int
        The points concerned.
    entry : Entry or None
        The entry, for points, overlap and seal.
    reason : str
        For bad entries.
    is_damaged : bool
        Whether a bad entry changed on its way; else it was wrong from the start.
    last_id : bytes
        Where to read on by whoever has this arrival and nothing behind it.
    nbytes : int
        What the entry takes on the bus; 0 for what only follows from one.
    """

    kind: Kind
    start: int
    stop: int
    entry: Entry | None = None
    reason: str = ""
    is_damaged: bool = False
    last_id: bytes = b""
    nbytes: int = 0


class LaneReader:
    """The state of reading one lane from one point on.

    Pure but for its name: :func:`read_lanes` asks Redis on its behalf.

    Parameters
    ----------
    uid : str
        The scan.
    lane : LaneDescription
        What is to come.
    start : int
        The first point wanted: the begin of an entry.
    last_id : bytes
        Of the last entry that was read, where that is known; what is odd may stand
        between it and the first point wanted.

    Attributes
    ----------
    counts_entries : bool
        Whether to ask by count, as if all entries were of the largest size: as long as
        those that come are large.
    """

    def __init__(
        self, uid: str, lane: LaneDescription, start: int = 0, last_id: bytes = b""
    ) -> None:
        self.lane = lane
        self.key = lane_key(uid, lane.name)
        self.expected = start
        self.length: int | None = None
        self.last_id: bytes = last_id or b"%d-0" % start
        self.counts_entries = lane.storage is Storage.FILES

    @property
    def is_over(self) -> bool:
        """Whether the seal was read."""
        return self.length is not None

    @property
    def entry_bytes(self) -> int:
        """Bytes of the largest entry that a publisher may make here."""
        has_frames = self.lane.storage is Storage.FILES
        points = self.lane.points_per_chunk if has_frames else 1
        return ENTRY_OVERHEAD_BYTES + max(
            GATHERED_BYTES, points * self.lane.point_bytes
        )

    def count_for(self, max_bytes: int) -> int:
        """Return how many entries to ask for so that they fit in `max_bytes`."""
        return max(1, min(MAX_COUNT, max_bytes // self.entry_bytes))

    def take(self, entries: Sequence[Any]) -> list[Arrival]:
        """Take raw entries in the order of the stream; return what they are."""
        arrivals: list[Arrival] = []
        nbytes = 0
        for stream_id, fields in entries:
            pairs = dict(zip(fields[::2], fields[1::2], strict=False))
            nbytes = _nbytes(pairs)
            before, self.last_id = self.last_id, stream_id
            for one in self._judge(stream_id, pairs):
                # What only follows from an entry does not mean that it was read.
                is_read = one.kind is not Kind.JUMP and one.kind is not Kind.SEAL
                arrivals.append(
                    Arrival(
                        one.kind,
                        one.start,
                        one.stop,
                        one.entry,
                        one.reason,
                        one.is_damaged,
                        stream_id if is_read else before,
                        nbytes if is_read else 0,
                    )
                )
        if entries and self.lane.storage is not Storage.FILES:
            self.counts_entries = nbytes >= _LARGE_BYTES
        return arrivals

    def _judge(self, stream_id: bytes, fields: dict[bytes, bytes]) -> list[Arrival]:
        try:
            entry = parse_entry(self.lane, stream_id, fields)
        except BadEntryError as error:
            return self._bad(stream_id, error)
        if entry.is_seal:
            return self._seal(entry)
        if entry.is_durable and entry.stop <= self.expected:
            return []  # Redis was lost; whoever reads here has the points.
        if entry.first < self.expected:
            stop = min(entry.stop, self.expected)
            return [Arrival(Kind.OVERLAP, entry.first, stop, entry)]
        if not self._can_be_reached(entry.first):
            return [self._unbelievable(f"an entry at point {entry.first}")]
        found = self._jump_to(entry.first)
        self.expected = entry.stop
        found.append(Arrival(Kind.POINTS, entry.first, entry.stop, entry))
        return found

    def _seal(self, entry: Entry) -> list[Arrival]:
        if not self._can_be_reached(entry.first):
            # Nothing can follow a seal, so this is the end, wherever it says it is.
            self.length = self.expected
            odd = self._unbelievable(f"sealed at {entry.first} points")
            return [odd, Arrival(Kind.SEAL, self.expected, self.expected, entry)]
        self.length = entry.first
        found = self._jump_to(entry.first)
        if entry.first < self.expected:
            reason = f"sealed at {entry.first} points, after {self.expected} came"
            found.append(Arrival(Kind.BAD, self.expected, self.expected, None, reason))
        found.append(Arrival(Kind.SEAL, entry.first, entry.first, entry))
        return found

    def _can_be_reached(self, first: int) -> bool:
        """Whether a jump to a point is one that happens, and not a wrong number.

        Every segment that is jumped over becomes a file that says so.
        """
        return first - self.expected <= MAX_JUMP * self.lane.points_per_segment

    def _unbelievable(self, what: str) -> Arrival:
        reason = f"{what}, but only {self.expected} came: not believed"
        return Arrival(Kind.BAD, self.expected, self.expected, None, reason)

    def _jump_to(self, first: int) -> list[Arrival]:
        if first <= self.expected:
            return []
        jump = Arrival(Kind.JUMP, self.expected, first)
        self.expected = first
        return [jump]

    def _bad(self, stream_id: bytes, error: BadEntryError) -> list[Arrival]:
        """Quarantine an entry: its points, if its id is the one that must come next.

        Any other id is not believed: one with a large number would swallow all that is
        still to come. Its points, if there are any, are named as a jump later.
        """
        reason, is_damaged = error.reason, error.is_damaged
        first, _, count = stream_id.partition(b"-")
        start, stop = int(first), int(first) + int(count)
        boundary = (start // self.lane.points_per_segment + 1) * (
            self.lane.points_per_segment
        )
        if not self.expected == start < stop <= min(boundary, MAX_POINTS):
            return [Arrival(Kind.BAD, self.expected, self.expected, None, reason)]
        self.expected = stop
        return [Arrival(Kind.BAD, start, stop, None, reason, is_damaged)]


def _nbytes(fields: dict[bytes, bytes]) -> int:
    return ENTRY_OVERHEAD_BYTES + len(fields.get(PAYLOAD_FIELD, b""))
