"""What there is of a scan: everything that its masters are made from.

Pure data, gathered from the bus while the scan runs and from its files afterwards; the
layouts turn it into trees. Two gatherings that agree give the same master.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import ChannelDescription, LaneDescription, Storage

__all__ = [
    "DATA_GROUP",
    "ScanContents",
    "SegmentFile",
    "data_path",
    "length_path",
]

DATA_GROUP: Final = "/entry_0000/measurement"
"""Where the points stand in segments and in the scan file."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment under its final name.

    Attributes
    ----------
    name : str
        File name, in the scan's folder.
    start, stop : int
        Its points ``[start, stop)``; as many stand in its datasets.
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class ScanContents:
    """One scan as its masters see it.

    Attributes
    ----------
    record : ScanRecord
        Everything that was said, and the verdict if there is one.
    segments : mapping
        LaneQueue name to its segments, ascending and without a hole.
    values_file : str or None
        Name of the scan file in the scan's folder; None while there is none. Where
        there is one, it holds all channels of ``Storage.VALUES``.
    n_points : mapping
        Channel name to the points that the files hold, missing ones included.
    late : mapping
        Channel name to the files with its points that came too late.
    """

    record: ScanRecord
    segments: Mapping[str, tuple[SegmentFile, ...]] = field(default_factory=dict)
    values_file: str | None = None
    n_points: Mapping[str, int] = field(default_factory=dict)
    late: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def entry_name(self) -> str:
        """Name of the NXentry, ``N.1``."""
        return f"{self.record.identity.scan_number}.1"


def data_path(lane: LaneDescription, channel: ChannelDescription) -> str:
    """Return where a channel's points stand in segments and in the scan file.

    Ragged channels stand there as a padded two-dimensional dataset, texts as
    variable-length UTF-8.
    """
    name = "data" if lane.storage is Storage.FILES else channel.name
    return f"{DATA_GROUP}/{name}"


def length_path(lane: LaneDescription, channel: ChannelDescription) -> str:
    """Return where the lengths of a ragged channel's points stand."""
    return f"{data_path(lane, channel)}__length"
