"""Descriptions of a scan's channels and lanes, sent once, in ``prepared``.

Entries on the bus carry neither dtype nor shape: these descriptions do. Field names
follow blissdata where it has one (``dtype``, ``shape``, ``points``, ``display_name``).
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from scanbus.schemas.file_names import (
    STATIC_PREFIX,
    late_channel,
    late_lane_name,
)
from scanbus.schemas.frame_references import REFERENCE_CODEC
from scanbus.schemas.valid_names import (
    GivenName,
    LaneName,
    NexusName,
    PlainText,
    WantedName,
)

__all__ = [
    "ENTRY_OVERHEAD_BYTES",
    "MAX_ENTRY_BYTES",
    "MAX_POINTS",
    "RAGGED",
    "ChannelDescription",
    "FrameDescription",
    "LaneDescription",
    "NexusHints",
    "NumberName",
    "Role",
    "Stamp",
    "Storage",
]

# Redis refuses values above 512 MB (proto-max-bulk-len); a quarter of it stays free.
MAX_ENTRY_BYTES = 384 * 2**20
# Entry ids are unsigned 64-bit numbers; this leaves room for the seal and for sums.
MAX_POINTS = 2**48
# For an open segment, a writer holds in memory a few bytes per point if the lane has
# files of its own, and all bytes if it has small values.
MAX_SEGMENT_POINTS = 2**20
ENTRY_OVERHEAD_BYTES = 256
"""Bytes that an entry takes on the bus beside its payload: header, id, overhead."""
MAX_VALUES_BYTES = 2**28
# Frames of colour, of several thresholds, stacks of them: HDF5 and Blosc2 have more.
MAX_DIMENSIONS = 5
# Length of the one axis that may differ from point to point.
RAGGED = -1

NumberName = Literal[
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "complex64",
    "complex128",
]
DtypeName = Literal[NumberName, "string"]
# Range of the signed and unsigned 64-bit integers of HDF5.
SmallInteger = Annotated[int, Field(ge=-(2**63), lt=2**64)]
# HDF5 stores attributes in object headers of at most 64 KiB.
MAX_ATTRIBUTE_VALUES = 1000
_Number = bool | SmallInteger | float
_List = Field(max_length=MAX_ATTRIBUTE_VALUES)
AttributeValue = (
    PlainText
    | _Number
    | Annotated[list[PlainText], _List]
    | Annotated[list[_Number], _List]
)


_NO_STAMPS = ("string", "bool", "complex64", "complex128")


class Role(StrEnum):
    """Purpose of a channel; decides its place in the NeXus file."""

    AXIS = "axis"
    COUNTER = "counter"
    TIMER = "timer"
    SPECTRUM = "spectrum"
    DETECTOR = "detector"


class Stamp(StrEnum):
    """What a channel says of each point of its device: a time, or a number."""

    DETECTOR_TIME = "detector_time"
    """By the detector's own clock, in whatever units."""
    ARRIVAL_TIME = "arrival_time"
    """When a gateway had it, in seconds since 1970."""
    PUBLISH_TIME = "publish_time"
    """When it was handed over to the publisher, in seconds since 1970."""
    FRAME_NUMBER = "frame_number"
    """As the detector counts."""
    TRIGGER_ID = "trigger_id"
    PULSE_ID = "pulse_id"


class Storage(StrEnum):
    """Where a lane's points are stored."""

    VALUES = "values"
    """In the scan file, with the other small values."""
    FILES = "files"
    """In data files of its own, one per segment, joined by a virtual dataset (VDS)."""


class NexusHints(BaseModel):
    """How a channel appears in the NeXus file; every field is optional.

    Attributes
    ----------
    nx_class : str
        ``NX_class`` of the device's group; derived from the channel's role if not
        given.
    field : str
        Name of the dataset in the device's group.
    interpretation : str
        The NeXus attribute ``interpretation``; derived from type and shape if not
        given.
    axes : tuple of str
        Names of the axes of one point, slowest first. A field of this name in the
        device's group, with a number for each place, is that axis of plots.
    attributes : dict
        Further attributes of the dataset: text, numbers, or lists of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    nx_class: NexusName | None = None
    field: WantedName | None = None
    interpretation: PlainText | None = Field(default=None, max_length=63)
    axes: tuple[WantedName, ...] = Field(default=(), max_length=MAX_DIMENSIONS)
    attributes: dict[WantedName, AttributeValue] = Field(default_factory=dict)


class FrameDescription(BaseModel):
    """The frames to which a channel by reference refers.

    Attributes
    ----------
    dtype : str
        numpy's name of the type of one value; byte order does not matter.
    shape : tuple of int
        Shape of one frame.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    dtype: NumberName
    shape: tuple[Annotated[int, Field(gt=0, lt=2**31)], ...] = Field(
        min_length=1, max_length=MAX_DIMENSIONS
    )

    @property
    def n_bytes(self) -> int:
        """Size of the pixels of one frame, in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class ChannelDescription(BaseModel):
    """Description of one channel: a named series of points of a scan.

    Attributes
    ----------
    name : str
        Unique in the scan.
    group : str
        Name of the lane that carries it; channels of one group advance together.
    device : str
        The device that produces it: channels of one device share a NeXus group.
    role : Role
        Purpose of the channel.
    dtype : str
        numpy's name of the type of one value, or ``string``.
    shape : tuple of int
        Shape of one point: ``()`` scalar, ``(n,)`` spectrum, ``(i, j)`` frame
        (slow, fast), ``(threshold, i, j)`` and other stacks of frames, ``(i, j, 3)``
        colours; ``(-1,)`` a series whose length differs from point to point.
    units : str
        Units in the form that NeXus requires, ``""`` if none.
    points : int or None
        Number of points expected; the actual number is that of the seal.
    codec : str
        Codec that packs the points, see ``scanbus.bus.codecs``.
    max_point_bytes : int or None
        Largest size of one point in bytes; required for strings and ragged channels.
    fill_value : int, float or None
        Value stored in the file for a missing point.
    stamp : Stamp or None
        What it says of the points with the same number of the device's other channels.
    frames : FrameDescription or None
        The frames to which the points refer: a channel by reference, of type ``string``
        and codec ``reference``.
    original_name, original_group, original_device : str
        Those of the program where they are not NeXus names, or taken; else empty.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    name: NexusName
    group: LaneName
    device: NexusName
    role: Role = Role.COUNTER
    dtype: DtypeName = "float64"
    shape: tuple[Annotated[int, Field(ge=RAGGED, lt=2**31)], ...] = Field(
        default=(), max_length=MAX_DIMENSIONS
    )
    units: PlainText = Field(default="", max_length=63)
    display_name: PlainText = Field(default="", max_length=255)
    points: Annotated[int, Field(ge=0, lt=MAX_POINTS)] | None = None
    codec: str = Field(default="none", max_length=63)
    max_point_bytes: Annotated[int, Field(gt=0, le=MAX_ENTRY_BYTES)] | None = None
    fill_value: SmallInteger | float | None = None
    # NexusHints() would build the pydantic model at import time; this does not.
    nexus: NexusHints = NexusHints.model_construct()
    stamp: Stamp | None = None
    frames: FrameDescription | None = None
    original_name: GivenName = ""
    original_group: GivenName = ""
    original_device: GivenName = ""

    @model_validator(mode="after")
    def _fits_an_entry(self) -> Self:
        if RAGGED in self.shape and len(self.shape) != 1:
            raise ValueError(f"{self.name}: only one-dimensional points can be ragged")
        if 0 in self.shape:
            raise ValueError(f"{self.name}: shape {self.shape} has an axis of length 0")
        if self.is_string and self.shape:
            raise ValueError(
                f"{self.name}: string channels are scalar, got shape {self.shape}"
            )
        if self.is_variable and self.max_point_bytes is None:
            raise ValueError(
                f"{self.name}: strings and ragged channels need max_point_bytes"
            )
        if self.point_bytes > MAX_ENTRY_BYTES:
            raise ValueError(
                f"{self.name}: a point of {self.point_bytes} bytes does not fit into "
                f"an entry of at most {MAX_ENTRY_BYTES} bytes"
            )
        if self.nexus.axes and len(self.nexus.axes) != len(self.frame_channel.shape):
            raise ValueError(
                f"{self.name}: {len(self.nexus.axes)} axes for points of shape "
                f"{self.frame_channel.shape}"
            )
        if (self.frames is not None) != (self.codec == REFERENCE_CODEC):
            raise ValueError(
                f"{self.name}: frames by reference have the codec {REFERENCE_CODEC}, "
                "and no other channel has it"
            )
        if self.frames is not None and not self.is_string:
            raise ValueError(f"{self.name}: a channel by reference is of type string")
        if self.stamp is not None and (self.shape or self.dtype in _NO_STAMPS):
            raise ValueError(f"{self.name}: a stamp is one real number for each point")
        _check_fill_value(self.frame_channel)
        return self

    @property
    def given_name(self) -> str:
        """The channel's name in its program."""
        return self.original_name or self.name

    @property
    def is_string(self) -> bool:
        """Whether points are strings."""
        return self.dtype == "string"

    @property
    def is_reference(self) -> bool:
        """Whether points refer to frames in files that the detector writes."""
        return self.frames is not None

    @property
    def frame_channel(self) -> Self:
        """The channel as its frames are: itself, unless it is one by reference."""
        if self.frames is None:
            return self
        return self.model_copy(
            update={
                "dtype": self.frames.dtype,
                "shape": self.frames.shape,
                "codec": "none",
                "frames": None,
                "max_point_bytes": None,
            }
        )

    @property
    def is_ragged(self) -> bool:
        """Whether the length of a point differs from point to point."""
        return RAGGED in self.shape

    @property
    def is_variable(self) -> bool:
        """Whether the size of a point in bytes differs from point to point."""
        return self.is_string or self.is_ragged

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """Little-endian type of one value; uint8 for strings."""
        return _numpy_dtype(self.dtype)

    @property
    def point_bytes(self) -> int:
        """Size of one unpacked point in bytes; an upper bound for variable channels."""
        if self.is_variable:
            return 4 + (self.max_point_bytes or 0)
        size = self.numpy_dtype.itemsize
        for length in self.shape:
            size *= length
        return size

    @property
    def missing_value(self) -> int | float | complex | bool | str:
        """Value stored in the file for a missing point.

        The declared `fill_value`; else the largest unsigned or the smallest signed
        integer, as detectors use for "no value", False, or NaN. Always an empty
        string for string channels.
        """
        if self.is_string:
            return ""
        if self.fill_value is not None:
            return self.fill_value
        kind = self.numpy_dtype.kind
        if kind == "b":
            return False
        if kind in "iu":
            limits = np.iinfo(self.dtype)
            return int(limits.max if kind == "u" else limits.min)
        return float("nan")


def _check_fill_value(channel: ChannelDescription) -> None:
    """Refuse a value that the dtype cannot represent: HDF5 would convert it."""
    value, kind = channel.fill_value, channel.numpy_dtype.kind
    if value is None or channel.is_string or kind in "fc":
        return
    limits = np.iinfo("u1" if kind == "b" else channel.dtype)
    most = 1 if kind == "b" else limits.max
    if not float(value).is_integer() or not limits.min <= value <= most:
        raise ValueError(
            f"{channel.name}: fill value {value} is not a value of type {channel.dtype}"
        )


@cache
def _numpy_dtype(name: str) -> np.dtype[np.generic]:
    return np.dtype("u1" if name == "string" else name).newbyteorder("<")


class LaneDescription(BaseModel):
    """Description of one lane: a Redis stream, and how its points are stored in files.

    Attributes
    ----------
    name : str
        Name of the group, or of the only channel.
    storage : Storage
        In the scan file, or in data files of its own.
    channels : tuple of ChannelDescription
        In the order of the blocks of an entry.
    points_per_segment : int
        Points of one segment; no entry crosses a segment boundary.
    segment_bytes : int or None
        For small values: size on the bus, in bytes, at which a segment ends early,
        after the entry that reaches it. Each entry counts with its payload and
        `ENTRY_OVERHEAD_BYTES`.
    points_per_chunk : int
        Points of one HDF5 chunk; divides `points_per_segment`. An entry that is
        exactly one chunk is stored unchanged (direct chunk write).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    name: LaneName
    storage: Storage
    channels: tuple[ChannelDescription, ...] = Field(min_length=1, max_length=4096)
    points_per_segment: int = Field(gt=0, lt=MAX_POINTS)
    points_per_chunk: int = Field(gt=0, lt=MAX_POINTS)
    segment_bytes: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.points_per_segment % self.points_per_chunk:
            raise ValueError(
                f"{self.name}: points_per_segment {self.points_per_segment} is not a "
                f"multiple of points_per_chunk {self.points_per_chunk}"
            )
        if any(channel.group != self.name for channel in self.channels):
            raise ValueError(f"{self.name}: has a channel of another group")
        if len({channel.name for channel in self.channels}) != len(self.channels):
            raise ValueError(f"{self.name}: has two channels of the same name")
        if self.storage is Storage.FILES:
            self._check_files()
        if self.point_bytes > MAX_ENTRY_BYTES:
            raise ValueError(
                f"{self.name}: a point of {self.point_bytes} bytes does not fit into "
                f"an entry of at most {MAX_ENTRY_BYTES} bytes"
            )
        self._check_segment()
        return self

    def _check_segment(self) -> None:
        if self.points_per_segment > MAX_SEGMENT_POINTS:
            raise ValueError(
                f"{self.name}: segments of {self.points_per_segment} points; the limit "
                f"is {MAX_SEGMENT_POINTS}"
            )
        if self.storage is Storage.FILES or self.points_per_segment == 1:
            return
        fixed = [one.point_bytes for one in self.channels if not one.is_variable]
        nbytes = self.points_per_segment * sum(fixed)
        if nbytes > MAX_VALUES_BYTES:
            raise ValueError(
                f"{self.name}: segments of {nbytes} bytes; the limit for small values "
                f"is {MAX_VALUES_BYTES}"
            )

    def _check_files(self) -> None:
        channel = self.channels[0]
        if len(self.channels) != 1 or channel.is_variable:
            raise ValueError(
                f"{self.name}: data files of its own need a single channel of fixed "
                "shape"
            )
        chunk_bytes = self.points_per_chunk * channel.point_bytes
        if chunk_bytes > MAX_ENTRY_BYTES:
            raise ValueError(
                f"{self.name}: a chunk of {chunk_bytes} bytes does not fit into an "
                f"entry of at most {MAX_ENTRY_BYTES} bytes"
            )

    @property
    def point_bytes(self) -> int:
        """Largest size of one unpacked point of all channels together, in bytes."""
        return sum(channel.point_bytes for channel in self.channels)

    @property
    def original_name(self) -> str:
        """The group's name in its program if that is no NeXus name; else empty."""
        first = self.channels[0]
        is_own = self.name == first.name  # Of a channel without group.
        return first.original_group or (first.original_name if is_own else "")

    @property
    def is_late(self) -> bool:
        """Whether it carries late points: entry headers name the point of each."""
        return late_channel(self.name) is not None

    @property
    def is_static(self) -> bool:
        """Whether its one point is an array to which metadata refer."""
        return self.name.startswith(STATIC_PREFIX)

    @property
    def is_declared(self) -> bool:
        """Whether ``prepared`` names it; other lanes are made when they are needed."""
        return not (self.is_late or self.is_static)

    def late_lane(self, channel: ChannelDescription) -> LaneDescription:
        """Return the lane for a channel's late points.

        They were sent after their place in the channel's own lane was closed. Here they
        are numbered in order of arrival, one per entry; the entry's header names the
        point of the channel.
        """
        name = late_lane_name(channel.name)
        per_segment = max(1, min(1024, MAX_VALUES_BYTES // channel.point_bytes))
        return LaneDescription(
            name=name,
            storage=self.storage,
            channels=(channel.model_copy(update={"group": name}),),
            points_per_segment=per_segment,
            points_per_chunk=1 if self.storage is Storage.FILES else per_segment,
        )
