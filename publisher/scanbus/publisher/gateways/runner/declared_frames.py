"""Compare a frame with the first one of its series, by which channels are declared.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scanbus.publisher.gateways.runner.messages import FrameArrived, FrameData
from scanbus.schemas.errors import MessageError, PayloadError

__all__ = ["check_frame", "stays_packed", "unpacked"]


def check_frame(frame: FrameArrived, first: Mapping[str, FrameData]) -> None:
    """Refuse a frame that is unlike the first one.

    Raises
    ------
    MessageError
        If its channels differ, or the shape or type of one of them.
    """
    if frame.channels.keys() != first.keys():
        names = ", ".join(frame.channels)
        raise MessageError(frame.where, f"channels {names} differ from before")
    for name, data in frame.channels.items():
        expected = first[name]
        native = data.dtype.newbyteorder("="), expected.dtype.newbyteorder("=")
        if data.shape != expected.shape or native[0] != native[1]:
            raise MessageError(
                frame.where,
                f"expected {expected.shape} {expected.dtype.name} as in the first "
                f"frame, got {data.shape} {data.dtype.name}",
            )


def stays_packed(data: FrameData, first: FrameData) -> bool:
    """Whether the bytes of a frame may stay as they are."""
    codec = first.codec if first.is_packed else "bitshuffle-lz4"
    return data.is_packed and data.codec == codec


def unpacked(frame: FrameArrived, data: FrameData) -> Any:
    """Return the pixels of one channel of a frame.

    Raises
    ------
    MessageError
        If they do not unpack.
    """
    try:
        return data.array()
    except PayloadError as error:
        raise MessageError(frame.where, str(error)) from error
