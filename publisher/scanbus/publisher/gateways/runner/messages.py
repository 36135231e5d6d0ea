"""What a detector's messages say, in one form for all gateways.

A gateway translates the messages of its sender to these; the runner makes scans of
them. Pure: no sockets, no Redis, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec
from scanbus.schemas.errors import MessageError, PayloadError

__all__ = [
    "FrameArrived",
    "FrameData",
    "Message",
    "NoteArrived",
    "SeriesDescribed",
    "SeriesEnded",
    "SeriesStarted",
    "SlowChannel",
    "ValueArrived",
]

# LZ4 packs at most 255 bytes into one; Zstandard a block of 8 KiB into some twenty.
_MAX_RATIO = 256
_MAX_RATIOS = {"bitshuffle-zstd": 1024}
_LEAST_BYTES = 4096
# Of a frame, unpacked: a packed part of 1 GiB could declare 256 times as much.
_MAX_FRAME_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class FrameData:
    """The pixels of one frame as they came.

    Parameters
    ----------
    payload : bytes
        What the codec stores for a chunk of this frame; plain pixels with ``none``.
    codec : str
        Codec of the bus.
    shape : tuple of int
        Shape of the frame, slow axis first.
    dtype : numpy.dtype
        Type of the pixels in the payload, of any byte order.
    """

    payload: bytes
    codec: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_packed(self) -> bool:
        """Whether the payload may stand on the bus unchanged."""
        return self.codec != "none" and self.dtype.isnative

    @property
    def n_bytes(self) -> int:
        """Size of the pixels when they are unpacked, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check(self, source: str) -> None:
        """Compare the sizes in the payload with shape and type; nothing is unpacked.

        Parameters
        ----------
        source : str
            Of which message, for the error.

        Raises
        ------
        MessageError
            If they differ, or no chunk can hold such a frame.
        """
        n_bytes = self.n_bytes
        ratio = _MAX_RATIOS.get(self.codec, _MAX_RATIO)
        if n_bytes > ratio * len(self.payload) + _LEAST_BYTES:
            raise MessageError(
                source, f"{len(self.payload)} bytes cannot unpack to {n_bytes}"
            )
        if n_bytes > _MAX_FRAME_BYTES:
            raise MessageError(source, f"a frame of {n_bytes} bytes is too large")
        try:
            find_codec(self.codec).check(self.payload, self.dtype, self.shape)
        except (PayloadError, ValueError) as error:
            raise MessageError(source, str(error)) from error

    def array(self) -> npt.NDArray[Any]:
        """Return the pixels, shape `shape`, in native byte order.

        Raises
        ------
        PayloadError
            If the payload does not unpack.
        """
        codec = find_codec(self.codec)
        pixels = codec.decode(self.payload, self.dtype, self.shape)
        return pixels.astype(self.dtype.newbyteorder("="), copy=False)


@dataclass(frozen=True, slots=True)
class SlowChannel:
    """A value that changes by itself, not with each frame, and what it was before.

    Parameters
    ----------
    name : str
        Its channel in the scan.
    source : str
        Where it comes from, such as the name of a PV.
    value : float or str, optional
        Its last value before the series; None if there was none.
    time : float, optional
        Since when it has that value, in seconds since 1970.
    age_s : float, optional
        How old that was when the series began, in seconds.
    stale : str
        Why that value may no longer hold; empty if it does.
    units : str
        Its units.
    severity, status : str
        The alarm that this value had; empty without one.
    is_text : bool
        Whether its values are text; others are float64.
    """

    name: str
    source: str
    value: float | str | None = None
    time: float | None = None
    age_s: float | None = None
    stale: str = ""
    units: str = ""
    is_text: bool = False
    severity: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class SeriesStarted:
    """A series begins; frames follow.

    Parameters
    ----------
    series : str
        Name of the series, by which its frames and its end refer to it.
    key : str
        Name that is unique for this sender, also after its restart; empty if it gives
        none.
    n_frames : int, optional
        Number of frames that it will have.
    fields : mapping
        Fields of the detector's group in the NeXus file.
    channel_fields : mapping
        Channel to further fields of its own group, if there are several.
    metadata : mapping
        Metadata tree of the rest of the scan, with NeXus names.
    first_number : int, optional
        Number of its first frame, if the sender's numbers begin anywhere.
    slow : sequence of SlowChannel
        Values that change by themselves.
    found_at : int, optional
        Number of the frame that shows that a series is on the way, where nothing says
        if it is the one that a killed gateway left.
    """

    series: str
    key: str = ""
    n_frames: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    channel_fields: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict[str, Mapping[str, Any]]
    )
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    first_number: int | None = None
    slow: Sequence[SlowChannel] = ()
    found_at: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesDescribed:
    """More about a series, between its start and its first frame.

    Parameters
    ----------
    series : str
        The series.
    fields : mapping
        Further fields of the detector's group in the NeXus file.
    """

    series: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FrameArrived:
    """One frame of each channel of a detector.

    Parameters
    ----------
    series : str
        The series; empty if the message does not name it.
    number : int
        Number of the frame, as the sender counts.
    channels : mapping
        Channel to its pixels; the empty name for a detector with one channel.
    time : float, optional
        When it was taken, in seconds since 1970, by the detector's clock.
    values : mapping
        Further values of this frame, such as times and trigger ids.
    units : mapping
        Units of those values of which they are known.
    """

    series: str
    number: int
    channels: Mapping[str, FrameData]
    time: float | None = None
    values: Mapping[str, float | int | str] = field(
        default_factory=dict[str, "float | int | str"]
    )
    units: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def where(self) -> str:
        """Which frame it is, for an error."""
        return f"frame {self.number} of series {self.series or '?'}"


@dataclass(frozen=True, slots=True)
class SeriesEnded:
    """A series is over, also if it was cancelled.

    Parameters
    ----------
    series : str
        The series.
    metadata : mapping
        What is known at the end only, such as ``end_time``.
    """

    series: str
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ValueArrived:
    """A slow channel has another value.

    Parameters
    ----------
    name : str
        The channel.
    value : float or str, optional
        The value; None if it is not known any more.
    time : float
        Since when, in seconds since 1970.
    """

    name: str
    value: float | str | None
    time: float


@dataclass(frozen=True, slots=True)
class NoteArrived:
    """Something that readers of the scan should know.

    Parameters
    ----------
    text : str
        A sentence.
    """

    text: str


Message: TypeAlias = (
    SeriesStarted
    | SeriesDescribed
    | FrameArrived
    | SeriesEnded
    | ValueArrived
    | NoteArrived
)
