"""Small values of a running scan: those that a file has, and those that came since.

A snapshot of the values so far need not read all of them from their segments again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import h5py
import numpy as np

from scanbus.bus.protocol import Variable
from scanbus.schemas import ChannelDescription, LaneDescription
from scanbus.writer.model.scan_contents import TIMES_GROUP, data_path, length_path
from scanbus.writer.storage.entry_values import ENTRY_FIELDS, Block
from scanbus.writer.storage.lane_values import LanePoints, LaneValues

__all__ = ["GrownValues"]

_READ_BYTES: Final = 4 << 20


class GrownValues:
    """The points of a lane in a file, then those behind them; see `LaneValues`.

    Parameters
    ----------
    lane : LaneDescription
        The lane.
    before : h5py.File or None
        A file that `write_values` wrote.
    after : LaneValues
        The points that follow.
    """

    def __init__(
        self, lane: LaneDescription, before: h5py.File | None, after: LaneValues
    ) -> None:
        self._lane = lane
        self._after = after
        path = f"{TIMES_GROUP}/{lane.name}"
        self._before = before if before is not None and path in before else None
        self._n_before = len(self._before[path]) if self._before is not None else 0
        self.n_points = self._n_before + after.n_points

    def __iter__(self) -> Iterator[LanePoints]:
        """Yield all points, a few mebibytes at a time.

        Raises
        ------
        OSError, VerificationError, NameTakenError
            If the file or a segment cannot be read.
        """
        if self._before is not None:
            yield from self._stored(self._before)
        yield from self._after

    def _stored(self, file: h5py.File) -> Iterator[LanePoints]:
        times = file[f"{TIMES_GROUP}/{self._lane.name}"]
        step = max(1, _READ_BYTES // max(1, self._lane.point_bytes))
        for start in range(0, self._n_before, step):
            place = slice(start, min(start + step, self._n_before))
            blocks = [
                _block(file, self._lane, channel, place)
                for channel in self._lane.channels
            ]
            yield LanePoints(np.empty(0, ENTRY_FIELDS), times[place], blocks)


def _block(
    file: h5py.File, lane: LaneDescription, channel: ChannelDescription, place: slice
) -> Block:
    rows: Any = file[data_path(lane, channel)][place]
    if channel.is_string:
        lengths = np.fromiter(map(len, rows), np.uint32, len(rows))
        return Variable(lengths, np.frombuffer(b"".join(rows), np.uint8))
    if channel.is_ragged:
        lengths = file[length_path(lane, channel)][place]
        return Variable(lengths, rows[np.arange(rows.shape[1]) < lengths[:, None]])
    found: Block = rows
    return found
