"""From the bytes of entries to the values of points, and what stands for missing ones.

Pure: entries in, numpy out.
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
"""An array ``(n, *shape)`` for fixed shapes; else a list of texts or of arrays.

Not a union: whoever reads a channel knows which it is, and a checker cannot.
"""

# Points without any bytes on the bus: one entry may claim any number of them.
MAX_MISSING_VARIABLE = 10_000_000
# Of the whole process, and there from the first large frame on: more would only take
# processors from the program's own work.
_THREADS = ThreadPool(min(4, os.cpu_count() or 1), "scanbus-decoder")


def entry_values(lane: LaneDescription, index: int, entry: Entry) -> Values:
    """Return one channel's values of an entry; gaps hold the channel's missing value.

    Parameters
    ----------
    lane : LaneDescription
        Of the entry.
    index : int
        Place of the channel in the lane.

    Raises
    ------
    PayloadError
        If the bytes are not what the channel declares.
    """
    channel = lane.channels[index]
    if entry.is_gap or entry.is_durable:
        return missing_values(channel, entry.count)
    count = lane.points_per_chunk if entry.is_padded else entry.count
    block, packer = entry.block(index), entry.codecs[index]
    found = decode_block(channel, block, count, packer, _THREADS)
    values = _split(channel, found)[: entry.count]
    gaps = entry.gaps.get(channel.name, ())
    return _with_gaps(channel, values, entry.first, gaps) if gaps else values


def _split(channel: ChannelDescription, found: npt.NDArray[Any] | Variable) -> Values:
    if not isinstance(found, Variable):
        return found
    if not len(found):
        return []
    return found.texts() if channel.is_string else found.split()


def _with_gaps(
    channel: ChannelDescription, values: Values, first: int, gaps: Iterable[PointRange]
) -> Values:
    # What the codec gives may be a read-only view of the payload.
    values = values.copy()
    for start, stop in gaps:
        place = slice(start - first, stop - first)
        values[place] = missing_values(channel, stop - start)
    return values


def missing_values(channel: ChannelDescription, count: int) -> Values:
    """Return what stands for `count` missing points, without room for each of them.

    An empty text, an empty array, or the channel's ``missing_value`` as a read-only
    array that takes the room of one value.

    Raises
    ------
    PayloadError
        If a channel of variable points misses more of them than can be meant.
    """
    if not channel.is_variable:
        value = _as_dtype(channel.missing_value, channel.numpy_dtype)
        return np.broadcast_to(value, (count, *channel.shape))
    if count > MAX_MISSING_VARIABLE:
        raise PayloadError(f"{channel.name}: {count} points in a row are missing")
    if channel.is_string:
        return [""] * count
    return [np.empty(0, channel.numpy_dtype)] * count


def _as_dtype(value: object, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    # A fill value that does not fit wraps, as it does in the file.
    with np.errstate(invalid="ignore"):
        return np.asarray(value).astype(dtype)


def missing_in(
    entry: Entry, channel: str, start: int, stop: int
) -> tuple[PointRange, ...]:
    """Return the points of ``[start, stop)`` that an entry does not have."""
    if entry.is_gap or entry.is_durable:
        return ((start, stop),)
    clipped = (
        (max(start, first), min(stop, end))
        for first, end in entry.gaps.get(channel, ())
    )
    return tuple((first, end) for first, end in clipped if first < end)


def joined(channel: ChannelDescription, parts: Sequence[Values]) -> Values:
    """Return consecutive parts as one, always the caller's own to write into.

    Raises
    ------
    PayloadError
        If missing points alone would fill the memory.
    """
    if channel.is_variable:
        return [value for part in parts for value in part]
    for part in parts:
        if _is_broadcast(part) and part.nbytes > MAX_ENTRY_BYTES:
            raise PayloadError(
                f"{channel.name}: {len(part)} points in a row are missing; read fewer "
                "points at once"
            )
    if not parts:
        return np.empty((0, *channel.shape), channel.numpy_dtype)
    return np.concatenate(parts)


def _is_broadcast(part: Any) -> bool:
    return isinstance(part, np.ndarray) and len(part) > 1 and part.strides[0] == 0
