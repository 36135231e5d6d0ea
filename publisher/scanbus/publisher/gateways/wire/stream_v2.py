"""Translate messages of DECTRIS stream V2: one CBOR map each, `start`, `image`, `end`.

Jungfraujoch's messages are a superset: ``calibration`` messages follow the start, an
image has more values, and of images without pixels there is ``metadata``, which is
skipped. So are unknown keys.

Pure: no sockets. Messages are untrusted; see `cbor` for the bounds.

References
----------
https://github.com/dectris/documentation, "stream_v2";
https://jungfraujoch.readthedocs.io, "CBOR messages".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    Message,
    SeriesDescribed,
    SeriesEnded,
)
from scanbus.publisher.gateways.wire.cbor import Unusable, read_map
from scanbus.publisher.gateways.wire.json_part import shown, whole_number
from scanbus.publisher.gateways.wire.nexus_fields import described_v2, plain_value
from scanbus.schemas.errors import MessageError, PayloadError

__all__ = ["decode_v2"]

_SOURCE = "stream V2"
_MAX_CHANNELS = 16
_MAX_NAME = 64
# Of the arrays of a start message, unpacked: 16 channels of 16 megapixels have 1 GiB.
_MAX_ARRAY_BYTES = 2**30
_TIMES = ("start_time", "stop_time", "end_time", "real_time")
# Values of an image that Jungfraujoch adds.
_NUMBERS = (
    "original_image_id", "xfel_pulse_id", "xfel_event_code", "storage_cell",
    "image_collection_efficiency", "bkg_estimate", "error_pixel_count",
    "saturated_pixel_count", "strong_pixel_count", "indexing_result",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


def decode_v2(message: bytes) -> Message:
    """Return what one message says.

    Parameters
    ----------
    message : bytes
        The one part of a ZeroMQ message.

    Raises
    ------
    MessageError
        If it is none of the messages, or is inconsistent.
    """
    found = read_map(_SOURCE, message)
    kind = found.get("type")
    if kind not in ("start", "calibration", "metadata", "image", "end"):
        raise MessageError(_SOURCE, f"type {shown(kind)} is unknown")
    series = str(whole_number(_SOURCE, found, "series_id", 2**64))
    if kind == "image":
        return _image(series, found)
    if kind == "start":
        return described_v2(series, found, _arrays(found))
    if kind == "end":
        return SeriesEnded(series)
    fields = _calibration(found) if kind == "calibration" else {}
    return SeriesDescribed(series, fields)


def _image(series: str, found: Mapping[Any, Any]) -> FrameArrived:
    number = whole_number(_SOURCE, dict(found), "image_id")
    where = f"{_SOURCE}, image {number}"
    data = found.get("data")
    if not isinstance(data, Mapping) or not 0 < len(data) <= _MAX_CHANNELS:
        raise MessageError(where, f"data: expected arrays, got {shown(data)}")
    channels: dict[str, FrameData] = {}
    for name, frame in data.items():
        if isinstance(frame, Unusable):
            raise MessageError(where, f"channel {shown(name)}: {frame.error.reason}")
        if not _is_name(name) or not isinstance(frame, FrameData):
            raise MessageError(where, f"channel {shown(name)}: {shown(frame)}")
        if len(frame.shape) < 2:
            raise MessageError(where, f"channel {name}: shape {frame.shape}")
        channels[name] = frame
    values = dict(_values(found))
    time, units = _absolute(found, values), {str(name): "s" for name in _TIMES}
    return FrameArrived(series, number, channels, time, values, units)


def _is_name(name: object) -> bool:
    is_text = isinstance(name, str) and 0 < len(name) <= _MAX_NAME
    return is_text and str(name).isprintable()


def _values(found: Mapping[Any, Any]) -> Iterator[tuple[str, float | int | str]]:
    for name in _TIMES:
        seconds = _rational(found.get(name))
        if seconds is not None:
            yield name, seconds
    for name in _NUMBERS:
        number = plain_value(found.get(name))
        if number is not None and not isinstance(number, str):
            yield name, int(number) if isinstance(number, bool) else number
    user_data = plain_value(found.get("user_data"))
    if user_data is not None:
        yield "user_data", str(user_data)


def _rational(value: object) -> float | None:
    """Return a rational number, as an array of two integers; None for anything else.

    Examples
    --------
    >>> _rational([1, 4]), _rational([1, 0]), _rational("1/4")
    (0.25, None, None)
    """
    match value:
        case [int(numerator), int(denominator)] if denominator:
            try:
                return numerator / denominator
            except OverflowError:
                return None
    return None


def _absolute(found: Mapping[Any, Any], values: Mapping[str, Any]) -> float | None:
    """Return when the exposure began, in seconds since 1970, if the message says."""
    date, start = found.get("series_date"), values.get("start_time")
    if not isinstance(date, str) or start is None:
        return None
    try:
        moment = datetime.fromisoformat(date)
        time = moment.timestamp() + float(start)
        return time if moment.tzinfo and math.isfinite(time) else None
    except (ValueError, OverflowError):
        return None


# ----------------------------------------------------------------------- the start


def _calibration(found: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the arrays of a calibration message as fields of the detector."""
    _check_size(found)
    data = found.get("data")
    if not isinstance(data, Mapping) or len(data) > _MAX_CHANNELS:
        raise MessageError(_SOURCE, f"calibration: expected arrays, got {shown(data)}")
    fields: dict[str, Any] = {}
    for name, array in data.items():
        if isinstance(array, Unusable):
            raise array.error
        is_name = isinstance(name, str) and _NAME.fullmatch(name) is not None
        if not is_name or not isinstance(array, FrameData):
            raise MessageError(_SOURCE, f"calibration {shown(name)}: {shown(array)}")
        fields[f"calibration_{name}"] = _array(array)
    return fields


def _arrays(found: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """Return channel to fields; the empty name has those of all channels."""
    _check_size(found)
    arrays: dict[str, dict[str, Any]] = {}
    table = found.get("countrate_correction_lookup_table")
    if isinstance(table, FrameData):
        arrays[""] = {"countrate_correction_lookup_table": _array(table)}
    translation = found.get("detector_translation")
    if isinstance(translation, list) and len(translation) == 3:
        numbers = [plain_value(number) for number in translation]
        if all(isinstance(number, int | float) for number in numbers):
            arrays.setdefault("", {})["detector_translation"] = numbers
    for key in ("flatfield", "pixel_mask", "threshold_energy"):
        each = found.get(key)
        if not isinstance(each, Mapping):
            continue
        for name, value in each.items():
            if not _is_name(name):
                raise MessageError(_SOURCE, f"{key}: channel {shown(name)}")
            kept = _array(value) if isinstance(value, FrameData) else plain_value(value)
            if kept is not None:
                arrays.setdefault(name, {})[key] = kept
    return arrays


def _check_size(found: Mapping[Any, Any]) -> None:
    read = [value for key, value in found.items() if key != "user_data"]
    groups = (each for each in read if isinstance(each, Mapping))
    every = [*chain(read, *(group.values() for group in groups))]
    for each in every:
        if isinstance(each, Unusable):
            raise each.error
    n_bytes = sum(each.n_bytes for each in every if isinstance(each, FrameData))
    if n_bytes > _MAX_ARRAY_BYTES:
        raise MessageError(_SOURCE, f"arrays of {n_bytes} bytes in the start message")


def _array(data: FrameData) -> Any:
    try:
        return data.array()
    except PayloadError as error:
        raise MessageError(_SOURCE, str(error)) from error
