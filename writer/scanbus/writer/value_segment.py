"""A segment of a group of small values: plain datasets that grow, kept until the end.

These files live only until the scan file is written from them, so nothing is packed.
The points stay in memory too until the closed file was compared with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanbus.bus.blocks import Variable, decode_block
from scanbus.bus.entries import Entry, checksum_of
from scanbus.schemas import ChannelDescription, LaneDescription, PointRange
from scanbus.schemas.errors import VerificationError
from scanbus.writer.account import SegmentAccount
from scanbus.writer.contents import DATA_GROUP
from scanbus.writer.failpoints import reach
from scanbus.writer.hdf5_files import open_hdf5
from scanbus.writer.segment_files import (
    OWN_GROUP,
    finish_segment,
    forget_account,
    make_segment_file,
    note_account,
)

__all__ = [
    "ENTRY_FIELDS",
    "ValueSegment",
    "flat_name",
    "length_name",
    "unpacked_checksum",
]

_CHUNK_BYTES = 1 << 18
ENTRY_FIELDS = np.dtype(
    [
        ("first", "<u8"),
        ("count", "<u8"),
        ("checksum", "<u8"),
        ("from_source", "?"),
        ("time_first", "<f8"),
        ("time_last", "<f8"),
    ]
)
"""One row per entry. The checksum is the source's over the payload where the blocks
came unpacked, else ours over the unpacked blocks."""


def flat_name(channel: ChannelDescription) -> str:
    """Return the dataset with all values of a variable channel in a row."""
    return f"{channel.name}__flat"


def length_name(channel: ChannelDescription) -> str:
    """Return the dataset with the lengths of a variable channel's points."""
    return f"{channel.name}__length"


class ValueSegment:
    """One temporary HDF5 file with the points ``[start, start + N)`` of a group.

    One lane writer owns it; `put` and `flush` from one thread, then `close` and
    `verify`, in that order, from any. Parameters as for ``FrameSegment``, with a lane
    of ``Storage.VALUES``.
    """

    def __init__(self, path: Path, uid: str, lane: LaneDescription, start: int) -> None:
        self._path = path
        self._lane = lane
        self.start = start
        self._stop = start
        self._flushed = 0
        self._n_notes = 0
        self.account = SegmentAccount()
        self._late_points: list[int] = []
        self._entries: list[tuple[int, int, int, bool, float, float]] = []
        self._columns: list[list[npt.NDArray[Any] | Variable]] = [
            [] for _ in lane.channels
        ]
        self._file = make_segment_file(path, uid, lane, start)
        group = self._file[DATA_GROUP]
        for channel in lane.channels:
            _make_columns(group, channel, lane.points_per_segment)

    def put(self, entry: Entry) -> None:
        """Take the points of an entry.

        Raises
        ------
        PayloadError
            If any block does not unpack; then nothing of the entry is taken.
        """
        blocks = self._decoded(entry)
        from_source = set(entry.codecs) == {"none"}
        checksum = entry.checksum
        if entry.gaps or not from_source:
            # Whatever was sent for a point that is missing, nobody shall take for one.
            checksum = unpacked_checksum(blocks)
            from_source = from_source and checksum == entry.checksum
        self._take(
            (entry.first, entry.count, checksum, from_source, *entry.times), blocks
        )
        if entry.point is not None:
            self._late_points.append(entry.point)
        for name, gaps in entry.gaps.items():
            self.account.gaps.setdefault(name, []).extend(gaps)

    def _take(
        self,
        row: tuple[int, int, int, bool, float, float],
        blocks: list[npt.NDArray[Any] | Variable],
    ) -> None:
        first, count, *_ = row
        self._fill_up_to(first)
        self._entries.append(row)
        for column, block in zip(self._columns, blocks, strict=True):
            column.append(block)
        self._stop = first + count

    def _decoded(self, entry: Entry) -> list[npt.NDArray[Any] | Variable]:
        blocks = []
        for index, channel in enumerate(self._lane.channels):
            codec = entry.codecs[index]
            block = decode_block(channel, entry.block(index), entry.count, codec)
            gaps = [
                (a - entry.first, b - entry.first) for a, b in _gaps(entry, channel)
            ]
            blocks.append(_without(channel, block, gaps) if gaps else block)
        return blocks

    def mark(self, kind: str, start: int, stop: int) -> None:
        """Note points that did not come as they should; ``missing`` ones are filled."""
        getattr(self.account, kind).append((start, stop))
        if kind == "missing":
            self._fill_up_to(stop)

    def flush(self) -> None:
        """Write what came since the last time, to survive a kill of this process."""
        group = self._file[DATA_GROUP]
        for channel, column in zip(self._lane.channels, self._columns, strict=True):
            _append(group, channel, column[self._flushed :])
        self._flushed = len(self._columns[0])
        reach("flush.before")
        self._keep_account()
        self._file.flush()
        reach("flush.after")

    def _keep_account(self) -> None:
        if self.account.n_notes > self._n_notes:
            self._n_notes = self.account.n_notes
            note_account(self._path, self.account)

    def restore(
        self,
        row: tuple[int, int, int, bool, float, float],
        blocks: list[npt.NDArray[Any] | Variable],
    ) -> None:
        """Take the points of an entry that another file of this segment holds.

        Parameters
        ----------
        row : tuple
            The entry: ``ENTRY_FIELDS``.
        blocks : list
            Its points, one item for each channel.
        """
        self._take(row, blocks)

    def close(self, stop: int) -> None:
        """Finish the file with the points up to `stop`."""
        self._fill_up_to(stop)
        self.flush()
        table = np.array(self._entries, ENTRY_FIELDS)
        self._file[OWN_GROUP].create_dataset("entries", data=table)
        if self._lane.is_late:
            own = self._file[OWN_GROUP]
            own.create_dataset("point", data=np.array(self._late_points, np.uint64))
        finish_segment(self._file, stop, self.account)
        self._file.close()
        if self._n_notes:
            forget_account(self._path)

    @property
    def is_closed(self) -> bool:
        """Whether its file is."""
        return not self._file

    def verify(self) -> None:
        """Reopen the closed file and compare every value with what came.

        Raises
        ------
        VerificationError
            If any differs.
        """
        with open_hdf5(self._path, reads_once=True) as file:
            group = file[DATA_GROUP]
            for channel, column in zip(self._lane.channels, self._columns, strict=True):
                for name, kept in _joined(channel, column).items():
                    if not np.array_equal(_bits_of(group[name][()]), _bits_of(kept)):
                        raise VerificationError(
                            str(self._path), f"{name} is not what came over the bus"
                        )

    def discard(self) -> None:
        """Close whatever is open; the file is not to be used."""
        self._file.close()

    def _fill_up_to(self, point: int) -> None:
        n_points = point - self._stop
        if n_points <= 0:
            return
        self._stop = point
        for channel, column in zip(self._lane.channels, self._columns, strict=True):
            column.append(_missing(channel, n_points))


def _gaps(entry: Entry, channel: ChannelDescription) -> tuple[PointRange, ...]:
    return entry.gaps.get(channel.name, ())


def _without(
    channel: ChannelDescription,
    block: npt.NDArray[Any] | Variable,
    gaps: list[PointRange],
) -> npt.NDArray[Any] | Variable:
    """Return a block with what stands in a file for points that are missing."""
    keep = np.ones(len(block), bool)
    for start, stop in gaps:
        keep[start:stop] = False
    if isinstance(block, Variable):
        values = block.values[np.repeat(keep, block.lengths)]
        return Variable(np.where(keep, block.lengths, np.uint32(0)), values)
    filled = block.copy()
    filled[~keep] = channel.missing_value
    return filled


def _missing(channel: ChannelDescription, n_points: int) -> npt.NDArray[Any] | Variable:
    if channel.is_variable:
        none = np.zeros(n_points, np.uint32)
        return Variable(none, np.empty(0, channel.numpy_dtype))
    shape = (n_points, *channel.shape)
    return np.full(shape, channel.missing_value, channel.numpy_dtype)


def _bits_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the bits of an array; no copy. Unlike numbers, NaN equals itself so."""
    flat = values.reshape(-1)
    wide = flat.nbytes % 8 == 0 and flat.flags.c_contiguous
    return flat.view(np.uint64 if wide else np.uint8)


def unpacked_checksum(blocks: list[npt.NDArray[Any] | Variable]) -> int:
    """Return the checksum of an entry's unpacked blocks, in the order of the lane."""
    parts: list[bytes] = []
    for block in blocks:
        if isinstance(block, Variable):
            parts += [block.lengths.tobytes(), block.values.tobytes()]
        else:
            parts.append(block.tobytes())
    return checksum_of(*parts) if parts else checksum_of(b"")


def _make_columns(group: h5py.Group, channel: ChannelDescription, length: int) -> None:
    if channel.is_variable:
        _growing(group, flat_name(channel), channel.numpy_dtype, (), None)
        _growing(group, length_name(channel), np.dtype("<u4"), (), length)
    else:
        _growing(group, channel.name, channel.numpy_dtype, channel.shape, length)


def _growing(
    group: h5py.Group,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    length: int | None,
) -> None:
    row_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    rows = max(1, _CHUNK_BYTES // row_bytes)
    group.create_dataset(
        name,
        (0, *shape),
        dtype,
        maxshape=(length, *shape),
        chunks=(rows if length is None else min(rows, length), *shape),
    )


def _joined(
    channel: ChannelDescription, column: list[npt.NDArray[Any] | Variable]
) -> dict[str, npt.NDArray[Any]]:
    """Return the datasets of a channel with all of a column's points."""
    if channel.is_variable:
        variables = [block for block in column if isinstance(block, Variable)]
        empty = [np.empty(0, channel.numpy_dtype)]
        return {
            flat_name(channel): np.concatenate(
                [*empty, *(v.values for v in variables)]
            ),
            length_name(channel): np.concatenate(
                [np.empty(0, "<u4"), *(v.lengths for v in variables)]
            ),
        }
    arrays = [block for block in column if not isinstance(block, Variable)]
    start = np.empty((0, *channel.shape), channel.numpy_dtype)
    return {channel.name: np.concatenate([start, *arrays])}


def _append(
    group: h5py.Group,
    channel: ChannelDescription,
    column: list[npt.NDArray[Any] | Variable],
) -> None:
    if not column:
        return
    for name, points in _joined(channel, column).items():
        dataset = group[name]
        length = len(dataset)
        dataset.resize(length + len(points), axis=0)
        if len(points):
            dataset[length:] = points
