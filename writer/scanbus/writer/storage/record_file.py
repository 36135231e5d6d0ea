"""Files of records: each has its size and checksum, so a torn end is recognised.

::

    magic, size of the head, size of the body, XXH3 of both      24 bytes, little endian
    head                                                         msgpack, a map
    body                                                         bytes

A finished file ends with the offset of its last record and a magic. Pure byte layout:
:mod:`scanbus.writer.storage.shared_segment` says what the records mean.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgpack
import xxhash

from scanbus.schemas.errors import VerificationError

__all__ = [
    "Record",
    "end_mark",
    "is_intact",
    "last_record",
    "pack_record",
    "parse_record",
    "read_record",
    "records",
]

_HEADER: Final = struct.Struct("<4sIQQ")
_MAGIC: Final = b"SBR1"
_END: Final = struct.Struct("<Q8s")
_END_MAGIC: Final = b"SBR1END\n"


class Record(NamedTuple):
    """Where a record stands, and its head.

    Attributes
    ----------
    offset, body, stop : int
        Where it begins, where its body begins, and where it ends.
    head : dict
        The map at its beginning.
    checksum : int
        XXH3 of head and body, as it stands in the file.
    """

    offset: int
    body: int
    stop: int
    head: dict[str, Any]
    checksum: int


def pack_record(head: Mapping[str, Any], *parts: bytes | memoryview) -> list[Any]:
    """Return a record in parts, to be written one behind the other."""
    packed: bytes = msgpack.packb(head)
    digest = xxhash.xxh3_64(packed)
    for part in parts:
        digest.update(part)
    n_bytes = sum(len(part) for part in parts)
    front = _HEADER.pack(_MAGIC, len(packed), n_bytes, digest.intdigest())
    return [front + packed, *parts]


def end_mark(offset: int) -> bytes:
    """Return the end of a finished file whose last record begins at `offset`."""
    return _END.pack(offset, _END_MAGIC)


def read_record(descriptor: int, offset: int, path: str) -> Record:
    """Return the record at an offset; its body is not read.

    Raises
    ------
    VerificationError
        If none begins there, or its head cannot be read.
    OSError
        If the file cannot be read.
    """
    front = os.pread(descriptor, _HEADER.size, offset)
    if len(front) < _HEADER.size or not front.startswith(_MAGIC):
        raise VerificationError(path, f"no record at byte {offset}")
    _, n_head, n_body, checksum = _HEADER.unpack(front)
    body = offset + _HEADER.size + n_head
    if body + n_body > os.fstat(descriptor).st_size:
        raise VerificationError(path, f"the record at byte {offset} is cut off")
    try:
        head = msgpack.unpackb(os.pread(descriptor, n_head, offset + _HEADER.size))
    except (ValueError, msgpack.UnpackException) as error:
        raise VerificationError(path, f"no record at byte {offset}") from error
    if not isinstance(head, dict):
        raise VerificationError(path, f"no record at byte {offset}")
    return Record(offset, body, body + n_body, head, checksum)


def parse_record(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return the head and the body of a record that was read whole.

    Raises
    ------
    ValueError, TypeError, LookupError
        If it is none.
    """
    if len(content) < _HEADER.size:
        raise ValueError("no record")
    magic, n_head, n_body, _ = _HEADER.unpack_from(content)
    body = _HEADER.size + n_head
    if magic != _MAGIC or body + n_body != len(content):
        raise ValueError("no record")
    head = msgpack.unpackb(content[_HEADER.size : body])
    return head, memoryview(content)[body:]


def is_intact(descriptor: int, record: Record) -> bool:
    """Whether head and body have the checksum that stands in the file."""
    start = record.offset + _HEADER.size
    content = os.pread(descriptor, record.stop - start, start)
    return xxhash.xxh3_64_intdigest(content) == record.checksum


def records(descriptor: int, path: str) -> Iterator[Record]:
    """Yield the records of a file, up to the first one that cannot be read."""
    offset = 0
    while True:
        try:
            record = read_record(descriptor, offset, path)
        except VerificationError:
            return
        yield record
        offset = record.stop


def last_record(descriptor: int, path: str) -> Record:
    """Return the last record of a finished file.

    Raises
    ------
    VerificationError
        If the file is not finished, or that record is damaged.
    OSError
        If the file cannot be read.
    """
    size = os.fstat(descriptor).st_size
    found = os.pread(descriptor, _END.size, max(0, size - _END.size))
    if len(found) < _END.size or not found.endswith(_END_MAGIC):
        raise VerificationError(path, "it is not finished")
    record = read_record(descriptor, _END.unpack(found)[0], path)
    if record.stop + _END.size != size or not is_intact(descriptor, record):
        raise VerificationError(path, "its last record is damaged")
    return record
