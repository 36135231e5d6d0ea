"""Entries of a lane: ids that encode points, a msgpack header, a raw payload.

Pure: bytes in, validated values out. Bytes from the bus are untrusted until
:func:`parse_entry` has checked them: sizes are checked before memory of that size is
allocated. The layout of header and payload is specified in ``docs/protocol.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack
import numpy as np
import xxhash

from scanbus.bus.codecs import CODEC_NAMES
from scanbus.bus.protocol.times import (
    TIME_BYTES,
    Ends,
    Times,
    evenly_spaced,
    time_array,
)
from scanbus.schemas import MAX_ENTRY_BYTES, MAX_POINTS, LaneDescription, PointRange
from scanbus.schemas.errors import BadEntryError
from scanbus.schemas.frame_references import REFERENCE_CODEC

__all__ = [
    "HEADER_FIELD",
    "MAX_HEADER_BYTES",
    "PAYLOAD_FIELD",
    "SEAL_ID",
    "Entry",
    "checksum_of",
    "entry_id",
    "pack_header",
    "parse_entry",
    "session_of",
    "split_id",
]

SEAL_ID: Final = b"18446744073709551615-18446744073709551615"
"""The largest id that a Redis stream accepts: nothing can follow it."""
HEADER_FIELD: Final = b"h"
PAYLOAD_FIELD: Final = b"p"
MAX_HEADER_BYTES: Final = 1 << 20
_ID: Final = re.compile(rb"(\d{1,20})-(\d{1,20})\Z")


class _DamagedError(ValueError):
    """The entry was damaged in transit: it differs from what was sent."""


def entry_id(first: int, count: int) -> bytes:
    """Return the id of the entry that holds points ``[first, first + count)``.

    Examples
    --------
    >>> entry_id(40, 10)
    b'40-10'
    """
    return b"%d-%d" % (first, count)


def split_id(stream_id: bytes) -> tuple[int, int]:
    """Return the two numbers of a stream id: for entries with points, first and count.

    Ids of one stream are ordered by them.

    Raises
    ------
    ValueError
        If these are not two integers.

    Examples
    --------
    >>> split_id(b"40-10")
    (40, 10)
    """
    first, _, second = stream_id.partition(b"-")
    return int(first), int(second)


def checksum_of(*parts: bytes | memoryview) -> int:
    """Return the 64-bit XXH3 checksum of a payload that is given in parts.

    Examples
    --------
    >>> checksum_of(b"ab", b"c") == checksum_of(b"abc")
    True
    """
    if len(parts) == 1:
        return xxhash.xxh3_64_intdigest(parts[0])
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A validated entry of a lane.

    Attributes
    ----------
    id : bytes
        Its id in the stream.
    first, count : int
        The points ``[first, first + count)``; for the seal, the lane's length and 0.
    session : bytes
        Identifies the publisher's process.
    checksum : int
        Checksum of the blocks, computed by the publisher; see :func:`checksum_of`.
    payload : bytes or memoryview
        Concatenated blocks of the lane's channels; empty for a gap.
    codecs : tuple of str
        Codec of each block.
    sizes : tuple of int
        Size of each block in bytes.
    ends : tuple of float or None
        Times of the first and the last point, if they are evenly spaced.
    time_block : bytes or memoryview
        Time of each point, float64, if they are not evenly spaced.
    gaps : mapping
        Channel name to the points of this entry that the channel will never have.
    is_gap : bool
        Whether no channel will ever have any point of this entry.
    is_durable : bool
        Whether this is a placeholder for points that Redis lost but that are in the
        writer's files.
    is_padded : bool
        Whether the payload is a whole chunk, of which only the first `count` points
        count.
    is_seal : bool
        Whether this is the seal: the lane ends with `first` points.
    point : int or None
        In a lane for late points: the point of the channel.
    """

    id: bytes
    first: int
    count: int
    session: bytes
    checksum: int
    payload: bytes | memoryview = b""
    codecs: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    ends: Ends | None = None
    time_block: bytes | memoryview = b""
    gaps: Mapping[str, tuple[PointRange, ...]] = field(default_factory=dict)
    is_gap: bool = False
    is_durable: bool = False
    is_padded: bool = False
    is_seal: bool = False
    point: int | None = None

    @property
    def stop(self) -> int:
        """The point after the last one."""
        return self.first + self.count

    @property
    def times(self) -> Times:
        """Time of each point, seconds since 1970, read-only; NaN if not known."""
        if len(self.time_block):
            return time_array(self.time_block)
        if self.ends is None:
            # A gap may have any number of points: this takes the memory of one.
            return np.broadcast_to(np.float64(np.nan), self.count)
        return evenly_spaced(*self.ends, self.count)

    def block(self, index: int) -> memoryview:
        """Return the block of the channel at place `index` in the lane, as a view."""
        start = sum(self.sizes[:index])
        return memoryview(self.payload)[start : start + self.sizes[index]]


def pack_header(
    *,
    session: bytes,
    checksum: int,
    codecs: tuple[str, ...] = (),
    sizes: tuple[int, ...] = (),
    ends: Ends | None = None,
    times_checksum: int | None = None,
    gaps: Mapping[str, tuple[PointRange, ...]] | None = None,
    is_gap: bool = False,
    is_durable: bool = False,
    is_padded: bool = False,
    length: int | None = None,
    point: int | None = None,
) -> bytes:
    """Return an entry's header as msgpack, without fields that are empty or False.

    Parameters
    ----------
    times_checksum : int, optional
        Checksum of the block of times, if the payload ends with one.
    length : int
        For the seal: the lane's number of points.

    Other parameters are the attributes of :class:`Entry`.
    """
    header: dict[str, Any] = {"session": session, "checksum": checksum}
    if codecs:
        header["codecs"] = codecs if len(set(codecs)) > 1 else codecs[0]
    if len(sizes) > 1:
        header["sizes"] = sizes
    if ends is not None:
        header["times"] = ends
    if times_checksum is not None:
        header["times_checksum"] = times_checksum
    if gaps:
        header["gaps"] = gaps
    for name, flag in (("gap", is_gap), ("durable", is_durable), ("padded", is_padded)):
        if flag:
            header[name] = True
    if length is not None:
        header["length"] = length
    if point is not None:
        header["point"] = point
    packed: Any = msgpack.packb(header)
    return bytes(packed)


def parse_entry(
    lane: LaneDescription, stream_id: bytes, fields: Mapping[bytes, bytes]
) -> Entry:
    """Return a raw entry from Redis, validated against its lane.

    Raises
    ------
    BadEntryError
        If id, header, sizes, codec or checksum are invalid.
    """
    try:
        header = _unpack_header(fields.get(HEADER_FIELD))
        if stream_id == SEAL_ID:
            return _parse_seal(stream_id, header)
        payload = fields.get(PAYLOAD_FIELD, b"")
        entry = _parse_points(lane, stream_id, header, payload)
        _check_payload(lane, entry)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        name = stream_id.decode("ascii", "replace")
        is_damaged = isinstance(error, _DamagedError)
        raise BadEntryError(lane.name, name, str(error), is_damaged) from error
    return entry


def session_of(header: bytes) -> bytes:
    """Return the session in a header; empty if there is none.

    Examples
    --------
    >>> session_of(pack_header(session=b"12345678", checksum=0))
    b'12345678'
    >>> session_of(b"nonsense")
    b''
    """
    try:
        session = _unpack_header(header).get("session")
    except (ValueError, TypeError):
        return b""
    return session if isinstance(session, bytes) else b""


def _unpack_header(packed: bytes | None) -> dict[str, Any]:
    if packed is None:
        raise ValueError("no header")
    if len(packed) > MAX_HEADER_BYTES:
        raise ValueError(
            f"header of {len(packed)} bytes; the limit is {MAX_HEADER_BYTES}"
        )
    try:
        header = msgpack.unpackb(packed, raw=False, strict_map_key=True)
    except (msgpack.UnpackException, RecursionError) as error:
        raise ValueError(f"header is not msgpack: {type(error).__name__}") from error
    if not isinstance(header, dict):
        raise ValueError("header is not a map")
    return header


def _parse_id(stream_id: bytes) -> tuple[int, int]:
    match = _ID.match(stream_id)
    if match is None:
        raise ValueError("the id is not FIRST-COUNT")
    first, count = int(match[1]), int(match[2])
    if count == 0 or first + count > MAX_POINTS:
        raise ValueError(f"points [{first}, {first + count}) are out of range")
    return first, count


def _session_and_checksum(header: dict[str, Any]) -> tuple[bytes, int]:
    session, checksum = header.get("session"), header.get("checksum")
    if not isinstance(session, bytes) or not 0 < len(session) <= 64:
        raise ValueError("header has no valid session")
    if type(checksum) is not int or not 0 <= checksum < 2**64:
        raise ValueError("header has no valid checksum")
    return session, checksum


def _parse_seal(stream_id: bytes, header: dict[str, Any]) -> Entry:
    session, checksum = _session_and_checksum(header)
    length = header.get("length")
    if type(length) is not int or not 0 <= length <= MAX_POINTS:
        raise ValueError("the seal has no valid length")
    return Entry(stream_id, length, 0, session, checksum, is_seal=True)


def _parse_points(
    lane: LaneDescription,
    stream_id: bytes,
    header: dict[str, Any],
    payload: bytes,
) -> Entry:
    first, count = _parse_id(stream_id)
    session, checksum = _session_and_checksum(header)
    is_gap, is_durable = header.get("gap") is True, header.get("durable") is True
    empty = is_gap or is_durable
    blocks, time_block = _split_times(header, count, payload)
    return Entry(
        id=stream_id,
        first=first,
        count=count,
        session=session,
        checksum=checksum,
        payload=blocks,
        codecs=() if empty else _codecs(lane, header),
        sizes=() if empty else _sizes(lane, header, blocks),
        ends=None if empty else _ends(header),
        time_block=time_block,
        gaps=_gaps(lane, header, first, first + count),
        is_gap=is_gap,
        is_durable=is_durable,
        is_padded=header.get("padded") is True,
        point=_late_point(header, count) if lane.is_late and not empty else None,
    )


def _late_point(header: dict[str, Any], count: int) -> int:
    point = header.get("point")
    if type(point) is not int or not 0 <= point < MAX_POINTS:
        raise ValueError("the header of a late entry does not name its point")
    if count != 1:
        raise ValueError(f"a late entry has {count} points instead of 1")
    return point


def _codecs(lane: LaneDescription, header: dict[str, Any]) -> tuple[str, ...]:
    given = header.get("codecs", "none")
    n_channels = len(lane.channels)
    codecs = (given,) * n_channels if isinstance(given, str) else tuple(given)
    if len(codecs) != n_channels:
        raise ValueError(f"{len(codecs)} codecs for {n_channels} channels")
    for name in codecs:
        if name not in CODEC_NAMES and name != REFERENCE_CODEC:
            raise ValueError(f"unknown codec {str(name)[:40]!r}")
    return codecs


def _sizes(
    lane: LaneDescription, header: dict[str, Any], payload: bytes | memoryview
) -> tuple[int, ...]:
    sizes = tuple(header.get("sizes", (len(payload),)))
    if len(sizes) != len(lane.channels):
        raise ValueError(f"{len(sizes)} blocks for {len(lane.channels)} channels")
    if any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError("the size of a block is not a number of bytes")
    if sum(sizes) != len(payload):
        raise ValueError(f"blocks of {sum(sizes)} bytes, payload of {len(payload)}")
    return sizes


def _split_times(
    header: dict[str, Any], count: int, payload: bytes
) -> tuple[bytes | memoryview, bytes | memoryview]:
    """Return the blocks of the channels, and the block of times behind them."""
    checksum = header.get("times_checksum")
    if checksum is None:
        return payload, b""
    if type(checksum) is not int or "times" in header:
        raise ValueError("header has no valid checksum of times, or times twice")
    size = len(payload) - count * TIME_BYTES
    if size < 0:
        raise ValueError(f"{len(payload)} bytes are too few for {count} times")
    view = memoryview(payload)
    if checksum_of(view[size:]) != checksum:
        raise _DamagedError("the checksum of the times does not match: damaged")
    return view[:size], view[size:]


def _ends(header: dict[str, Any]) -> Ends | None:
    times = header.get("times")
    if times is None:
        return None
    if not isinstance(times, list | tuple) or len(times) != 2:
        raise ValueError("times are not a pair")
    if any(type(time) not in {int, float} for time in times):
        raise ValueError("a time is not a number of seconds since 1970")
    return float(times[0]), float(times[1])


def _gaps(
    lane: LaneDescription, header: dict[str, Any], first: int, stop: int
) -> dict[str, tuple[PointRange, ...]]:
    given = header.get("gaps")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError("gaps are not a map")
    known = {channel.name for channel in lane.channels}
    gaps = {}
    for name, found in given.items():
        if name not in known:
            raise ValueError("gaps name a channel that the lane does not have")
        edges = [edge for start, end in found for edge in (start, end)]
        if any(type(edge) is not int for edge in edges) or sorted(edges) != edges:
            raise ValueError("gaps are not ascending ranges")
        if edges and not first <= edges[0] <= edges[-1] <= stop:
            raise ValueError("gaps are outside the entry")
        # Empty ranges are dropped: a hostile header may hold a hundred thousand.
        gaps[name] = tuple((start, end) for start, end in found if start < end)
    return gaps


def _check_payload(lane: LaneDescription, entry: Entry) -> None:
    if entry.is_durable:
        if entry.payload:
            raise ValueError("an entry for durable points has a payload")
        return
    last_segment = (entry.stop - 1) // lane.points_per_segment
    if entry.first // lane.points_per_segment != last_segment:
        raise ValueError("crosses the boundary of a segment")
    if entry.is_gap:
        if entry.payload:
            raise ValueError("a gap has a payload")
        return
    _check_blocks(lane, entry)
    if checksum_of(entry.payload) != entry.checksum:
        raise _DamagedError("the checksum does not match: damaged in transit")


def _check_blocks(lane: LaneDescription, entry: Entry) -> None:
    if entry.is_padded:
        _check_padded(lane, entry)
    points = lane.points_per_chunk if entry.is_padded else entry.count
    # Blocks of variable channels are not packed, so they cannot grow.
    fixed_bytes = sum(
        channel.point_bytes for channel in lane.channels if not channel.is_variable
    )
    if points * fixed_bytes > MAX_ENTRY_BYTES:
        raise ValueError(f"unpacks to more than {MAX_ENTRY_BYTES} bytes")
    for channel, codec, size in zip(
        lane.channels, entry.codecs, entry.sizes, strict=True
    ):
        if REFERENCE_CODEC in {codec, channel.codec}:
            if codec != channel.codec:
                raise ValueError(
                    f"{channel.name}: a block of codec {codec}, declared "
                    f"{channel.codec}"
                )
        elif channel.is_variable:
            if codec != "none":
                raise ValueError(f"{channel.name}: variable points cannot be packed")
            if size < points * 4:
                raise ValueError(
                    f"{channel.name}: {size} bytes are too few for {points} lengths"
                )
        elif codec == "none" and size != points * channel.point_bytes:
            raise ValueError(
                f"{channel.name}: {size} bytes instead of "
                f"{points * channel.point_bytes} for {points} points"
            )


def _check_padded(lane: LaneDescription, entry: Entry) -> None:
    if any(channel.is_variable for channel in lane.channels):
        raise ValueError("a padded chunk cannot have variable points")
    if entry.count > lane.points_per_chunk or entry.first % lane.points_per_chunk:
        raise ValueError("a padded chunk does not begin where a chunk begins")
