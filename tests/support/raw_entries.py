"""Entries, encoded and in the raw form of Redis: an id and a flat list of fields."""

from typing import Any

from scanbus.bus.protocol import (
    SEAL_ID,
    EncodedEntry,
    checksum_of,
    entry_id,
    pack_header,
)

SESSION = b"a session"


def header_of(payload: bytes = b"", **more: Any) -> bytes:
    more.setdefault("checksum", checksum_of(payload))
    return pack_header(session=SESSION, **more)


def frozen(first: int, count: int, payload: bytes | None = None) -> EncodedEntry:
    """Return an encoded entry; by default with one byte per point."""
    payload = bytes(count) if payload is None else payload
    return EncodedEntry(
        entry_id(first, count), first + count, header_of(payload), payload
    )


def frozen_seal(length: int) -> EncodedEntry:
    return EncodedEntry(SEAL_ID, length, header_of(length=length))


def raw(entry: EncodedEntry) -> tuple[bytes, list[bytes]]:
    fields = [b"h", entry.header]
    if len(entry.payload):
        fields += [b"p", bytes(entry.payload)]
    return entry.id, fields


def points(first: int, count: int) -> tuple[bytes, list[bytes]]:
    return raw(frozen(first, count))


def gap(first: int, count: int) -> tuple[bytes, list[bytes]]:
    return entry_id(first, count), [b"h", header_of(is_gap=True)]


def seal(length: int) -> tuple[bytes, list[bytes]]:
    return raw(frozen_seal(length))
