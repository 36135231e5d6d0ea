"""Decode entries into values of points, with missing values for missing points.

Pure: entries in, numpy arrays or lists out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import Entry, Variable, decode_block
from scanbus.schemas import (
    MAX_ENTRY_BYTES,
    ChannelDescription,
    LaneDescription,
    PointRange,
)
from scanbus.schemas.errors import PayloadError

__all__ = ["Values", "entry_values", "joined", "missing_in", "missing_values"]

Values = Any
"""An array ``(n, *shape)`` for fixed shapes; else a list of strings or of arrays.

Not a union: the reader of a channel knows the type, which a type checker cannot.
"""

# Gaps take no bytes on the bus, so one small entry may claim any number of points.
MAX_MISSING_VARIABLE = 10_000_000
# One pool for the whole process, with few threads: more would take processors from the
# program's own work. They start with the first large frame.
_THREADS = ThreadPool(min(4, os.cpu_count() or 1), "scanbus-decoder")


def entry_values(lane: LaneDescription, index: int, entry: Entry) -> Values:
    """Return one channel's values of an entry; gaps hold the channel's missing value.

    Parameters
    ----------
    lane : LaneDescription
        The lane of the entry.
    index : int
        Place of the channel in the lane.

    Raises
    ------
    PayloadError
        If the bytes do not fit the channel's description.
    """
    channel = lane.channels[index]
    if entry.is_gap or entry.is_durable:
        return missing_values(channel, entry.count)
    count = lane.points_per_chunk if entry.is_padded else entry.count
    block, codec_name = entry.block(index), entry.codecs[index]
    decoded = decode_block(channel, block, count, codec_name, _THREADS)
    values = _split(channel, decoded)[: entry.count]
    gaps = entry.gaps.get(channel.name, ())
    return _with_gaps(channel, values, entry.first, gaps) if gaps else values


def _split(channel: ChannelDescription, decoded: npt.NDArray[Any] | Variable) -> Values:
    if not isinstance(decoded, Variable):
        return decoded
    return decoded.texts() if channel.is_string else decoded.split()


def _with_gaps(
    channel: ChannelDescription, values: Values, first: int, gaps: Iterable[PointRange]
) -> Values:
    # Decoded arrays may be read-only views of the payload.
    values = values.copy()
    for start, stop in gaps:
        place = slice(start - first, stop - first)
        values[place] = missing_values(channel, stop - start)
    return values


def missing_values(channel: ChannelDescription, count: int) -> Values:
    """Return the values of `count` missing points.

    For fixed shapes a read-only array of the channel's ``missing_value`` that takes the
    memory of one value; else a list of empty strings or empty arrays.

    Raises
    ------
    PayloadError
        If more than `MAX_MISSING_VARIABLE` points of a variable channel are missing.
    """
    if not channel.is_variable:
        value = _as_dtype(channel.missing_value, channel.numpy_dtype)
        return np.broadcast_to(value, (count, *channel.shape))
    if count > MAX_MISSING_VARIABLE:
        raise PayloadError(
            f"{channel.name}: {count} consecutive points are missing, more than "
            f"{MAX_MISSING_VARIABLE}"
        )
    if channel.is_string:
        return [""] * count
    return [np.empty(0, channel.numpy_dtype)] * count


def _as_dtype(value: object, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    # A fill value that does not fit the dtype wraps, as it does in the file.
    with np.errstate(invalid="ignore"):
        return np.asarray(value).astype(dtype)


def missing_in(
    entry: Entry, channel: str, start: int, stop: int
) -> tuple[PointRange, ...]:
    """Return the points of ``[start, stop)`` that an entry lacks for a channel."""
    if entry.is_gap or entry.is_durable:
        return ((start, stop),)
    clipped = (
        (max(start, first), min(stop, end))
        for first, end in entry.gaps.get(channel, ())
    )
    return tuple((first, end) for first, end in clipped if first < end)


def joined(channel: ChannelDescription, parts: Sequence[Values]) -> Values:
    """Return consecutive parts concatenated, as a writable copy.

    Raises
    ------
    PayloadError
        If a part of missing points alone is larger than an entry may be.
    """
    if channel.is_variable:
        return [value for part in parts for value in part]
    for part in parts:
        if _is_broadcast(part) and part.nbytes > MAX_ENTRY_BYTES:
            raise PayloadError(
                f"{channel.name}: {len(part)} consecutive points are missing; read "
                "fewer points at once"
            )
    if not parts:
        return np.empty((0, *channel.shape), channel.numpy_dtype)
    return np.concatenate(parts)


def _is_broadcast(part: Any) -> bool:
    return isinstance(part, np.ndarray) and len(part) > 1 and part.strides[0] == 0
