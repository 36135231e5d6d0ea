"""Check the times of points: one for each point, and their checksum."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from scanbus.schemas import LaneDescription, PointRange
from scanbus.writer.check.report import Spot, Tally
from scanbus.writer.check.scanbus_files import SegmentInfo
from scanbus.writer.model.scan_contents import OWN_GROUP, TIMES_GROUP
from scanbus.writer.storage.time_column import TIME_NAME, is_intact

__all__ = ["check_lane_times", "check_segment_times"]


def check_segment_times(
    file: h5py.File, path: Path, segment: SegmentInfo, tally: Tally
) -> None:
    """Check the times of a finished segment."""
    name, points = f"{OWN_GROUP}/{TIME_NAME}", (segment.start, segment.stop)
    with tally.guard(path, name):
        _check(tally.at(path, name), file[name], points)


def check_lane_times(
    file: h5py.File, path: Path, lane: LaneDescription, tally: Tally
) -> None:
    """Check the times of one lane in a scan file."""
    name = f"{TIMES_GROUP}/{lane.name}"
    with tally.guard(path, name):
        _check(tally.at(path, name), file[name], (0, len(file[name])))


def _check(spot: Spot, dataset: h5py.Dataset, points: PointRange) -> None:
    length = points[1] - points[0]
    if (dataset.shape, dataset.dtype) != ((length,), np.dtype("<f8")):
        found = f"{dataset.shape} of {dataset.dtype} for {length} points"
        spot.record(found, (points,))
    elif not is_intact(dataset):
        spot.record("times are not what came over the bus", (points,))
