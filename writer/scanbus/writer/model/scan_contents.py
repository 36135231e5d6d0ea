"""Contents of a scan: the input from which its masters are built.

Pure data, collected from the bus while the scan runs and from its files afterwards;
layouts turn it into trees. Equal contents give equal masters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import ChannelDescription, LaneDescription, Storage
from scanbus.schemas.file_names import parse_segment_file
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.nexus_tree import Array, FrameSource
from scanbus.writer.model.trajectory import Trajectory
from scanbus.writer.model.value_files import COPIED_BYTES, ValueFile, copied_arrays

__all__ = [
    "DATA_GROUP",
    "OWN_GROUP",
    "TIMES_GROUP",
    "TIME_ATTRIBUTES",
    "ScanContents",
    "SegmentFile",
    "data_path",
    "length_path",
    "link_group",
    "linked_path",
]

DATA_GROUP: Final = "/entry_0000/measurement"
"""Group of the points in segments and in the scan file."""
OWN_GROUP: Final = "/entry_0000/scanbus"
"""Group with scanbus's own description of a segment or of the scan file."""
TIMES_GROUP: Final = "/entry_0000/scanbus/times"
"""Group of the times of each lane's points in the scan file."""
TIME_ATTRIBUTES: Final = {"units": "s", "start": "1970-01-01T00:00:00Z"}
"""Attributes of times, as NeXus's NXlog has them."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment under its final name.

    Attributes
    ----------
    name : str
        File name in the scan's folder.
    start, stop : int
        Its points ``[start, stop)``; its datasets have ``stop - start`` rows.
    """

    name: str
    start: int
    stop: int

    @property
    def next_number(self) -> int:
        """Number of the segment that follows it in its lane."""
        found = parse_segment_file(self.name)
        return 0 if found is None else found.last + 1

    @property
    def n_parts(self) -> int:
        """Number of segments that are joined in it; 1 for a plain one."""
        found = parse_segment_file(self.name)
        return 1 if found is None else found.last + 1 - found.number


@dataclass(frozen=True)
class ScanContents:
    """The contents of one scan, as needed for its masters.

    Attributes
    ----------
    record : ScanRecord
        All events of the scan, and the verdict if there is one.
    segments : mapping
        Lane name to its segments, ascending and contiguous.
    values_file : str or None
        Name of the scan file in the scan's folder; None while there is none. If there
        is one, it holds all channels of ``Storage.VALUES``.
    late : mapping
        Channel name to the names of the files with its late points.
    referenced : mapping
        Name of a channel by reference to the detector's files that are mapped; the
        others are listed by URL.
    values : tuple of ValueFile
        The files with the points of these channels, ascending: the scan file, or what
        there is before it.
    copied_bytes : int
        Bytes of these points that the master copies.
    trajectory : Trajectory or None
        How the axes moved; None if that is not known.
    grids : mapping
        Name of each counter of a mesh to its values, in the mesh's shape.
    positions : mapping
        Name of each channel with which layouts compute to its numbers, shape (points,),
        float64, NaN where one is missing; without those that are not known.
    choice : LayoutChoice
        The layouts of its files.
    """

    record: ScanRecord
    segments: Mapping[str, tuple[SegmentFile, ...]] = field(default_factory=dict)
    values_file: str | None = None
    late: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    referenced: Mapping[str, tuple[FrameSource, ...]] = field(default_factory=dict)
    values: tuple[ValueFile, ...] = ()
    copied_bytes: int = COPIED_BYTES
    trajectory: Trajectory | None = None
    grids: Mapping[str, Array] = field(default_factory=dict)
    positions: Mapping[str, Array] = field(default_factory=dict)
    choice: LayoutChoice = field(default_factory=LayoutChoice)

    @property
    def entry_name(self) -> str:
        """Name of the NXentry, ``N.1``."""
        return f"{self.record.identity.scan_number}.1"

    @property
    def is_final(self) -> bool:
        """Whether nothing will be added: what has no point now has none at all."""
        return self.record.final_verdict is not None

    @cached_property
    def copied(self) -> frozenset[str]:
        """Paths of the arrays of the scan file that the master copies."""
        if len(self.values) != 1:
            return frozenset()
        return copied_arrays(self.values[0].arrays, self.copied_bytes)


def data_path(lane: LaneDescription, channel: ChannelDescription) -> str:
    """Return the HDF5 path of a channel's points in segments and in the scan file.

    In the scan file a ragged channel is a padded two-dimensional dataset, and strings
    are variable-length UTF-8.
    """
    name = "data" if lane.storage is Storage.FILES else channel.name
    return f"{DATA_GROUP}/{name}"


def length_path(lane: LaneDescription, channel: ChannelDescription) -> str:
    """Return the HDF5 path of the lengths of a ragged channel's points."""
    return f"{data_path(lane, channel)}__length"


def link_group(file_name: str, uid: str) -> str:
    """Return the name of the root group through which other files link into a file.

    HDF5 searches for a linked file in other folders too, e.g. the current folder, and
    the files of all scans have the same names. With a path that contains the uid, a
    file of another scan gives an error instead of its data.

    Examples
    --------
    >>> link_group("eiger_0003.h5", "0123456789abcdef")
    'eiger_0003_0123456789abcdef'
    """
    return f"{file_name.removesuffix('.h5')}_{uid}"


def linked_path(file_name: str, uid: str, path: str) -> str:
    """Return the path by which other files refer to an object of a scan's file.

    Parameters
    ----------
    file_name : str
        Name of the segment, scan file or scan master, without its folder.
    path : str
        Absolute path of the object in that file.

    Examples
    --------
    >>> linked_path("scan0001.h5", "0123456789abcdef", "/1.1/measurement")
    '/scan0001_0123456789abcdef/1.1/measurement'
    """
    return f"/{link_group(file_name, uid)}{path}"
