"""Read lanes: many at once with a limit in bytes, or single entries.

The limits bound the memory of both Redis and the reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scanbus.bus.protocol.entries import (
    MAX_HEADER_BYTES,
    SEAL_ID,
    Entry,
    parse_entry,
    split_id,
)
from scanbus.bus.protocol.keys import events_key, lane_key
from scanbus.bus.protocol.lane_reader import MAX_COUNT, Arrival, LaneReader
from scanbus.bus.protocol.scan_record import ScanRecord
from scanbus.bus.store.bounded_read import BOUNDED_READ
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.replies import parses_reply, stream_entries, streams
from scanbus.bus.store.wrong_types import is_wrong_type
from scanbus.schemas import MAX_ENTRY_BYTES, LaneDescription

__all__ = [
    "find_entry_start",
    "read_entry",
    "read_lanes",
    "read_newest",
    "read_seal",
    "wait_for_any",
]

_LARGEST_ENTRY = MAX_ENTRY_BYTES + MAX_HEADER_BYTES
# The largest number in a stream id.
_LARGEST = 2**64 - 1
# Of more lanes than this, one command tells first which have news: a command for each
# costs 20 us, most of it in the client.
_MANY_LANES = 32
# If at most this part of them has news, these are read further at once.
_FEW = 8


def read_lanes(
    client: Bus, readers: Sequence[LaneReader], *, max_bytes: int, block_ms: int
) -> list[tuple[LaneReader, list[Arrival]]]:
    """Return new arrivals of several lanes, about `max_bytes` in total at most.

    Reads from every lane as many entries as fit into its share, but at least one. If
    there are none at all, waits up to `block_ms` for one entry of each lane; does not
    wait if that is 0.
    """
    open_readers = _open(readers)
    if not open_readers:
        return []
    if len(open_readers) > _MANY_LANES:
        found = _read_news(client, open_readers, max_bytes)
    else:
        found = _read_now(client, open_readers, max_bytes // len(open_readers))
    if not found and block_ms > 0:
        found, _ = _wait(client, open_readers, {}, block_ms)
    return found


def wait_for_any(
    client: Bus, readers: Sequence[LaneReader], record: ScanRecord, block_ms: int
) -> tuple[list[tuple[LaneReader, list[Arrival]]], bool]:
    """Wait for arrivals of lanes and for events of their scan, in one command.

    Returns
    -------
    found : list
        As of `read_lanes`: at most one entry of each lane.
    has_events : bool
        Whether the scan has events that are not folded yet.
    """
    block_ms = max(1, block_ms)
    after = {events_key(record.uid): record.last_id}
    try:
        return _wait(client, _open(readers), after, block_ms)
    except redis.exceptions.ResponseError as error:
        if not is_wrong_type(error):
            raise
        # Events that something else replaced: what is known of the scan still counts.
        return _wait(client, _open(readers), {}, block_ms)


def _open(readers: Sequence[LaneReader]) -> list[LaneReader]:
    return [reader for reader in readers if not reader.is_over]


def _read_now(
    client: Bus, readers: Sequence[LaneReader], share: int
) -> list[tuple[LaneReader, list[Arrival]]]:
    pipe = client.pipeline(transaction=False)
    for reader in readers:
        _request(pipe, reader, share)
    found = []
    for reader, reply in zip(readers, pipe.execute(), strict=True):
        entries = _new_entries(reader, reply)
        if entries:
            found.append((reader, reader.take(entries)))
    return found


def _read_news(
    client: Bus, readers: Sequence[LaneReader], max_bytes: int
) -> list[tuple[LaneReader, list[Arrival]]]:
    """Return one entry of each lane that has any; more of these if they are few."""
    found, _ = _wait(client, readers, {}, None)
    busy = [reader for reader, _ in found if not reader.is_over]
    if not busy or len(busy) > len(readers) // _FEW:
        return found
    more = dict(_read_now(client, busy, max_bytes // len(busy)))
    return [(reader, [*first, *more.get(reader, [])]) for reader, first in found]


def _new_entries(reader: LaneReader, reply: Any) -> list[Any]:
    if reader.counts_entries:
        return streams(reply, [reader.key]).get(reader.key, [])
    return stream_entries(reply)


def _request(pipe: Any, reader: LaneReader, share: int) -> None:
    """Request a lane's share: limited by count for large entries, else by bytes.

    Frames have similar sizes, and the script would copy them once more. Entries of
    gathered values have between a few bytes and a mebibyte, depending on the
    publisher's round trips, but mostly the size of the previous ones.
    """
    if reader.counts_entries:
        pipe.xread({reader.key: reader.last_id}, count=reader.count_for(share))
        return
    limits = (MAX_COUNT, share, _LARGEST_ENTRY)
    pipe.eval(BOUNDED_READ, 1, reader.key, reader.last_id, *limits)


def _wait(
    client: Bus,
    readers: Sequence[LaneReader],
    others: dict[str, str],
    block_ms: int | None,
) -> tuple[list[tuple[LaneReader, list[Arrival]]], bool]:
    """Return arrivals of lanes, and whether one of the other streams has entries.

    Does not wait if `block_ms` is None.
    """
    by_key = {reader.key: reader for reader in readers}
    after: Any = {reader.key: reader.last_id for reader in readers} | others
    reply: Any = client.xread(after, count=1, block=block_ms)
    found = streams(reply, after)
    arrivals = [
        (by_key[key], by_key[key].take(entries))
        for key, entries in found.items()
        if key in by_key
    ]
    return arrivals, len(arrivals) < len(found)


def read_newest(
    client: Bus, readers: Sequence[LaneReader], *, count: int
) -> list[list[Any]]:
    """Return the last `count` raw entries of each lane, the newest first.

    Takes one round trip. Only the keys of the readers are used.
    """
    pipe: Any = client.pipeline(transaction=False)
    for reader in readers:
        pipe.xrevrange(reader.key, "+", "-", count=count)
    return [stream_entries(entries) for entries in pipe.execute()]


@parses_reply
def read_entry(
    client: Bus, uid: str, lane: LaneDescription, point: int
) -> Entry | None:
    """Return the entry that holds a point; None if there is none.

    Raises
    ------
    BadEntryError
        If it cannot be used.
    """
    raw = _raw_entry_of(client, uid, lane.name, point)
    return None if raw is None else _parsed(lane, raw)


@parses_reply
def read_seal(client: Bus, uid: str, lane: LaneDescription) -> Entry | None:
    """Return a lane's seal, whose `first` is the lane's length; None if there is none.

    Raises
    ------
    BadEntryError
        If it cannot be used.
    """
    found: Any = client.xrange(lane_key(uid, lane.name), SEAL_ID, SEAL_ID)
    reply = stream_entries(found)
    return _parsed(lane, reply[0]) if reply else None


@parses_reply
def find_entry_start(client: Bus, uid: str, lane: str, point: int) -> int:
    """Return the first point of the entry that holds `point`; `point` if none does."""
    raw = _raw_entry_of(client, uid, lane, point)
    return point if raw is None else split_id(bytes(raw[0]))[0]


def _raw_entry_of(client: Bus, uid: str, lane: str, point: int) -> Any | None:
    """Return the raw entry that holds a point; None if none does."""
    found: Any = client.xrevrange(
        lane_key(uid, lane), f"{point}-{_LARGEST}", "-", count=1
    )
    reply = stream_entries(found)
    if not reply:
        return None
    first, count = split_id(bytes(reply[0][0]))
    return reply[0] if first <= point < first + count else None


def _parsed(lane: LaneDescription, raw: Any) -> Entry:
    stream_id, fields = raw
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    return parse_entry(lane, bytes(stream_id), pairs)
