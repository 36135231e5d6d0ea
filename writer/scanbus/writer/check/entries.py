"""Verify entries of small values: rebuild their payloads and compare checksums.

A payload consists of the blocks of a lane's channels, in the order of the lane. For
entries that were sent uncompressed, the checksum is the one computed at the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import checksum_of
from scanbus.schemas import LaneDescription, PointRange
from scanbus.schemas.wording import counted
from scanbus.writer.check.columns import Column, scan_file_column, segment_column
from scanbus.writer.check.report import UNREADABLE, Spot, Tally, one_line
from scanbus.writer.check.sampling import sampled
from scanbus.writer.check.scanbus_files import SegmentInfo
from scanbus.writer.check.virtual_datasets import holes
from scanbus.writer.model.ledger import joined, without
from scanbus.writer.model.scan_contents import DATA_GROUP, OWN_GROUP, data_path
from scanbus.writer.storage.entry_values import ENTRY_FIELDS

__all__ = ["LaneCoverage", "check_scan_lane", "check_value_segment"]

_WINDOW_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class LaneCoverage:
    """Number of points of a lane in a file, and the points that no entry contains."""

    n_points: int
    missing: tuple[PointRange, ...]


def check_value_segment(
    file: h5py.File, path: Path, segment: SegmentInfo, tally: Tally, *, everything: bool
) -> None:
    """Check a segment of small values: lengths, account, and entries."""
    window = _WINDOW_BYTES if everything else 0
    lane, spot = segment.lane, tally.at(path, f"{OWN_GROUP}/entries")
    columns: dict[str, Column] = {}
    for channel in lane.channels:
        with tally.guard(path, data_path(lane, channel)):
            columns[channel.name] = segment_column(file[DATA_GROUP], channel, window)
    rows = file[spot.dataset][()]
    stored = _StoredLane(lane, columns, rows, segment.start, spot)
    coverage = stored.check(segment.uid, everything=everything)
    if coverage is None:
        return
    every, n_points = ((segment.start, segment.stop),), segment.stop - segment.start
    if coverage.n_points != n_points:
        spot.record(
            f"{counted(coverage.n_points, 'point')} instead of {n_points}", every
        )
    said = joined(segment.account.missing)
    if coverage.missing != said:
        hit = (*without(coverage.missing, said), *without(said, coverage.missing))
        spot.record("missing points of the entries and of the account differ", hit)


def check_scan_lane(
    file: h5py.File, lane: LaneDescription, uid: str, spot: Spot, *, everything: bool
) -> LaneCoverage | None:
    """Check all channels of one lane in a scan file.

    Return None if lengths or the order of entries are invalid.
    """
    window = _WINDOW_BYTES if everything else 0
    columns: dict[str, Column] = {}
    for channel in lane.channels:
        with spot.tally.guard(spot.file, data_path(lane, channel)):
            columns[channel.name] = scan_file_column(file, lane, channel, window)
    # A lane without any points has no segments, and so no table.
    table = file.get(spot.dataset)
    rows = np.empty(0, ENTRY_FIELDS) if table is None else table[()]
    stored = _StoredLane(lane, columns, rows, 0, spot)
    return stored.check(uid, everything=everything)


class _StoredLane:
    """The entries of one lane in one file, and the values that they must match."""

    def __init__(
        self,
        lane: LaneDescription,
        columns: Mapping[str, Column],
        rows: npt.NDArray[Any],
        start: int,
        spot: Spot,
    ) -> None:
        self._lane = lane
        self._columns = columns
        self._rows = rows
        self._start = start
        self._spot = spot

    def check(self, uid: str, *, everything: bool) -> LaneCoverage | None:
        """Check lengths, order and checksums; None if lengths or order are wrong."""
        rows, start, spot = self._rows, self._start, self._spot
        spot.tally.count(entries=len(rows))
        if len(self._columns) != len(self._lane.channels):
            return None  # Recorded already; payloads cannot be rebuilt without them.
        lengths = {name: len(column) for name, column in self._columns.items()}
        n_points = min(lengths.values())
        if len(set(lengths.values())) > 1:
            spot.record(f"channels differ in length: {lengths}")
            return None
        edges = np.stack([rows["first"], rows["first"] + rows["count"]], axis=1)
        if not _is_in_order(edges, start, start + n_points):
            spot.record(
                f"entries overlap or lie outside of {counted(n_points, 'point')}"
            )
            return None
        seed = f"{uid}/{self._lane.name}"
        self._compare(sampled(len(rows), seed, everything=everything))
        covered = [(0, start), *((int(low), int(high)) for low, high in edges)]
        return LaneCoverage(n_points, holes(covered, start + n_points))

    def _compare(self, picked: Sequence[int]) -> None:
        """Rebuild payloads and compare them with their checksums."""
        tally, differing = self._spot.tally, list[PointRange]()
        unreadable: dict[str, list[PointRange]] = {}
        for n_done, index in enumerate(picked):
            tally.report_progress(self._spot.file, n_done, len(picked))
            row = self._rows[index]
            points = int(row["first"]), int(row["first"] + row["count"])
            try:
                if checksum_of(*self._payload(*points)) != int(row["checksum"]):
                    differing.append(points)
            except UNREADABLE as error:
                unreadable.setdefault(one_line(error), []).append(points)
        tally.count(entries_checked=len(picked))
        for sentence, found in unreadable.items():
            self._spot.record(f"values cannot be read: {sentence}", found)
        if differing:
            names = ", ".join(channel.name for channel in self._lane.channels[:5])
            more = ", …" if len(self._lane.channels) > 5 else ""
            sentence = f"values of {names}{more} are not what came over the bus"
            self._spot.record(sentence, differing)

    def _payload(self, start: int, stop: int) -> list[bytes]:
        return [
            part
            for channel in self._lane.channels
            for part in self._columns[channel.name].block(
                start - self._start, stop - start
            )
        ]


def _is_in_order(edges: npt.NDArray[np.uint64], start: int, stop: int) -> bool:
    flat = edges.reshape(-1)
    if not len(flat):
        return True
    ascending = bool((flat[1:] >= flat[:-1]).all())
    return ascending and bool(flat[0] >= start and flat[-1] <= stop)
