"""Entries as records of a file: length, checksum, then msgpack.

A record that was cut by a crash does not match its length or its checksum, so a reader
knows where the valid records end. Pure, except for reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgpack

from scanbus.bus.protocol import EncodedEntry, checksum_of

__all__ = ["Place", "read_records", "record_parts", "unpack_payload"]

_HEAD = struct.Struct("<IQ")
# The longest form of a msgpack bin: a type byte and 32 bits of length, big-endian.
_BIN32 = struct.Struct(">BI")
_BIN32_TYPE = 0xC6


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a record in its file.

    Attributes
    ----------
    offset, nbytes : int
        Position and length of its body, in bytes.
    checksum : int
        XXH3, 64 bits, of its body.
    """

    offset: int
    nbytes: int
    checksum: int


def record_parts(
    entry: EncodedEntry, offset: int
) -> tuple[list[bytes | memoryview], Place]:
    """Return the bytes of an entry's record, and its position if written at `offset`.

    The payload is not copied.
    """
    packer: Any = msgpack.Packer(autoreset=False)
    packer.pack_array_header(4)
    for value in (entry.id, entry.stop, entry.header):
        packer.pack(value)
    prefix = packer.bytes() + _BIN32.pack(_BIN32_TYPE, len(entry.payload))
    nbytes = len(prefix) + len(entry.payload)
    checksum = checksum_of(prefix, entry.payload)
    place = Place(offset + _HEAD.size, nbytes, checksum)
    return [_HEAD.pack(nbytes, checksum), prefix, entry.payload], place


def read_records(file: BinaryIO) -> Iterator[tuple[EncodedEntry, Place]]:
    """Yield the entries of a file, without payloads, up to the first bad record."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        nbytes, checksum = _HEAD.unpack(head)
        place = Place(file.tell(), nbytes, checksum)
        entry = _unpacked(file.read(nbytes), place)
        if entry is None:
            return
        yield entry.without_payload(), place


def unpack_payload(body: bytes, place: Place) -> bytes | memoryview | None:
    """Return the payload of a record; None if its checksum or length is wrong."""
    entry = _unpacked(body, place)
    return None if entry is None else entry.payload


def _unpacked(body: bytes, place: Place) -> EncodedEntry | None:
    if len(body) != place.nbytes or checksum_of(body) != place.checksum:
        return None
    unpacked: Any = msgpack.unpackb(body)
    identifier, stop, header, payload = unpacked
    return EncodedEntry(identifier, stop, header, payload)
