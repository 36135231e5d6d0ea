"""Translate an NTNDArray, as areaDetector sends it, to a frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanbus.publisher.gateways.epics.packed_pixels import unpackable
from scanbus.publisher.gateways.runner.messages import FrameArrived, FrameData
from scanbus.schemas.errors import MessageError
from scanbus.schemas.valid_names import nexus_name

__all__ = [
    "NdArray",
    "decode_ndarray",
    "image_time",
    "is_image",
    "is_ndarray",
    "is_readable",
]

_MAX_DIMENSIONS = 10
_MAX_ATTRIBUTES = 200
_MAX_BYTES = 2**31
# NDDataType_t of areaDetector, in codec.parameters.
_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
# Before it had integers of 64 bits.
_OLD_TYPES = {6: "f4", 7: "f8"}


@dataclass(frozen=True, slots=True)
class NdArray:
    """An NTNDArray of a series, with the name of its PV."""

    series: str
    value: Any


def is_ndarray(value: Any) -> bool:
    """Whether a PV is one for images."""
    return str(value.getID()).startswith("epics:nt/NTNDArray:")


def is_readable(value: Any) -> bool:
    """Whether a value has the fields of an NTNDArray: a server may send any."""
    try:
        int(value.uniqueId)
        str(value.codec.name)
        int(value.compressedSize)
        int(value.uncompressedSize)
        for each in value.dimension:
            int(each.size)
        image_time(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return True


def is_image(value: Any) -> bool:
    """Whether an NTNDArray has pixels; a PV has none before its first image."""
    return value.get("value") is not None and len(value.get("dimension") or ()) > 0


def image_time(value: Any) -> float | None:
    """Return when an image was taken, in seconds since 1970; None if it is not said."""
    for name in ("dataTimeStamp", "timeStamp"):
        stamp = value.get(name)
        if stamp is not None and stamp.secondsPastEpoch > 0:
            return float(stamp.secondsPastEpoch + stamp.nanoseconds / 1e9)
    return None


def decode_ndarray(content: NdArray) -> FrameArrived:
    """Return the frame of an NTNDArray, with its attributes.

    Raises
    ------
    MessageError
        If its sizes, type or codec do not fit each other.
    """
    value = content.value
    if not is_readable(value):
        raise MessageError(content.series, "its value is no NTNDArray")
    number = int(value.uniqueId)
    where = f"{content.series}, frame {number}"
    sizes = [int(each.size) for each in value.dimension]
    if not 1 <= len(sizes) <= _MAX_DIMENSIONS or min(sizes) < 1:
        raise MessageError(where, f"dimensions {sizes[:_MAX_DIMENSIONS]}")
    data = _pixels(where, value, tuple(reversed(sizes)))
    values = dict(_attributes(value))
    return FrameArrived(content.series, number, {"": data}, image_time(value), values)


def _pixels(where: str, value: Any, shape: tuple[int, ...]) -> FrameData:
    array = value.value
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        raise MessageError(where, "no pixels")
    codec = str(value.codec.name)
    if not codec:
        if array.size != math.prod(shape):
            raise MessageError(where, f"{array.size} pixels do not fit {shape}")
        return unpackable(where, "", array.tobytes(), shape, array.dtype)
    dtype = _dtype(where, value, shape)
    blob = array.tobytes()
    n_packed = int(value.compressedSize)
    if not 0 < n_packed <= len(blob):
        raise MessageError(where, f"{len(blob)} bytes, of which {n_packed} are packed")
    return unpackable(where, codec, blob[:n_packed], shape, dtype)


def _dtype(where: str, value: Any, shape: tuple[int, ...]) -> np.dtype[Any]:
    """Return the type of packed pixels, which is told by a number and by their size."""
    number = value.codec.parameters
    n_bytes = int(value.uncompressedSize)
    n_pixels = math.prod(shape)
    if isinstance(number, int) and 0 <= number < len(_TYPES) and n_bytes <= _MAX_BYTES:
        for name in (_TYPES[number], _OLD_TYPES.get(number)):
            if name and np.dtype(name).itemsize * n_pixels == n_bytes:
                return np.dtype(name)
    raise MessageError(
        where, f"type {number!r} and {n_bytes} bytes do not fit pixels of {shape}"
    )


def _attributes(value: Any) -> Iterator[tuple[str, float | int | str]]:
    """Yield the attributes that are one number or a text."""
    found: Any
    given = value.get("attribute")
    for each in given[:_MAX_ATTRIBUTES] if isinstance(given, list) else ():
        try:
            name, found = nexus_name(str(each.name).lower()), each.value
        except AttributeError:
            continue  # A structure of another kind costs itself alone.
        if isinstance(found, bool):
            yield name, int(found)
        elif isinstance(found, int | float | str):
            yield name, found
