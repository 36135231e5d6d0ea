"""Data models of the bus: scan documents, channel descriptions, verdicts, errors.

Pure data with validation. This package uses no Redis, no HDF5 and no clock.
"""

from scanbus.schemas.channels import (
    ENTRY_OVERHEAD_BYTES,
    MAX_ENTRY_BYTES,
    MAX_POINTS,
    ChannelDescription,
    FrameDescription,
    LaneDescription,
    NexusHints,
    Role,
    Storage,
)
from scanbus.schemas.documents import (
    MAX_COUNTED_NUMBER,
    MAX_LOST,
    PROTOCOL,
    EndReason,
    Event,
    LostData,
    PlotDescription,
    Positioner,
    ScanAnnounced,
    ScanEnded,
    ScanIdentity,
    ScanJudged,
    ScanPrepared,
    ScanRenumbered,
    ScanStarted,
    ScanUpdated,
    parse_announcement,
    parse_event,
)
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.file_names import LATE_PREFIX
from scanbus.schemas.frame_references import FrameRun, FrameUrl, parse_frame_url
from scanbus.schemas.metadata import (
    MAX_METADATA_KEYS,
    ArrayValue,
    is_array,
    merged,
    static_lanes,
)
from scanbus.schemas.verdict import (
    ChannelLedger,
    PointRange,
    Verdict,
    VerdictWord,
    ranges,
)

__all__ = [
    "ENTRY_OVERHEAD_BYTES",
    "LATE_PREFIX",
    "MAX_COUNTED_NUMBER",
    "MAX_ENTRY_BYTES",
    "MAX_LOST",
    "MAX_METADATA_KEYS",
    "MAX_POINTS",
    "PROTOCOL",
    "ArrayValue",
    "ChannelDescription",
    "ChannelLedger",
    "EndReason",
    "Event",
    "FrameDescription",
    "FrameRun",
    "FrameUrl",
    "LaneDescription",
    "LostData",
    "NexusHints",
    "PlotDescription",
    "PointRange",
    "Positioner",
    "Role",
    "ScanAnnounced",
    "ScanEnded",
    "ScanIdentity",
    "ScanJudged",
    "ScanPrepared",
    "ScanRenumbered",
    "ScanStarted",
    "ScanUpdated",
    "ScanbusError",
    "Storage",
    "Verdict",
    "VerdictWord",
    "is_array",
    "merged",
    "parse_announcement",
    "parse_event",
    "parse_frame_url",
    "ranges",
    "static_lanes",
]
