"""Translate the frames of files, with their headers, to messages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from scanbus.publisher.gateways.files.dates import moment, seconds_of
from scanbus.publisher.gateways.files.headers import HeaderFacts, read_header
from scanbus.publisher.gateways.files.images import Frame
from scanbus.publisher.gateways.files.masks import pixel_mask
from scanbus.publisher.gateways.files.watch.file_names import shown
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    Message,
    SeriesEnded,
    SeriesStarted,
)
from scanbus.schemas.errors import MessageError

__all__ = [
    "FileContent",
    "FileRefused",
    "FrameOfFile",
    "arrived",
    "message_of",
    "started",
]

# A header may have any number of motors; each value is a channel.
_MAX_VALUES = 100


@dataclass(frozen=True, slots=True)
class FrameOfFile:
    """A frame, its number in the series, and when its file was written.

    Attributes
    ----------
    written : float
        In seconds since 1970.
    """

    series: str
    number: int
    frame: Frame
    written: float


@dataclass(frozen=True, slots=True)
class FileRefused:
    """A file that cannot be published, and why."""

    path: Path
    reason: str


FileContent: TypeAlias = SeriesStarted | SeriesEnded | FrameOfFile | FileRefused


def message_of(content: FileContent) -> Message:
    """Return the message for the runner.

    Raises
    ------
    MessageError
        If a file was refused.
    """
    match content:
        case FileRefused():
            raise MessageError(shown(content.path), shown(content.reason))
        case FrameOfFile():
            return arrived(content)
        case _:
            return content


def started(
    series: str,
    key: str,
    first: Frame | None,
    *,
    first_number: int,
    n_frames: int | None,
) -> SeriesStarted:
    """Return the start of a series, with the metadata of its first header."""
    if first is None:
        return SeriesStarted(series, key, n_frames=n_frames, first_number=first_number)
    facts = read_header(first.header)
    instrument = dict(facts.tree.get("instrument", {}))
    fields = dict(instrument.pop(facts.detector, {}))
    fields.pop("@NX_class", None)
    mask = pixel_mask(first.data) if facts.flags_pixels else None
    if mask is not None:
        fields |= {"pixel_mask": mask, "underload_value": 0}
    metadata = {**facts.tree, "instrument": instrument}
    return SeriesStarted(
        series,
        key,
        n_frames=n_frames,
        first_number=first_number,
        fields=fields,
        metadata={**metadata, **moment("start_time", facts.date)},
    )


def arrived(content: FrameOfFile) -> FrameArrived:
    """Return a frame with the values of its header."""
    frame = content.frame
    data = frame.data
    facts = read_header(frame.header)
    taken = seconds_of(facts.date)
    pixels = FrameData(data.tobytes(), "none", data.shape, data.dtype)
    return FrameArrived(
        content.series,
        content.number,
        {"": pixels},
        content.written if taken is None else taken,
        {"file_name": _name_of(frame), **_values(facts)},
    )


def _values(facts: HeaderFacts) -> dict[str, Any]:
    """Return the numbers and the date of a header."""
    numbers = {name: value for name, (_, value) in facts.positioners.items()}
    numbers |= facts.counters
    if facts.axis is not None:
        numbers[facts.axis.name] = facts.axis.start
    values: dict[str, Any] = {"frame_date": facts.date} if facts.date else {}
    for name in sorted(numbers)[:_MAX_VALUES]:
        values.setdefault(name, float(numbers[name]))
    return values


def _name_of(frame: Frame) -> str:
    number = f"#{frame.number}" if frame.n_in_file > 1 else ""
    return f"{shown(frame.file)}{number}"[-256:]
