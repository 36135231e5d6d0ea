"""Read lanes: many at once, bounded in bytes, or single entries.

Neither Redis nor the reader holds more than it was told to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scanbus.bus.protocol.entries import (
    MAX_HEADER_BYTES,
    SEAL_ID,
    Entry,
    parse_entry,
)
from scanbus.bus.protocol.keys import lane_key
from scanbus.bus.protocol.lane_reader import MAX_COUNT, Arrival, LaneReader
from scanbus.bus.store.bounded_read import BOUNDED_READ
from scanbus.bus.store.connection import Bus
from scanbus.schemas import MAX_ENTRY_BYTES, LaneDescription

__all__ = [
    "find_entry_start",
    "read_entry",
    "read_lanes",
    "read_newest",
    "read_seal",
]

_LARGEST_ENTRY = MAX_ENTRY_BYTES + MAX_HEADER_BYTES
# The largest number that an id may have.
_LARGEST = 2**64 - 1


def read_lanes(
    client: Bus, readers: Sequence[LaneReader], *, max_bytes: int, block_ms: int
) -> list[tuple[LaneReader, list[Arrival]]]:
    """Return what came from several lanes, at most about `max_bytes` of it.

    Asks every lane for as many entries as fit in its share, at least for one; where
    nothing stands, waits up to `block_ms` for one entry from each.
    """
    open_readers = [reader for reader in readers if not reader.is_over]
    if not open_readers:
        return []
    share = max_bytes // len(open_readers)
    found = _read_now(client, open_readers, share)
    if not found and block_ms > 0:
        found = _wait(client, open_readers, block_ms)
    return found


def _read_now(
    client: Bus, readers: Sequence[LaneReader], share: int
) -> list[tuple[LaneReader, list[Arrival]]]:
    pipe = client.pipeline(transaction=False)
    for reader in readers:
        _ask(pipe, reader, share)
    found = []
    for reader, reply in zip(readers, pipe.execute(), strict=True):
        if reply:
            entries = _entries_of(reply)[0][1] if reader.counts_entries else reply
            found.append((reader, reader.take(entries)))
    return found


def _ask(pipe: Any, reader: LaneReader, share: int) -> None:
    """Ask for a lane's share: large entries by count, small ones by bytes.

    Frames differ little in size, and a script would copy them once more; gathered
    values are of some bytes or of a mebibyte, as the publisher's round trips fell, and
    mostly like the ones before.
    """
    if reader.counts_entries:
        pipe.xread({reader.key: reader.last_id}, count=reader.count_for(share))
        return
    limits = (MAX_COUNT, share, _LARGEST_ENTRY)
    pipe.eval(BOUNDED_READ, 1, reader.key, reader.last_id, *limits)


def _wait(
    client: Bus, readers: Sequence[LaneReader], block_ms: int
) -> list[tuple[LaneReader, list[Arrival]]]:
    by_key = {reader.key.encode(): reader for reader in readers}
    streams: Any = {reader.key: reader.last_id for reader in readers}
    reply: Any = client.xread(streams, count=1, block=block_ms)
    return [
        (by_key[bytes(key)], by_key[bytes(key)].take(entries))
        for key, entries in _entries_of(reply or [])
    ]


def _entries_of(reply: Any) -> list[tuple[bytes, Any]]:
    return list(reply.items()) if isinstance(reply, dict) else list(reply)


def read_newest(
    client: Bus, readers: Sequence[LaneReader], *, count: int
) -> list[list[Any]]:
    """Return the last `count` raw entries of each lane, the newest first.

    One round trip for all of them. The readers are asked for their keys only.
    """
    pipe: Any = client.pipeline(transaction=False)
    for reader in readers:
        pipe.xrevrange(reader.key, "+", "-", count=count)
    return [list(entries) for entries in pipe.execute()]


def read_entry(
    client: Bus, uid: str, lane: LaneDescription, point: int
) -> Entry | None:
    """Return the entry that holds a point, and only that; None if none does.

    Raises
    ------
    BadEntryError
        If it cannot be used.
    """
    raw = _raw_entry_of(client, uid, lane.name, point)
    return None if raw is None else _parsed(lane, raw)


def read_seal(client: Bus, uid: str, lane: LaneDescription) -> Entry | None:
    """Return a lane's seal, whose first point is the lane's length; None if no seal.

    Raises
    ------
    BadEntryError
        If it cannot be used.
    """
    reply: Any = client.xrange(lane_key(uid, lane.name), SEAL_ID, SEAL_ID)
    return _parsed(lane, reply[0]) if reply else None


def find_entry_start(client: Bus, uid: str, lane: str, point: int) -> int:
    """Return the first point of the entry that holds `point`, or `point` itself."""
    raw = _raw_entry_of(client, uid, lane, point)
    return point if raw is None else int(bytes(raw[0]).partition(b"-")[0])


def _raw_entry_of(client: Bus, uid: str, lane: str, point: int) -> Any | None:
    """Return the raw entry that holds a point; None if none does."""
    reply: Any = client.xrevrange(
        lane_key(uid, lane), f"{point}-{_LARGEST}", "-", count=1
    )
    if not reply:
        return None
    first, _, count = bytes(reply[0][0]).partition(b"-")
    return reply[0] if int(first) <= point < int(first) + int(count) else None


def _parsed(lane: LaneDescription, raw: Any) -> Entry:
    stream_id, fields = raw
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    return parse_entry(lane, bytes(stream_id), pairs)
