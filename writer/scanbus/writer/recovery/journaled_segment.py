"""What the journal of a temporary segment says of its points, in the words of salvage.

The journal stands beside a file that HDF5 may not be able to read any more; its chunks
are read from there nevertheless, and compared with their checksums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scanbus.schemas import ChannelDescription, LaneDescription, PointRange, Storage
from scanbus.writer.check.columns import Column, segment_column
from scanbus.writer.storage.regular_file import open_regular
from scanbus.writer.storage.segment_journal import JournalContents
from scanbus.writer.storage.value_segment import flat_name, length_name

__all__ = ["journaled_chunks", "journaled_columns", "journaled_rows"]


def journaled_rows(
    journal: JournalContents, lane: LaneDescription
) -> tuple[int, list[PointRange]]:
    """Return the number of rows of a segment, and the ranges of stored rows.

    Raises
    ------
    ValueError, LookupError
        If the journal is of another lane.
    """
    if lane.storage is Storage.VALUES:
        n_rows = min(len(column) for column in journaled_columns(journal, lane))
        return n_rows, [(0, n_rows)]
    rows, n_rows = lane.points_per_chunk, journal.n_rows
    if not 0 <= n_rows <= lane.points_per_segment:
        raise ValueError(f"its journal says {n_rows} rows")
    starts = sorted(index * rows for index in journal.chunks if index >= 0)
    stored = [(one, min(one + rows, n_rows)) for one in starts if one < n_rows]
    return n_rows, stored


def journaled_chunks(
    journal: JournalContents, lane: LaneDescription, path: Path
) -> Iterator[tuple[int, bytes | None, bool]]:
    """Yield the stored chunks of a segment, in order.

    Yields
    ------
    start : int
        First row.
    packed : bytes or None
        The chunk; None if it is damaged.
    from_source : bool
        Whether it was compared with a checksum computed at the source.
    """
    descriptor = open_regular(path)
    try:
        for start, _ in journaled_rows(journal, lane)[1]:
            chunk = journal.chunks[start // lane.points_per_chunk]
            yield start, chunk.read(descriptor), chunk.from_source
    finally:
        os.close(descriptor)


def journaled_columns(journal: JournalContents, lane: LaneDescription) -> list[Column]:
    """Return the values of each channel.

    Raises
    ------
    ValueError, LookupError
        If the journal is of another lane.
    """
    arrays: dict[str, Any] = {}
    number = 0
    for channel in lane.channels:
        for name, dtype, shape in _datasets(channel):
            flat = journal.values(number, np.dtype(dtype))
            arrays[name] = flat.reshape(-1, *shape)
            number += 1
    return [segment_column(arrays, channel, 0) for channel in lane.channels]


def _datasets(
    channel: ChannelDescription,
) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Return name, type and shape of a point of the datasets of a channel."""
    if channel.is_variable:
        return [
            (flat_name(channel), channel.numpy_dtype, ()),
            (length_name(channel), np.dtype("<u4"), ()),
        ]
    return [(channel.name, channel.numpy_dtype, channel.shape)]
