"""Translate the frames of files, with their headers, to messages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, TypeAlias

from scanbus.publisher.gateways.files.dates import (
    end_of,
    moment,
    seconds_of,
    start_of,
)
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
    "ended",
    "message_of",
    "started",
]

# A header may have any number of motors; each value is a channel.
_MAX_VALUES = 100
_CHANGED = "header_changes"


@dataclass(frozen=True, slots=True)
class FrameOfFile:
    """A frame, its number in the series, and when its file was written.

    Attributes
    ----------
    written : float
        In seconds since 1970.
    first : HeaderFacts, optional
        What the first header of the series says; None if its file is gone.
    zone : tzinfo, optional
        Time zone of dates that have none.
    """

    series: str
    number: int
    frame: Frame
    written: float
    first: HeaderFacts | None = None
    zone: tzinfo | None = None


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
    zone: tzinfo | None = None,
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
    began = start_of(facts, zone)
    metadata = {**facts.tree, "instrument": instrument, **moment("start_time", began)}
    return SeriesStarted(
        series,
        key,
        n_frames=n_frames,
        first_number=first_number,
        fields=fields,
        metadata=metadata,
    )


def ended(
    series: str, last: HeaderFacts | None, zone: tzinfo | None = None
) -> SeriesEnded:
    """Return the end of a series, which is that of its last frame."""
    found = None if last is None else end_of(last, zone)
    return SeriesEnded(series, moment("end_time", found))


def arrived(content: FrameOfFile) -> FrameArrived:
    """Return a frame with the values of its header."""
    frame = content.frame
    data = frame.data
    facts = read_header(frame.header)
    begins = start_of(facts, content.zone)
    # If the header does not say which moment, about then.
    taken = seconds_of(begins)
    values, units = _values(facts)
    # Always there: a channel needs a point for each frame.
    values[_CHANGED] = _changes(content.first or facts, facts)
    return FrameArrived(
        content.series,
        content.number,
        {"": FrameData(data.tobytes(), "none", data.shape, data.dtype)},
        content.written if taken is None else taken,
        {"file_name": _name_of(frame), **values},
        units,
    )


def _values(facts: HeaderFacts) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the numbers and the date of a header, and the units of the numbers."""
    numbers = {name: value for name, (_, value) in facts.positioners.items()}
    units = {name: unit for name, (unit, _) in facts.positioners.items() if unit}
    numbers |= facts.counters
    axis = facts.axis
    if axis is not None:
        numbers[axis.name], units[axis.name] = axis.start, axis.units
    values: dict[str, Any] = {"frame_date": facts.date} if facts.date else {}
    if axis is not None and axis.increment:
        # Not cut off, however many motors there are.
        values[f"{axis.name}_end"] = axis.end
        units[f"{axis.name}_end"] = axis.units
    for name in sorted(numbers)[:_MAX_VALUES]:
        values.setdefault(name, float(numbers[name]))
    return values, {name: unit for name, unit in units.items() if name in values}


def _changes(first: HeaderFacts, facts: HeaderFacts) -> str:
    """Return what else is not as in the first header, one value a line.

    Which values will change is not known when the channels are declared.
    """
    before, after = first.values(), facts.values()
    lines = [
        f"{place[-1]} = {each.value}"
        for place, each in after.items()
        if place[0] != "positioners"
        and (place not in before or before[place].value != each.value)
    ]
    gone = [f"{place[-1]} =" for place in before if place not in after]
    return "\n".join(lines + gone)


def _name_of(frame: Frame) -> str:
    number = f"#{frame.number}" if frame.n_in_file > 1 else ""
    return f"{shown(frame.file)}{number}"[-256:]
