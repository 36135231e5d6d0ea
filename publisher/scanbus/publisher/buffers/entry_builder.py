"""Build entries: the bytes that are sent, and sent again unchanged.

Buffered points become header and payload here, with the checksum against which readers
verify the payload. Pure, and safe to call from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import ThreadPool, find_codec
from scanbus.bus.protocol import (
    SEAL_ID,
    EncodedEntry,
    Variable,
    block_length,
    checksum_of,
    encode_block,
    encode_times,
    entry_id,
    pack_header,
)
from scanbus.publisher.buffers.chunk_buffer import Piece
from scanbus.publisher.buffers.group_buffer import Gap, Run, Taken, gap_ranges
from scanbus.schemas import ChannelDescription, LaneDescription, PointRange

__all__ = [
    "frame_entry",
    "gap_entry",
    "late_entry",
    "seal_entry",
    "values_entry",
]


def values_entry(lane: LaneDescription, taken: Taken, session: bytes) -> EncodedEntry:
    """Return the entry of a group's points."""
    if all(isinstance(run, Gap) for runs in taken.runs for run in runs):
        return gap_entry(taken.first, taken.count, session)
    parts: list[bytes | memoryview] = []
    sizes: list[int] = []
    gaps: dict[str, tuple[PointRange, ...]] = {}
    for channel, runs in zip(lane.channels, taken.runs, strict=True):
        missing = gap_ranges(taken.first, runs)
        if missing:
            gaps[channel.name] = missing
        block = encode_block(channel, _joined(channel, runs), _codec_of(channel))
        sizes.append(block_length(block))
        parts.extend(block)
    ends, times = encode_times(taken.times)
    blocks = parts[0] if len(parts) == 1 else b"".join(parts)
    header = pack_header(
        session=session,
        checksum=checksum_of(blocks),
        codecs=tuple(_codec_of(channel) for channel in lane.channels),
        sizes=tuple(sizes),
        ends=ends,
        times_checksum=checksum_of(times) if times else None,
        gaps=gaps,
    )
    stop = taken.first + taken.count
    payload = _with_times(blocks, times)
    return EncodedEntry(entry_id(taken.first, taken.count), stop, header, payload)


def frame_entry(
    lane: LaneDescription,
    piece: Piece,
    session: bytes,
    threads: ThreadPool | None = None,
) -> EncodedEntry:
    """Return the entry of a detector's frames; compress them unless they are bytes.

    Parameters
    ----------
    threads : ThreadPool, optional
        Threads that may help to compress.

    Raises
    ------
    UnknownCodecError
        If the codec's library is not installed.
    """
    if piece.frames is None:
        return gap_entry(piece.first, piece.count, session)
    name = lane.channels[0].codec
    packed = piece.frames
    if isinstance(packed, bytes):
        block: bytes | memoryview = packed
    else:
        block = find_codec(name).with_threads(threads).encode(packed)
    ends, times = encode_times(piece.times)
    header = pack_header(
        session=session,
        checksum=checksum_of(block),
        codecs=(name,),
        ends=ends,
        times_checksum=checksum_of(times) if times else None,
        is_padded=piece.is_padded,
    )
    identifier, stop = entry_id(piece.first, piece.count), piece.first + piece.count
    return EncodedEntry(identifier, stop, header, _with_times(block, times))


def late_entry(
    channel: ChannelDescription,
    arrival: int,
    *,
    point: int,
    value: npt.NDArray[Any] | Variable | bytes,
    time: float,
    session: bytes,
) -> EncodedEntry:
    """Return the entry of one late point, which came after its place was closed.

    Parameters
    ----------
    arrival : int
        Its index among the late points of its channel, from 0.
    point : int
        Its number in the channel, from 0.
    value : numpy.ndarray, Variable or bytes
        Shape ``(1, *shape)``; bytes if it is compressed already.
    time : float
        When it was taken, in seconds since 1970.
    """
    name = _codec_of(channel)
    if isinstance(value, bytes):
        payload = value
    else:
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value, channel.numpy_dtype)
        payload = b"".join(encode_block(channel, value, name))
    header = pack_header(
        session=session,
        checksum=checksum_of(payload),
        codecs=(name,),
        ends=(time, time),
        point=point,
    )
    return EncodedEntry(entry_id(arrival, 1), arrival + 1, header, payload)


def gap_entry(first: int, count: int, session: bytes) -> EncodedEntry:
    """Return the entry of points that will never come."""
    header = pack_header(session=session, checksum=checksum_of(b""), is_gap=True)
    return EncodedEntry(entry_id(first, count), first + count, header)


def seal_entry(length: int, session: bytes) -> EncodedEntry:
    """Return the seal of a lane of `length` points."""
    header = pack_header(session=session, checksum=checksum_of(b""), length=length)
    return EncodedEntry(SEAL_ID, length, header)


def _with_times(blocks: bytes | memoryview, times: bytes) -> bytes | memoryview:
    # Mostly there is no block of times, and a single array is sent without a copy.
    return b"".join((blocks, times)) if times else blocks


def _codec_of(channel: ChannelDescription) -> str:
    is_packed = channel.is_reference or not channel.is_variable
    return channel.codec if is_packed else "none"


def _joined(
    channel: ChannelDescription, runs: Sequence[Run]
) -> npt.NDArray[Any] | Variable:
    if channel.is_variable:
        parts = [_variable(channel, run) for run in runs]
        if len(parts) == 1:
            return parts[0]
        return Variable(
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.values for part in parts]),
        )
    arrays = [_array(channel, run) for run in runs]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _variable(channel: ChannelDescription, run: Run) -> Variable:
    if isinstance(run, Variable):
        return run
    return Variable(np.zeros(len(run), "<u4"), np.empty(0, channel.numpy_dtype))


def _array(channel: ChannelDescription, run: Run) -> npt.NDArray[Any]:
    if isinstance(run, np.ndarray):
        return run
    if isinstance(run, Gap):
        shape = (len(run), *channel.shape)
        return np.full(shape, channel.missing_value, channel.numpy_dtype)
    return np.array(run, channel.numpy_dtype)
