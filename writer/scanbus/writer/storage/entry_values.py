"""Entries of small values as they are stored: unpacked, with a row in a table.

Pure. Used for the file that lanes of small values share, and for the files of late
points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Entry, Variable, checksum_of, decode_block
from scanbus.schemas import ChannelDescription, LaneDescription, PointRange

__all__ = [
    "ENTRY_FIELDS",
    "Block",
    "EntryRow",
    "missing_values",
    "parts_of",
    "stored_blocks",
    "stored_row",
    "unpacked_checksum",
]

ENTRY_FIELDS: Final = np.dtype(
    [
        ("first", "<u8"),
        ("count", "<u8"),
        ("checksum", "<u8"),
        ("from_source", "?"),
    ]
)
"""Fields of the table of entries, one row per entry.

The checksum is the source's, over the payload, if the blocks came uncompressed
(``from_source``); otherwise the writer's, over the unpacked blocks."""
EntryRow: TypeAlias = tuple[int, int, int, bool]
"""A row of that table."""
Block: TypeAlias = npt.NDArray[Any] | Variable
"""Points of one channel."""


def stored_blocks(lane: LaneDescription, entry: Entry) -> list[Block]:
    """Return the points of an entry, by channel; fill values where it has gaps.

    Raises
    ------
    PayloadError
        If a block cannot be unpacked.
    UnknownCodecError
        If a block's codec is unknown or its library is not installed.
    """
    blocks: list[Block] = []
    for index, channel in enumerate(lane.channels):
        codec = entry.codecs[index]
        block = decode_block(channel, entry.block(index), entry.count, codec)
        gaps = [
            (start - entry.first, stop - entry.first)
            for start, stop in entry.gaps.get(channel.name, ())
        ]
        blocks.append(_with_fill_values(channel, block, gaps) if gaps else block)
    return blocks


def stored_row(entry: Entry, blocks: Sequence[Block]) -> EntryRow:
    """Return the row of an entry with these blocks in the table of entries."""
    from_source = set(entry.codecs) == {"none"}
    checksum = entry.checksum
    if entry.gaps or not from_source:
        # Values sent for missing points are replaced by fill values, so the
        # source's checksum holds only if nothing changed.
        checksum = unpacked_checksum(blocks)
        from_source = from_source and checksum == entry.checksum
    return entry.first, entry.count, checksum, from_source


def parts_of(block: Block) -> tuple[npt.NDArray[Any], ...]:
    """Return the arrays of a block: points, or values and then lengths."""
    if isinstance(block, Variable):
        return block.values, block.lengths
    return (block,)


def _with_fill_values(
    channel: ChannelDescription, block: Block, gaps: list[PointRange]
) -> Block:
    """Return a block with the points in `gaps` replaced by fill values."""
    keep = np.ones(len(block), bool)
    for start, stop in gaps:
        keep[start:stop] = False
    if isinstance(block, Variable):
        values = block.values[np.repeat(keep, block.lengths)]
        return Variable(np.where(keep, block.lengths, np.uint32(0)), values)
    filled = block.copy()
    filled[~keep] = channel.missing_value
    return filled


def missing_values(channel: ChannelDescription, n_points: int) -> Block:
    """Return what is stored for missing points of a channel."""
    if channel.is_variable:
        none = np.zeros(n_points, np.uint32)
        return Variable(none, np.empty(0, channel.numpy_dtype))
    shape = (n_points, *channel.shape)
    return np.full(shape, channel.missing_value, channel.numpy_dtype)


def unpacked_checksum(blocks: Sequence[Block]) -> int:
    """Return the checksum of an entry's unpacked blocks, in the order of channels."""
    parts: list[bytes] = []
    for block in blocks:
        if isinstance(block, Variable):
            parts += [block.lengths.tobytes(), block.values.tobytes()]
        else:
            parts.append(block.tobytes())
    return checksum_of(*parts) if parts else checksum_of(b"")
