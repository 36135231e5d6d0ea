"""Records of a spool's files: a head that can be found again, then a body.

The head has a marker, its own checksum, and the checksum of the body. So a damaged body
costs one record, and behind damaged bytes the next record is found by its marker.
Pure, except for reading.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scanbus.bus.protocol import checksum_of

__all__ = [
    "HEAD_BYTES",
    "Head",
    "Reader",
    "Record",
    "Stretch",
    "owner_of",
    "packed_head",
    "scan_records",
]

# As PNG's: not ASCII, and changed by whatever treats the file as text.
_MARKER = b"\x89scan\r\n\x1a"
# Marker, owner, sequence, stop, bytes and checksum of the body; then their checksum.
_FIELDS = struct.Struct("<8sQQQIQ")
_CHECK = struct.Struct("<Q")
HEAD_BYTES = _FIELDS.size + _CHECK.size
_WINDOW_BYTES = 1 << 16
_PAGE_BYTES = 1 << 12

Reader = Callable[[int, int], bytes]
"""Returns bytes of a file: (offset, number); fewer at its end, or raises OSError."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a record.

    Attributes
    ----------
    owner : int
        Names the lane of a publisher, or its events; see :func:`owner_of`.
    sequence : int
        Number of the record among those of its owner, from 0.
    stop : int
        The point after its last one; of an event, the number of events.
    nbytes, checksum : int
        Length of the body, and its XXH3, 64 bits.
    """

    owner: int
    sequence: int
    stop: int
    nbytes: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record, at its place in a file; `offset` is that of its body."""

    head: Head
    offset: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of a file that are no whole record.

    Attributes
    ----------
    start, stop : int
        Their place.
    head : Head or None
        The head that they begin with, if it is whole: the body is damaged or short.
    is_torn : bool
        Whether they may be what an interrupted write leaves: at the end of the file, a
        record that is too short, or nothing but zeros.
    """

    start: int
    stop: int
    head: Head | None
    is_torn: bool


def owner_of(session: bytes, name: str) -> int:
    """Return what the records of one lane of one publisher have in common."""
    return checksum_of(session, name.encode())


def packed_head(
    owner: int, sequence: int, stop: int, *body: bytes | memoryview
) -> tuple[bytes, Head]:
    """Return the bytes of a head, and the head, for a body given in parts."""
    nbytes = sum(map(len, body))
    head = Head(owner, sequence, stop, nbytes, checksum_of(*body))
    fields = _FIELDS.pack(_MARKER, owner, sequence, stop, nbytes, head.checksum)
    return fields + _CHECK.pack(checksum_of(fields)), head


def scan_records(read: Reader, size: int) -> Iterator[Record | Stretch]:
    """Yield all whole records of a file of `size` bytes, and what lies between them.

    Bytes that cannot be read count as damaged.
    """
    offset = 0
    while offset < size:
        head = _head_at(read, offset)
        body = b"" if head is None else _read(read, offset + HEAD_BYTES, head.nbytes)
        if head is not None and _is_whole(head, body):
            yield Record(head, offset + HEAD_BYTES, body)
            offset += HEAD_BYTES + head.nbytes
            continue
        # Not by the length of the record: the file may have lost bytes in its middle.
        found = _next_head(read, offset + 1, size)
        yield Stretch(offset, found, head, _is_torn(read, offset, found, size, head))
        offset = found


def _is_whole(head: Head, body: bytes) -> bool:
    return len(body) == head.nbytes and checksum_of(body) == head.checksum


def _is_torn(read: Reader, start: int, stop: int, size: int, head: Head | None) -> bool:
    if stop < size:
        return False
    if head is not None:
        return start + HEAD_BYTES + head.nbytes > size
    return size - start < HEAD_BYTES or _is_zero(read, start, size)


def _is_zero(read: Reader, start: int, stop: int) -> bool:
    return not any(
        any(_read(read, each, min(_WINDOW_BYTES, stop - each)) or b"\x01")
        for each in range(start, stop, _WINDOW_BYTES)
    )


def _head_at(read: Reader, offset: int) -> Head | None:
    data = _read(read, offset, HEAD_BYTES)
    if len(data) < HEAD_BYTES or not data.startswith(_MARKER):
        return None
    fields = data[: _FIELDS.size]
    if _CHECK.unpack_from(data, _FIELDS.size)[0] != checksum_of(fields):
        return None
    return Head(*_FIELDS.unpack(fields)[1:])


def _next_head(read: Reader, offset: int, size: int) -> int:
    """Return where the next whole head begins; `size` if there is none."""
    while offset < size:
        window = _read(read, offset, _WINDOW_BYTES)
        at = window.find(_MARKER)
        while at >= 0:
            if _head_at(read, offset + at) is not None:
                return offset + at
            at = window.find(_MARKER, at + 1)
        # Windows overlap, as a marker may lie across the end of one.
        if len(window) > len(_MARKER):
            offset += len(window) - len(_MARKER) + 1
        else:
            offset += 1 if window else _PAGE_BYTES - offset % _PAGE_BYTES
    return size


def _read(read: Reader, offset: int, nbytes: int) -> bytes:
    """Read as many bytes as can be read, whole pages, before an error of the disk."""
    try:
        return read(offset, nbytes)
    except OSError:
        pass
    parts: list[bytes] = []
    end = offset + nbytes
    while offset < end:
        stop = min(end, offset - offset % _PAGE_BYTES + _PAGE_BYTES)
        try:
            part = read(offset, stop - offset)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
