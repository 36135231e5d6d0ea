"""The points of one lane of small values, read back from shared segments.

Points that no section has, or no record of it, read as fill values without a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, Variable
from scanbus.schemas import ChannelDescription, LaneDescription
from scanbus.schemas.errors import VerificationError
from scanbus.writer.storage.entry_values import (
    ENTRY_FIELDS,
    Block,
    missing_values,
    unpacked_checksum,
)
from scanbus.writer.storage.record_file import parse_record
from scanbus.writer.storage.shared_sections import OpenFiles, PointsRecord, Section

__all__ = ["LanePoints", "LaneValues", "PointSource"]

# Lanes of fewer bytes are read once, and kept until they are written.
_KEPT_BYTES: Final = 4 << 20
_FILL_BYTES: Final = 1 << 20
_TIME: Final = np.dtype("<f8")
_LENGTH: Final = np.dtype("<u4")


@dataclass(frozen=True)
class LanePoints:
    """Consecutive points of a lane.

    Attributes
    ----------
    rows : numpy.ndarray
        Rows of the table of entries, of `ENTRY_FIELDS`.
    times : numpy.ndarray
        Time of each point; NaN if not known.
    blocks : list
        Points of each channel.
    """

    rows: npt.NDArray[np.void]
    times: Times
    blocks: list[Block]


class PointSource(Protocol):
    """The points of a lane, to be iterated any number of times."""

    n_points: int

    def __iter__(self) -> Iterator[LanePoints]:
        """Yield all points, a few mebibytes at a time."""
        ...


class LaneValues:
    """All points of a lane, to be iterated any number of times.

    Parameters
    ----------
    lane : LaneDescription
        The lane.
    sections : sequence of Section
        Its sections, ascending, none overlapping another.
    files : OpenFiles
        The files that are open.
    start : int
        The first point; sections have none before it.
    """

    def __init__(
        self,
        lane: LaneDescription,
        sections: Sequence[Section],
        files: OpenFiles,
        start: int = 0,
    ) -> None:
        self._lane = lane
        self._sections = sections
        self._files = files
        self._kept: list[LanePoints] | None = None
        self._start = start
        self.n_points = sections[-1].stop - start if sections else 0

    def __iter__(self) -> Iterator[LanePoints]:
        """Yield all points from `start` on, a few mebibytes at a time.

        Raises
        ------
        VerificationError
            If a record does not fit the lane.
        NameTakenError, OSError
            If a file cannot be read.
        """
        if self._kept is None:
            if self.n_points * self._lane.point_bytes > _KEPT_BYTES:
                yield from self._read()
                return
            self._kept = list(self._read())
        yield from self._kept

    def _read(self) -> Iterator[LanePoints]:
        reached = self._start
        for section in self._sections:
            for record in self._files.places(section):
                start = max(reached, section.start, record.first)
                stop = min(section.stop, record.first + record.count)
                if start >= stop:
                    continue
                yield from self._filled(start - reached)
                yield self._stored(section, record, start, stop)
                reached = stop
            yield from self._filled(section.stop - reached)
            reached = max(reached, section.stop)

    def _filled(self, n_points: int) -> Iterator[LanePoints]:
        step = max(1, _FILL_BYTES // self._lane.point_bytes)
        for start in range(0, n_points, step):
            count = min(step, n_points - start)
            blocks = [missing_values(one, count) for one in self._lane.channels]
            yield LanePoints(np.empty(0, ENTRY_FIELDS), np.full(count, np.nan), blocks)

    def _stored(
        self, section: Section, record: PointsRecord, start: int, stop: int
    ) -> LanePoints:
        content = self._files.read(section.path, record.offset, record.n_bytes)
        try:
            found = _points_of(self._lane, content, record)
        except (ValueError, TypeError, LookupError) as error:
            reason = f"points from {record.first} on cannot be read: {error}"
            raise VerificationError(str(section.path), reason) from error
        first, last = start - record.first, stop - record.first
        is_whole = last - first == record.count
        return found if is_whole else _cut(found, start, first, last)


def _points_of(
    lane: LaneDescription, content: bytes, record: PointsRecord
) -> LanePoints:
    head, body = parse_record(content)
    parts = iter(head["sizes"])
    n_rows, count = int(head["rows"]), record.count
    rows = np.frombuffer(body, ENTRY_FIELDS, n_rows)
    place = rows.nbytes
    times = np.frombuffer(body, _TIME, count, place)
    place += times.nbytes
    blocks: list[Block] = []
    for channel in lane.channels:
        arrays: list[npt.NDArray[Any]] = []
        for dtype in _types(channel):
            size = int(next(parts))
            length = size // dtype.itemsize
            arrays.append(np.frombuffer(body, dtype, length, place))
            place += size
        blocks.append(_block(channel, arrays, count))
    return LanePoints(rows, times, blocks)


def _types(channel: ChannelDescription) -> list[np.dtype[Any]]:
    values = [channel.numpy_dtype]
    return [*values, _LENGTH] if channel.is_variable else values


def _block(
    channel: ChannelDescription, arrays: list[npt.NDArray[Any]], count: int
) -> Block:
    if not channel.is_variable:
        return arrays[0].reshape((count, *channel.shape))
    values, lengths = arrays
    if len(lengths) != count or int(lengths.sum(dtype=np.uint64)) != len(values):
        raise ValueError(f"the lengths of {channel.name} do not fit its values")
    return Variable(lengths, values)


def _cut(points: LanePoints, start: int, first: int, last: int) -> LanePoints:
    """Return the rows ``[first, last)`` of some points, which begin at point `start`.

    An entry that is cut gets a checksum of its own.
    """
    blocks = [_cut_block(block, first, last) for block in points.blocks]
    stop = start + last - first
    rows = points.rows[
        (points.rows["first"] < stop)
        & (points.rows["first"] + points.rows["count"] > start)
    ].copy()
    for row in rows:
        low, count = int(row["first"]), int(row["count"])
        kept = max(low, start), min(low + count, stop)
        if kept == (low, low + count):
            continue
        inside = [_cut_block(one, kept[0] - start, kept[1] - start) for one in blocks]
        row["first"], row["count"] = kept[0], kept[1] - kept[0]
        row["checksum"], row["from_source"] = unpacked_checksum(inside), False
    return replace(points, rows=rows, times=points.times[first:last], blocks=blocks)


def _cut_block(block: Block, first: int, last: int) -> Block:
    if not isinstance(block, Variable):
        return block[first:last]
    edges = np.concatenate([[0], np.cumsum(block.lengths, dtype=np.int64)])
    return Variable(block.lengths[first:last], block.values[edges[first] : edges[last]])
