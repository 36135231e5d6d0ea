"""Classify the entries of one lane: next points, seal, jump, overlap, bad entry.

A :class:`LaneReader` knows which point comes next and turns raw stream entries into
:class:`Arrival` objects. It is pure: the caller passes it the replies of Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scanbus.bus.protocol.entries import PAYLOAD_FIELD, Entry, parse_entry, split_id
from scanbus.bus.protocol.keys import lane_key
from scanbus.bus.protocol.times import TIME_BYTES
from scanbus.schemas import (
    ENTRY_OVERHEAD_BYTES,
    MAX_POINTS,
    LaneDescription,
    Storage,
)
from scanbus.schemas.errors import BadEntryError

__all__ = ["MAX_COUNT", "Arrival", "Kind", "LaneReader"]

# Largest entry into which a publisher gathers small values, with their times
# (docs/protocol.md).
GATHERED_BYTES = 1 << 20


# Longest jump that is accepted, in segments; a longer one must be a wrong number.
MAX_JUMP = 10_000


# The same in points: long segments do not make a wrong number plausible.
MAX_JUMP_POINTS = 10**8


# Entries per read. Redis blocks other clients meanwhile: some milliseconds for 512.
MAX_COUNT = 512


# From this size on, copying an entry into a script and hashing it, as Redis's Lua does
# with every string, takes longer than an additional round trip for fewer entries.
_LARGE_BYTES = 1 << 16


class Kind(Enum):
    """Kind of an arrival."""

    POINTS = "points"
    """The next points, with values or declared as gaps."""
    SEAL = "seal"
    """The end of the lane."""
    JUMP = "jump"
    """Points before the next entry that are not on the bus: trimmed, or lost."""
    OVERLAP = "overlap"
    """Points that were received before."""
    BAD = "bad"
    """An entry that cannot be used."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One classified entry of a lane, or a jump or seal that follows from one.

    Attributes
    ----------
    kind : Kind
        Kind of the arrival.
    start, stop : int
        The points ``[start, stop)`` concerned.
    entry : Entry or None
        The entry, for points, overlap and seal.
    reason : str
        Why the entry is bad, for bad entries.
    is_damaged : bool
        Whether a bad entry was damaged in transit; else it was sent in this form.
    last_id : bytes
        Id after which to continue reading when this arrival was the last one processed.
    nbytes : int
        Approximate size of the entry on the bus, in bytes; 0 for jumps and seals.
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
    """State of reading one lane from some point on.

    Pure: :func:`~scanbus.bus.store.read_lanes` asks Redis for its entries.

    Parameters
    ----------
    uid : str
        The scan's uid.
    lane : LaneDescription
        The lane.
    start : int
        The first point wanted; an entry must begin with it.
    last_id : bytes
        Id of the last entry that was read, if known; bad entries may be between it and
        the first point wanted.

    Attributes
    ----------
    key : str
        The lane's key in Redis.
    expected : int
        The point that comes next.
    length : int or None
        Number of points, once the seal was read.
    last_id : bytes
        Id of the last entry that was read.
    counts_entries : bool
        Whether to limit reads by count, for the largest size of an entry, instead of by
        bytes; True while entries are large.
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
        """Largest size of an entry of this lane on the bus, in bytes."""
        has_frames = self.lane.storage is Storage.FILES
        points = self.lane.points_per_chunk if has_frames else 1
        largest = points * (self.lane.point_bytes + TIME_BYTES)
        return ENTRY_OVERHEAD_BYTES + max(GATHERED_BYTES, largest)

    def count_for(self, max_bytes: int) -> int:
        """Return how many entries of the largest size fit into `max_bytes`.

        At least 1 and at most `MAX_COUNT`.
        """
        return max(1, min(MAX_COUNT, max_bytes // self.entry_bytes))

    def take(self, entries: Sequence[Any]) -> list[Arrival]:
        """Classify raw entries, which must be in the order of the stream."""
        arrivals: list[Arrival] = []
        nbytes = 0
        for stream_id, fields in entries:
            pairs = dict(zip(fields[::2], fields[1::2], strict=False))
            nbytes = _nbytes(pairs)
            before, self.last_id = self.last_id, stream_id
            for one in self._classify(stream_id, pairs):
                # A jump or a seal alone does not mean that its entry was processed.
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

    def _classify(self, stream_id: bytes, fields: dict[bytes, bytes]) -> list[Arrival]:
        try:
            entry = parse_entry(self.lane, stream_id, fields)
        except BadEntryError as error:
            return self._quarantine(stream_id, error)
        if entry.is_seal:
            return self._seal(entry)
        if entry.is_durable and entry.stop <= self.expected:
            return []  # Redis lost its data; this reader has the points already.
        if entry.first < self.expected:
            stop = min(entry.stop, self.expected)
            return [Arrival(Kind.OVERLAP, entry.first, stop, entry)]
        if not self._is_plausible(entry.first):
            return [self._implausible(f"an entry at point {entry.first}")]
        found = self._jump_to(entry.first)
        self.expected = entry.stop
        found.append(Arrival(Kind.POINTS, entry.first, entry.stop, entry))
        return found

    def _seal(self, entry: Entry) -> list[Arrival]:
        if not self._is_plausible(entry.first):
            # Nothing can follow a seal: the lane ends here, whatever length it states.
            self.length = self.expected
            bad = self._implausible(f"sealed at {entry.first} points")
            return [bad, Arrival(Kind.SEAL, self.expected, self.expected, entry)]
        self.length = entry.first
        found = self._jump_to(entry.first)
        if entry.first < self.expected:
            reason = f"sealed at {entry.first} points, after {self.expected} came"
            found.append(Arrival(Kind.BAD, self.expected, self.expected, None, reason))
        found.append(Arrival(Kind.SEAL, entry.first, entry.first, entry))
        return found

    def _is_plausible(self, first: int) -> bool:
        """Whether a jump to a point may be a loss of data, and not a wrong number.

        The writer makes a file for every segment that is skipped.
        """
        longest = min(MAX_JUMP * self.lane.points_per_segment, MAX_JUMP_POINTS)
        return first - self.expected <= longest

    def _implausible(self, what: str) -> Arrival:
        reason = f"{what}, but only {self.expected} came: implausible, ignored"
        return Arrival(Kind.BAD, self.expected, self.expected, None, reason)

    def _jump_to(self, first: int) -> list[Arrival]:
        if first <= self.expected:
            return []
        jump = Arrival(Kind.JUMP, self.expected, first)
        self.expected = first
        return [jump]

    def _quarantine(self, stream_id: bytes, error: BadEntryError) -> list[Arrival]:
        """Return a bad entry, with its points only if its id is the one expected next.

        Any other id is not trusted: a large number would skip all points still to come.
        The points of such an entry, if there are any, are part of a later jump.
        """
        reason, is_damaged = error.reason, error.is_damaged
        start, count = split_id(stream_id)
        stop = start + count
        boundary = (start // self.lane.points_per_segment + 1) * (
            self.lane.points_per_segment
        )
        if not self.expected == start < stop <= min(boundary, MAX_POINTS):
            return [Arrival(Kind.BAD, self.expected, self.expected, None, reason)]
        self.expected = stop
        return [Arrival(Kind.BAD, start, stop, None, reason, is_damaged)]


def _nbytes(fields: dict[bytes, bytes]) -> int:
    return ENTRY_OVERHEAD_BYTES + len(fields.get(PAYLOAD_FIELD, b""))
