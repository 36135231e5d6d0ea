"""Translate messages of JSON and bytes: a header that describes the array after it.

Two conventions share the form. With ``array-1.0``, as PSI's std-daq and mflow send it,
a stream is frames and nothing else. With MAX IV's, ``header`` and ``series_end`` stand
around the ``image`` messages of a series.

Pure: no sockets. Messages are untrusted; nothing is allocated for a size that a message
only declares, and parts after the array, in which some senders pickle objects, are not
looked at.

References
----------
https://github.com/paulscherrerinstitute/htypes; std_live_stream in
https://github.com/paulscherrerinstitute/std_detector_buffer;
https://github.com/maxiv-science/streaming-receiver.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    Message,
    SeriesEnded,
    SeriesStarted,
)
from scanbus.publisher.gateways.wire.framing import framed
from scanbus.publisher.gateways.wire.json_part import (
    read_object,
    shown,
    whole_number,
)
from scanbus.publisher.gateways.wire.nexus_fields import described_v1, plain_value
from scanbus.schemas.errors import MessageError

__all__ = ["array_number", "decode_arrays"]

_SOURCE: Final = "ZeroMQ stream"
_ARRAY: Final = re.compile(r"array-1\.\d{1,3}")
_TYPES: Final = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float32", "float64",
)  # fmt: skip
_ORDER_KEYS: Final = ("encoding", "endianess", "endianness")
_MAX_AXES, _MAX_AXIS = 4, 2**20
_MAX_NAME_CHARS = 200
# Keys of a frame's header that describe the array, and no value of the frame.
_DESCRIBING: Final = frozenset(
    {"htype", "shape", "type", "frame", "compression", *_ORDER_KEYS}
)
_VALUE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAX_VALUES = 16


def decode_arrays(parts: Sequence[bytes]) -> Message:
    """Return what one message says.

    Parameters
    ----------
    parts : sequence of bytes
        All parts of one ZeroMQ message.

    Raises
    ------
    MessageError
        If it is none of the messages, or is inconsistent.
    """
    first = read_object(f"{_SOURCE}, part 1", parts[0])
    kind = first.get("htype")
    if kind == "image" or _is_array(kind):
        return _frame(first, parts)
    if kind == "header":
        return _header(first, parts)
    if kind == "series_end":
        return SeriesEnded("")
    raise MessageError(_SOURCE, f"part 1: unknown htype {shown(kind)}")


def array_number(parts: Sequence[bytes]) -> int | None:
    """Return the frame number of an ``array-1.0`` message; None for any other.

    Examples
    --------
    >>> array_number([b'{"htype": "array-1.0", "frame": 7}', b""])
    7
    >>> array_number([b"{", b""])
    """
    if len(parts) < 2:
        return None
    try:
        first = read_object(_SOURCE, parts[0])
        is_array = _is_array(first.get("htype"))
        return whole_number(_SOURCE, first, "frame") if is_array else None
    except MessageError:
        return None  # Decoding it says what is wrong.


def _is_array(kind: object) -> bool:
    return isinstance(kind, str) and _ARRAY.fullmatch(kind) is not None


def _header(first: Mapping[str, Any], parts: Sequence[bytes]) -> SeriesStarted:
    """Return the start of a MAX IV series; its further parts describe the detector."""
    filename = first.get("filename")
    key = filename[-_MAX_NAME_CHARS:] if isinstance(filename, str) else ""
    number = first.get("msg_number")
    series = str(number) if type(number) is int and abs(number) < 2**63 else key
    config: dict[str, Any] = {}
    if len(parts) > 1:
        config = read_object(f"{_SOURCE}, header, part 2", parts[1])
    described = described_v1(
        series, {"count_time": config.get("exptime"), **config}, {}
    )
    return SeriesStarted(
        series,
        key=key,
        n_frames=described.n_frames,
        fields=described.fields,
        metadata=described.metadata,
    )


def _frame(first: dict[str, Any], parts: Sequence[bytes]) -> FrameArrived:
    number = whole_number(_SOURCE, first, "frame")
    where = f"{_SOURCE}, frame {number}"
    if len(parts) < 2:
        raise MessageError(where, "expected a part with the array after the header")
    shape = _shape(where, first.get("shape"))
    dtype = _dtype(where, first)
    n_bytes = math.prod(shape) * dtype.itemsize
    name = _compression(first)
    codec, payload = framed(where, name, parts[1], n_bytes, dtype.itemsize)
    data = FrameData(payload, codec, shape, dtype)
    data.check(where)
    return FrameArrived("", number, {"": data}, values=dict(_values(first)))


def _shape(where: str, shape: object) -> tuple[int, ...]:
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= _MAX_AXES
        or not all(type(n) is int and 0 < n <= _MAX_AXIS for n in shape)
    ):
        raise MessageError(where, f"shape {shown(shape)} is no size of an array")
    return tuple(shape)


def _dtype(where: str, first: Mapping[str, Any]) -> np.dtype[Any]:
    name = first.get("type")
    if name not in _TYPES:
        raise MessageError(where, f"type {shown(name)} is none of {', '.join(_TYPES)}")
    orders = {key: first[key] for key in _ORDER_KEYS[1:] if key in first}
    for key, order in orders.items():
        if order not in ("little", "big"):
            raise MessageError(where, f"{key} {shown(order)}: expected little or big")
    given = [*orders.values(), first.get("encoding")]
    if "little" in given and "big" in given:
        raise MessageError(where, "two keys of the header differ in the byte order")
    return np.dtype(str(name)).newbyteorder(">" if "big" in given else "<")


def _compression(first: Mapping[str, Any]) -> object:
    """Return the name of the compression; ``encoding`` may be one, or a byte order."""
    name, encoding = first.get("compression"), first.get("encoding")
    return encoding if name is None and encoding not in ("little", "big") else name


def _values(first: Mapping[str, Any]) -> Iterator[tuple[str, float | int | str]]:
    """Yield plain values of the header, such as pulse ids; the first ones of many."""
    names = [
        key
        for key in first
        if key not in _DESCRIBING and _VALUE_NAME.fullmatch(key) is not None
    ]
    for name in names[:_MAX_VALUES]:
        value = plain_value(first[name])
        if value is not None:
            yield name, int(value) if isinstance(value, bool) else value
