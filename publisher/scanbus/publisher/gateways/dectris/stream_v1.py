"""Translate messages of DECTRIS stream V1: multipart, of JSON parts and raw parts.

The header is one message (``dheader-1.0``), each image is one (``dimage-1.0``), and so
is the end (``dseries_end-1.0``). All parts of a message are given together: how many
there are depends on settings of the detector, such as an appendix.

Pure: no sockets. Messages are untrusted; nothing is allocated for a size that a message
only declares.

References
----------
SIMPLON API 1.8, "Stream interface"; 1.6, section 4.4.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    Message,
    SeriesEnded,
    SeriesStarted,
)
from scanbus.publisher.gateways.wire.framing import framed_lz4
from scanbus.publisher.gateways.wire.json_part import (
    read_object,
    shown,
    whole_number,
)
from scanbus.publisher.gateways.wire.nexus_fields import described_v1
from scanbus.schemas.errors import MessageError

__all__ = ["decode_v1"]

_SOURCE = "DECTRIS stream V1"
# Of the raw parts that follow a header, by the htype before them.
_ARRAYS = {
    "dflatfield-1.0": "flatfield",
    "dpixelmask-1.0": "pixel_mask",
    "dcountrate_table-1.0": "countrate_correction_lookup_table",
}
_ARRAY_TYPES = ("float32", "float64", "uint8", "uint16", "uint32", "int32")
_IMAGE_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32")
_ENCODING = re.compile(r"(?:bs(?P<bits>8|16|32|64)-?)?(?P<lz4>lz4)?(?P<order>[<>])")
_MAX_AXIS = 2**20
_MAX_APPENDIX_BYTES = 2**16


def decode_v1(parts: Sequence[bytes]) -> Message:
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
    if not parts:
        raise MessageError(_SOURCE, "a message without parts")
    first = read_object(f"{_SOURCE}, part 1", parts[0])
    kind = first.get("htype")
    if kind == "dimage-1.0":
        return _image(first, parts)
    if kind == "dheader-1.0":
        return _header(first, parts)
    if kind == "dseries_end-1.0":
        return SeriesEnded(_series(first))
    raise MessageError(_SOURCE, f"part 1: unknown htype {shown(kind)}")


def _series(first: dict[str, Any]) -> str:
    return str(whole_number(f"{_SOURCE}, part 1", first, "series"))


# ------------------------------------------------------------------------ the header


def _header(first: dict[str, Any], parts: Sequence[bytes]) -> SeriesStarted:
    series = _series(first)
    detail = first.get("header_detail")
    if detail not in ("none", "basic", "all"):
        raise MessageError(_SOURCE, f"header_detail {shown(detail)} is unknown")
    config: dict[str, Any] = {}
    rest = list(parts[1:])
    if detail != "none":
        if not rest:
            raise MessageError(_SOURCE, "the header lacks the configuration")
        config = read_object(f"{_SOURCE}, configuration", rest.pop(0))
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    while len(rest) >= 2 and detail == "all" and len(arrays) < len(_ARRAYS):
        name, array = _header_array(rest.pop(0), rest.pop(0))
        arrays[name] = array
    started = described_v1(series, config, arrays)
    if not rest:
        return started
    return replace(started, metadata={**started.metadata, "user_data": _text(rest[0])})


def _header_array(described: bytes, blob: bytes) -> tuple[str, np.ndarray[Any, Any]]:
    source = f"{_SOURCE}, header"
    found = read_object(source, described)
    htype = found.get("htype")
    name = _ARRAYS.get(htype) if isinstance(htype, str) else None
    if name is None:
        raise MessageError(source, f"unknown htype {shown(htype)}")
    shape = _shape(f"{source}, {name}", found)
    dtype = _dtype(f"{source}, {name}", found, _ARRAY_TYPES)
    expected = math.prod(shape) * dtype.itemsize
    if len(blob) != expected:
        raise MessageError(
            source, f"{name}: expected {expected} bytes of {shape}, got {len(blob)}"
        )
    # The table has two rows, x and y, and is not an image: its shape stays.
    if name == "countrate_correction_lookup_table":
        shape = shape[::-1]
    return name, np.frombuffer(blob, dtype).reshape(shape)


def _text(part: bytes) -> str:
    """Return an appendix: any text, and whatever else it may be."""
    return part[:_MAX_APPENDIX_BYTES].decode("utf-8", "replace")


# -------------------------------------------------------------------------- an image


def _image(first: dict[str, Any], parts: Sequence[bytes]) -> FrameArrived:
    source = f"{_SOURCE}, part 1"
    number = whole_number(source, first, "frame")
    # An example of the vendor's page has no series.
    series = _series(first) if "series" in first else ""
    where = f"{_SOURCE}, frame {number}"
    if len(parts) < 3:
        raise MessageError(where, f"expected 4 parts or more, got {len(parts)}")
    data = _frame_data(where, read_object(where, parts[1]), parts[2])
    values = dict(_frame_values(where, first, parts))
    return FrameArrived(series, number, {"": data}, values=values)


def _frame_data(where: str, found: dict[str, Any], blob: bytes) -> FrameData:
    shape = _shape(where, found)
    dtype = _dtype(where, found, _IMAGE_TYPES)
    encoding = found.get("encoding")
    match = _ENCODING.fullmatch(encoding) if isinstance(encoding, str) else None
    if match is None:
        raise MessageError(where, f"encoding {shown(encoding)} is unknown")
    size = found.get("size")
    if size is not None and size != len(blob):
        raise MessageError(where, f"expected {shown(size)} bytes, got {len(blob)}")
    dtype = dtype.newbyteorder("<" if match["order"] == "<" else ">")
    codec = "none"
    if match["bits"]:
        if not match["lz4"] or int(match["bits"]) != 8 * dtype.itemsize:
            raise MessageError(
                where, f"encoding {encoding!r} does not fit pixels of {dtype.name}"
            )
        codec = "bitshuffle-lz4"
    elif match["lz4"]:
        codec, blob = framed_lz4(where, blob, math.prod(shape) * dtype.itemsize)
    data = FrameData(blob, codec, shape, dtype)
    data.check(where)
    return data


def _frame_values(
    where: str, first: dict[str, Any], parts: Sequence[bytes]
) -> Iterator[tuple[str, float | int | str]]:
    """Yield times, hash and appendix: what is unusable there costs no frame."""
    digest = first.get("hash")
    if isinstance(digest, str) and 0 < len(digest) <= 64:
        yield "hash", digest
    if len(parts) > 3:
        try:
            times = read_object(f"{where}, times", parts[3])
        except MessageError:
            times = {}
        for name in ("start_time", "stop_time", "real_time"):
            ticks = times.get(name)
            if type(ticks) is int and abs(ticks) < 2**63:
                yield name, ticks
    if len(parts) > 4:
        yield "image_appendix", _text(parts[4])


def _shape(where: str, found: dict[str, Any]) -> tuple[int, ...]:
    """Return a shape of the stream, (x, y) or (x, y, z), in the order of numpy."""
    shape = found.get("shape")
    if (
        not isinstance(shape, list)
        or not 2 <= len(shape) <= 3
        or not all(type(n) is int and 0 < n <= _MAX_AXIS for n in shape)
    ):
        raise MessageError(where, f"shape {shown(shape)} is no size of an image")
    *slow, y, x = reversed(shape)
    return (y, x) if slow in ([], [1]) else (*slow, y, x)


def _dtype(where: str, found: dict[str, Any], known: Sequence[str]) -> np.dtype[Any]:
    name = found.get("type")
    if name not in known:
        raise MessageError(where, f"type {shown(name)} is none of {', '.join(known)}")
    return np.dtype(str(name)).newbyteorder("<")
