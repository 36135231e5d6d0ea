"""The frames of files as the channels of a scan: declared by headers, sent one by one.

Which channels there are follows from all headers, which are read before the first
frame is sent.
"""

from __future__ import annotations

import math
from datetime import datetime, tzinfo
from typing import Any, Final

from scanbus.publisher.gateways.files.dates import (
    end_of,
    is_without_zone,
    moment,
    seconds_of,
    start_of,
)
from scanbus.publisher.gateways.files.header_changes import (
    HeaderChanges,
    Place,
    without_places,
)
from scanbus.publisher.gateways.files.headers import HeaderFacts, read_header
from scanbus.publisher.gateways.files.images import Frame
from scanbus.publisher.gateways.files.masks import pixel_mask
from scanbus.publisher.scan import Scan
from scanbus.schemas import PlotDescription, Role, merged
from scanbus.schemas.errors import SourceError

__all__ = ["FrameSource", "name_of"]

# Group of all channels with a value per frame from the header.
_GROUP: Final = "frames"
_FILE_NAME: Final = "file_name"
_DATE: Final = "frame_date"
_ELAPSED: Final = "elapsed_time"
_TEXT_BYTES: Final = 512
_DATE_BYTES: Final = 64
_NO_ZONE: Final = (
    "the times in the headers have no time zone, so they stay without one: give "
    "--time-zone, such as Europe/Paris, for the time of each frame"
)
_MANY: Final = "of {} more values that change in the headers, only the first are kept"


class FrameSource:
    """The first frame, and the channels that follow from all headers.

    Parameters
    ----------
    first : Frame
        The first frame.
    changes : HeaderChanges
        All headers.
    n_expected : int
        Number of frames.
    zone : tzinfo, optional
        Time zone of dates that have none.
    """

    def __init__(
        self,
        first: Frame,
        changes: HeaderChanges,
        n_expected: int,
        zone: tzinfo | None = None,
    ) -> None:
        self.first = first
        self.n_expected = n_expected
        self._changes = changes
        self._zone = zone
        facts = self._facts = read_header(first.header)
        self._began = start_of(facts, zone)
        self._last: HeaderFacts | None = None
        taken = {facts.detector, _FILE_NAME, _DATE, _ELAPSED}
        self._axis = self._axis_end = ""
        if facts.axis is not None:
            self._axis = _free_name(facts.axis.name, taken)
            if changes.axis_turns:
                self._axis_end = _free_name(f"{self._axis}_end", taken)
        self._counters = {name: _free_name(name, taken) for name in changes.counters}
        self._values = changes.changing()
        self._names = {
            place: _free_name(each.first.name, taken)
            for place, each in self._values.items()
        }

    @property
    def detector(self) -> str:
        """Name of the detector's channel."""
        return self._facts.detector

    @property
    def positioners(self) -> dict[str, tuple[str, float]]:
        """Units and position of each motor at the start."""
        return self._facts.positioners

    def metadata(self) -> dict[str, Any]:
        """Return the NeXus tree of what does not change, with the pixel mask."""
        facts = self._facts
        places = [each for each in self._names if each[0] == "instrument"]
        places += [
            ("instrument", facts.detector, "header", "keywords", each.first.name)
            for place, each in self._values.items()
            if place[0] == "keywords"
        ]
        tree = without_places(facts.tree, places)
        tree = merged(tree, moment("start_time", self._began))
        mask = pixel_mask(self.first.data) if facts.flags_pixels else None
        if mask is None:
            return tree
        fields = {"pixel_mask": mask, "underload_value": 0}
        return merged(tree, {"instrument": {facts.detector: fields}})

    def notes(self) -> list[str]:
        """Return what readers of the scan should know."""
        notes = [_NO_ZONE] if is_without_zone(self._began) else []
        left_out = self._changes.n_left_out
        return [*notes, _MANY.format(left_out)] if left_out else notes

    def plots(self) -> list[PlotDescription]:
        """Return the default plots: frames first, then counters if there are any.

        All that moved is an axis: the writer knows how, when the scan has ended.
        """
        axes = self._moving() or ((_ELAPSED,) if self._changes.date_changes else ())
        frames = PlotDescription(name="plot2D", signals=(self.detector,), axes=axes)
        if not self._counters:
            return [frames]
        signals = tuple(self._counters.values())
        return [frames, PlotDescription(name="plot0D", signals=signals, axes=axes)]

    def _moving(self) -> tuple[str, ...]:
        """Return the channels of what moves: the angle, then motors."""
        axes = [self._axis] if self._changes.axis_moves else []
        axes += [name for place, name in self._names.items() if _is_motor(place)]
        return tuple(axes)

    def declare(self, scan: Scan) -> None:
        """Declare the detector, and a channel for each value that its frames have."""
        data = self.first.data
        scan.detector(
            self.detector, shape=data.shape, dtype=data.dtype, points=self.n_expected
        )
        self._declare_text(scan, _FILE_NAME, _TEXT_BYTES)
        if self._facts.date:
            self._declare_text(scan, _DATE, _DATE_BYTES)
        if self._changes.date_changes:
            scan.channel(_ELAPSED, group=_GROUP, units="s", role=Role.TIMER)
        for name in self._counters.values():
            scan.channel(name, group=_GROUP)
        axis = self._facts.axis
        if axis is not None:
            moves = self._changes.axis_moves
            scan.channel(
                self._axis,
                group=_GROUP,
                units=axis.units,
                role=Role.AXIS if moves else Role.COUNTER,
                nexus={"nx_class": "NXpositioner", "field": "value"},
            )
        if axis is not None and self._axis_end:
            scan.channel(
                self._axis_end,
                group=_GROUP,
                device=self._axis,
                units=axis.units,
                nexus={"field": "end"},
            )
        for place, name in self._names.items():
            self._declare_value(scan, place, name)

    def _declare_text(self, scan: Scan, name: str, max_bytes: int) -> None:
        scan.channel(
            name,
            dtype="string",
            group=_GROUP,
            device=self.detector,
            max_point_bytes=max_bytes,
        )

    def _declare_value(self, scan: Scan, place: Place, name: str) -> None:
        """Declare a value that changes, in the place that it has in NeXus."""
        value = self._values[place]
        first = value.first
        is_motor = _is_motor(place)
        own: dict[str, Any] = {}
        if value.dtype == "string":
            own["max_point_bytes"] = _TEXT_BYTES
        scan.channel(
            name,
            dtype=value.dtype,
            group=_GROUP,
            device=name if is_motor else first.device,
            units="" if value.dtype == "string" else first.units,
            role=Role.AXIS if is_motor else Role.COUNTER,
            nexus={"nx_class": first.nx_class, "field": first.field},
            **own,
        )

    def send(self, scan: Scan, frame: Frame) -> None:
        """Send one frame and the values of its header.

        Raises
        ------
        SourceError
            If the frame does not have the shape and type of the first one.
        """
        self._check(frame)
        facts = self._facts if frame is self.first else read_header(frame.header)
        self._last = facts
        begins = start_of(facts, self._zone)
        taken_s = seconds_of(begins)
        if taken_s is None:
            taken_s = math.nan  # Not now: files may have been written years ago.
        scan.send(self.detector, frame.data, time=taken_s)
        scan.send(_FILE_NAME, _short(name_of(frame), _TEXT_BYTES), time=taken_s)
        if self._facts.date:
            scan.send(_DATE, _short(facts.date, _DATE_BYTES))
        if self._changes.date_changes:
            scan.send(_ELAPSED, _elapsed_s(self._began, begins))
        for name, channel in self._counters.items():
            scan.send(channel, facts.counters.get(name, math.nan))
        if self._axis:
            scan.send(self._axis, facts.axis.start if facts.axis else math.nan)
        if self._axis_end:
            scan.send(self._axis_end, facts.axis.end if facts.axis else math.nan)
        self._send_values(scan, facts)

    def _send_values(self, scan: Scan, facts: HeaderFacts) -> None:
        found = facts.values()
        for place, name in self._names.items():
            each = found.get(place)
            if self._values[place].dtype == "string":
                text = "" if each is None else f"{each.value} {each.units}".strip()
                scan.send(name, _short(text, _TEXT_BYTES))
            elif self._values[place].dtype == "int64":
                scan.send(name, 0 if each is None else int(each.value))
            else:
                scan.send(name, math.nan if each is None else float(each.value))

    def tell_end(self, scan: Scan) -> None:
        """Say when the last frame ended, and where the motors were then."""
        last = self._last
        if last is None:
            return
        end = moment("end_time", end_of(last, self._zone))
        if end:
            scan.update(end)
        positions = dict(last.positioners)
        if last.axis is not None:
            positions[last.axis.name] = last.axis.units, last.axis.end
        if positions:
            scan.end_positioners(positions)

    def _check(self, frame: Frame) -> None:
        expected, got = self.first.data, frame.data
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise SourceError(
                name_of(frame),
                f"expected frames of {expected.shape} {expected.dtype} as in "
                f"{self.first.file.name}, got {got.shape} {got.dtype}",
            )


def _is_motor(place: Place) -> bool:
    return place[0] == "positioners"


def _elapsed_s(began: datetime | None, begins: datetime | None) -> float:
    """Return the time between frames; known also where the time zone is not."""
    if (
        began is None
        or begins is None
        or (began.tzinfo is None) != (begins.tzinfo is None)
    ):
        return math.nan
    return (begins - began).total_seconds()


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, with a suffix if it is taken, and add it to `taken`."""
    free = name
    number = 2
    while free in taken or free == _GROUP:
        free = f"{name[:56]}_{number}"
        number += 1
    taken.add(free)
    return free


def name_of(frame: Frame) -> str:
    """Return the name of a frame: that of its file, and its number if it has many."""
    number = f"#{frame.number}" if frame.n_in_file > 1 else ""
    return f"{frame.file}{number}"


def _short(text: str, max_bytes: int) -> str:
    """Return `text`, or its end if it is too long: the end of a path names the file."""
    octets = text.encode("utf-8", "replace").replace(b"\0", b"")
    return octets[-max_bytes:].decode("utf-8", "ignore")
