"""What a dead publisher left of a scan on the bus, for whoever goes on with it."""

from __future__ import annotations

from typing import Any

import msgpack

from scanbus.bus.protocol.entries import (
    HEADER_FIELD,
    PAYLOAD_FIELD,
    SEAL_ID,
    split_id,
)
from scanbus.bus.protocol.keys import lane_key
from scanbus.bus.protocol.retransmit import EncodedEntry
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.replies import parses_reply, stream_entries
from scanbus.bus.store.scans import Announced, announcements

__all__ = ["find_announcement", "stored_entries"]

# Of one reply; a single entry may be larger.
_REPLY_BYTES = 16 * 2**20
_MOST_ENTRIES = 256


def find_announcement(client: Bus, uid: str) -> Announced | None:
    """Return the first announcement of a scan; None if there is none."""
    for each in announcements(client):
        if each.document is not None and each.document.scan.uid == uid:
            return each
    return None


@parses_reply
def stored_entries(client: Bus, uid: str, lane: str) -> list[EncodedEntry]:
    """Return the entries that a lane has, as they were sent, with their payloads.

    They are not durable, or were not yet trimmed: together at most about the quota.
    """
    found: list[EncodedEntry] = []
    start, count = "-", 1
    while True:
        reply = client.xrange(lane_key(uid, lane), start, "+", count=count)
        batch = [_entry(*each) for each in stream_entries(reply)]
        found += batch
        if len(batch) < count:
            return found
        start = "(" + batch[-1].id.decode()
        largest = max(each.nbytes for each in batch)
        count = min(_MOST_ENTRIES, max(1, _REPLY_BYTES // largest))


def _entry(entry_id: Any, fields: Any) -> EncodedEntry:
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    header = bytes(pairs.get(HEADER_FIELD, b""))
    payload = bytes(pairs.get(PAYLOAD_FIELD, b""))
    stop = sum(split_id(bytes(entry_id)))
    if entry_id == SEAL_ID:
        unpacked: Any = msgpack.unpackb(header)
        stop = int(unpacked["length"])
    return EncodedEntry(bytes(entry_id), stop, header, payload)
