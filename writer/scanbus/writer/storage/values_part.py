"""A file with small values of a running scan: points ``[start, stop)`` of each lane.

Laid out as the scan file, so that a master is made from it in the same way. The latest
points are copied from such a file. Once it is large, it gets a final name, and masters
map it: so a snapshot of a long scan costs what is new, not what there is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py
import numpy as np

from scanbus.schemas import LaneDescription, PointRange
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.running_files import parse_values_part
from scanbus.writer.model.scan_contents import OWN_GROUP
from scanbus.writer.model.value_files import ValueFile
from scanbus.writer.storage.grown_values import GrownValues
from scanbus.writer.storage.hdf5 import open_hdf5, written_hdf5
from scanbus.writer.storage.lane_values import LaneValues
from scanbus.writer.storage.scan_file import make_groups
from scanbus.writer.storage.segment_header import FREE_TEXT, link_entry
from scanbus.writer.storage.shared_sections import OpenFiles, Section
from scanbus.writer.storage.value_arrays import arrays_of
from scanbus.writer.storage.value_columns import write_values

__all__ = ["ValuesPart", "find_parts", "grow_part", "is_values_part"]

_LANES: Final = f"{OWN_GROUP}/points"


@dataclass(frozen=True)
class ValuesPart:
    """One such file.

    Attributes
    ----------
    file : ValueFile
        What it has.
    points : mapping
        Name of each lane in it to its points ``[start, stop)``.
    """

    file: ValueFile
    points: Mapping[str, PointRange]

    @property
    def n_bytes(self) -> int:
        """Size of its values, not compressed."""
        return sum(array.n_bytes for array in self.file.arrays.values())


def grow_part(
    path: Path,
    uid: str,
    lanes: Sequence[LaneDescription],
    *,
    before: ValuesPart | None,
    sections: Mapping[str, Sequence[Section]],
    starts: Mapping[str, int],
    limit: int,
) -> ValuesPart:
    """Write a file with the points of another one and those behind them.

    Parameters
    ----------
    path : pathlib.Path
        Its path; masters that map it use its name.
    before : ValuesPart or None
        The other one, which stays.
    sections : mapping
        Name of each lane with new points to its sections of shared segments.
    starts : mapping
        Where the points of lanes begin that are not in the other one; 0 otherwise.
    limit : int
        Size in bytes above which that of texts need not be exact.

    Raises
    ------
    OSError, VerificationError, NameTakenError
        If a segment cannot be read, or the file system refuses.
    """
    points: dict[str, PointRange] = {}
    with (
        written_hdf5(path, track_order=True) as file,
        OpenFiles() as files,
        ExitStack() as stack,
    ):
        make_groups(file)
        held = None
        if before is not None:
            held = stack.enter_context(open_hdf5(Path(before.file.name)))
        for lane in lanes:
            start = stop = starts.get(lane.name, 0)
            if before is not None and lane.name in before.points:
                start, stop = before.points[lane.name]
            after = LaneValues(lane, sections.get(lane.name, ()), files, stop)
            values = GrownValues(lane, held, after)
            if values.n_points:
                write_values(file, lane, values)
                points[lane.name] = start, start + values.n_points
        link_entry(file, uid)
        _write_points(file, uid, points)
        arrays = arrays_of(file, limit)
    return ValuesPart(ValueFile(str(path), arrays, is_lasting=False), points)


def is_values_part(file: h5py.File) -> bool:
    """Return whether it is such a file: it has no checksums, but what segments have."""
    return _LANES in file


def _write_points(file: h5py.File, uid: str, points: Mapping[str, PointRange]) -> None:
    file[OWN_GROUP].create_dataset("uid", data=uid, dtype=FREE_TEXT)
    table = file.create_group(_LANES)
    table.create_dataset("lane", data=list(points), dtype=FREE_TEXT)
    rows = np.array(list(points.values()), np.int64).reshape(-1, 2)
    table.create_dataset("range", data=rows)


def find_parts(
    folder: Path, uid: str, stored: Mapping[str, int], limit: int
) -> list[ValuesPart]:
    """Return the finished files of a scan, as far as they follow each other.

    What cannot be read, or is another scan's, is left: segments have its points, too.

    Parameters
    ----------
    stored : mapping
        Name of each lane to the end of its points in segments.
    """
    found: list[ValuesPart] = []
    reached: dict[str, int] = {}
    names = [name for name in os.listdir(folder) if parse_values_part(name) is not None]  # noqa: PTH208
    for name in sorted(names, key=lambda each: (len(each), each)):
        part = _read(folder / name, uid, limit)
        if part is None or any(
            start != reached.get(lane, 0) or stop > stored.get(lane, 0)
            for lane, (start, stop) in part.points.items()
        ):
            break
        reached |= {lane: stop for lane, (_, stop) in part.points.items()}
        found.append(part)
    return found


def _read(path: Path, uid: str, limit: int) -> ValuesPart | None:
    try:
        with open_hdf5(path) as file:
            if file[f"{OWN_GROUP}/uid"].asstr()[()] != uid:
                return None
            table = file[_LANES]
            points = {
                str(lane): (int(start), int(stop))
                for lane, (start, stop) in zip(
                    table["lane"].asstr()[()], table["range"][()], strict=True
                )
            }
            return ValuesPart(ValueFile(path.name, arrays_of(file, limit)), points)
    # h5py raises RuntimeError for some damage.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError):
        return None
    except NameTakenError:  # It is no regular file.
        return None
