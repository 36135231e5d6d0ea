"""One series of a sender as a scan: declared by its first frame, points by number."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from scanbus.publisher.gateways.runner.declared_frames import (
    check_frame,
    stays_packed,
    unpacked,
)
from scanbus.publisher.gateways.runner.frame_numbers import (
    FrameNumbers,
    Place,
    begins_anew,
)
from scanbus.publisher.gateways.runner.frame_values import FrameValues
from scanbus.publisher.gateways.runner.lost_frames import (
    came_first_text,
    goes_on_text,
    lost_at_start,
    lost_by_restarts,
    never_came_text,
    why_without_frames,
)
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    NoteArrived,
    SeriesDescribed,
    SeriesStarted,
    ValueArrived,
)
from scanbus.publisher.gateways.runner.series_counts import SeriesCounts
from scanbus.publisher.gateways.runner.series_state import SeriesState
from scanbus.publisher.gateways.runner.settings import ScanNames
from scanbus.publisher.gateways.runner.slow_channels import SlowChannels, plots_with
from scanbus.publisher.publisher import Publisher
from scanbus.publisher.recovery.lost_data import LostPoints
from scanbus.publisher.scan import Scan
from scanbus.schemas import EndReason
from scanbus.schemas.errors import (
    DeadlineError,
    DeclarationError,
    MessageError,
    ScanStateError,
)
from scanbus.schemas.wording import counted

__all__ = ["SeriesScan"]

_ARRIVAL, _PUBLISHED, _NUMBER = "arrival_time", "publish_time", "frame_number"
# Beyond, the number of frames says "until it is stopped", not how many there will be.
_MAX_EXPECTED = 10_000_000
_MAX_TAIL = 100_000
_MAX_NOTED = 20


class SeriesScan:
    """One series; the runner's main thread uses it.

    Parameters
    ----------
    publisher : Publisher
        Publishes the scan.
    names : ScanNames
        Names of the scan and its detector.
    started : SeriesStarted
        What is known of the series.
    state : SeriesState
        What is kept for a successor of this process; with channels if it is one.
    kind : str
        Name of the gateway, for the metadata.
    must_stop : callable
        Returns whether waiting for room shall end.
    note_state : callable
        Keeps the state, which has changed.
    on_unfit : callable
        Called with a reopened scan that cannot take what comes, and was ended.
    """

    def __init__(
        self,
        publisher: Publisher,
        names: ScanNames,
        started: SeriesStarted,
        state: SeriesState,
        *,
        kind: str,
        must_stop: Callable[[], bool],
        note_state: Callable[[], None],
        on_unfit: Callable[[Scan], None],
        is_reopened: bool = False,
    ) -> None:
        self.series = started.series
        self.counts = SeriesCounts()
        self.state = state
        self._names = names
        self._started = started
        self._must_stop = must_stop
        self._note_state = note_state
        self._on_unfit = on_unfit
        # Points that the scan had of each channel when it was reopened.
        self._had: dict[str, int] = {}
        self._resumed_at: int | None = None
        self._numbers: FrameNumbers | None = None
        # The first frame and when it came, until its number can be understood.
        self._held: tuple[FrameArrived, float] | None = None
        self._declared: dict[str, FrameData] = {}
        self._is_single = True
        self._noted = 0
        self._values = FrameValues(self.note)
        # Points that each channel has, or of which it is known that they never come.
        self._reached: dict[str, int] = {}
        self._slow = SlowChannels(started.slow, self._send)
        gateway = {"kind": kind, "series": started.series, "series_key": started.key}
        arguments: dict[str, Any] = {"title": f"{kind} series {started.series}"}
        arguments |= names.scan
        if state.slow:
            arguments["plots"] = plots_with(names.detector, state.slow)
        begin = publisher.reopen if is_reopened else publisher.scan
        self._scan = begin(
            uid=state.uid,
            **arguments,
            metadata={**started.metadata, "gateway": gateway},
        )
        self._scan.__enter__()
        if is_reopened:
            self._go_on()

    def _go_on(self) -> None:
        """Go on with the scan where a dead gateway left it."""
        self._had = dict(self._scan.lengths)
        self._reached = dict(self._had)
        state = self.state
        if not self._had:
            # It was announced only: the next frame declares it.
            self._resumed_at = 0
            self.note(
                "the gateway was killed before the first frame and started again: "
                "metadata that the series began with are lost"
            )
            return
        self._declared = state.first_frame()
        self._is_single = len(self._declared) < 2
        self._values.kinds = state.value_types()
        # The detector's name may be another one now.
        is_known = bool(self._declared) and self._had.keys() >= {*self._channels()}
        if state.first_number is None or not is_known:
            text = "the gateway was killed, and its successor has other channels"
            state.end = EndReason.FAILURE, text
            self._scan.finish(EndReason.FAILURE, text)
            self._on_unfit(self._scan)
            raise ScanStateError(f"scan {state.uid}: {text}")
        # What only some channels have is sent again to the others, if it comes again.
        reached = [self._had.get(channel, 0) for channel in self._channels()]
        self.counts.frames = min(reached[: len(self._declared)])
        first, self._resumed_at = state.first_number, state.first_number + min(reached)
        self._numbers = FrameNumbers(
            first, self._resumed_at, came=first + self.counts.frames
        )
        self.note(goes_on_text(self._numbers))

    def go_on_with(self, started: SeriesStarted) -> None:
        """Take what the sender says once more of a series that goes on."""
        kinds = self.state.slow
        known = [each for each in started.slow if each.name in kinds]
        self._slow = SlowChannels(
            [replace(each, is_text=kinds[each.name]) for each in known], self._send
        )
        if self._numbers is None:
            self._started = started
            self._scan.update(started.metadata)
        else:
            self._slow.begin()

    def may_go_on_at(self, number: int) -> bool:
        """Whether a frame that comes after a restart may be one of this series."""
        numbers = self._numbers
        if numbers is None or self._resumed_at is None:
            return self._resumed_at is not None
        return not begins_anew(number, numbers.first, numbers.stop - 1)

    @property
    def next_number(self) -> int:
        """Frames before this number are in the scan, or are gaps in it."""
        return (self._known_first or 0) if self._numbers is None else self._numbers.stop

    @property
    def scan(self) -> Scan:
        """The scan."""
        return self._scan

    def describe(self, described: SeriesDescribed) -> None:
        """Add fields of the detector, before its first frame.

        Raises
        ------
        MessageError
            If it has come already.
        """
        if self._numbers is not None or self._held is not None:
            raise MessageError(
                f"series {self.series}", "a description came after its first frame"
            )
        fields = {**self._started.fields, **described.fields}
        self._started = replace(self._started, fields=fields)

    # ------------------------------------------------------------------- frames

    def take(self, frame: FrameArrived, arrival: float) -> None:
        """Send a frame, unless its number came before.

        Parameters
        ----------
        arrival : float
            When it came, in seconds since 1970.

        Raises
        ------
        MessageError
            If it is not like the first frame, does not unpack, or its number is
            impossible. Its point becomes a gap.
        DeadlineError
            If there was no room until waiting had to end.
        """
        if not self._declared:
            self._declare(frame)
        if self._numbers is None:
            if self._held is None and self._may_count_from_one(frame):
                self._held = frame, arrival
                return
            self._begin(frame)
        self._take(frame, arrival)

    def take_aside(self, message: ValueArrived | NoteArrived) -> None:
        """Send a value of a slow channel, or add a note.

        Raises
        ------
        DeadlineError
            If there was no room until waiting had to end.
        """
        if isinstance(message, NoteArrived):
            self.note(message.text)
        else:
            self._slow.take(message)

    def _may_count_from_one(self, frame: FrameArrived) -> bool:
        """Whether the second frame must tell if the first number is 0 or 1."""
        is_open = self._known_first is None and self.state.is_from_start
        return is_open and frame.number == 1

    @property
    def _known_first(self) -> int | None:
        given = self._names.first_number
        return self.state.first_number if given is None else given

    def _take(self, frame: FrameArrived, arrival: float) -> None:
        assert self._numbers is not None
        first = self._declared
        check_frame(frame, first)
        arrays = {
            name: None if stays_packed(data, first[name]) else unpacked(frame, data)
            for name, data in frame.channels.items()
        }
        place = self._numbers.add(frame.number)
        if place is Place.REPEATED:
            self.counts.repeated += 1
            self.note(f"frame {frame.number} came again; the first one is kept")
            return
        if place is not Place.NEW:
            raise MessageError(frame.where, f"the number is {place.value}")
        has_restarted = self._note_restart(frame.number)
        taken = arrival if frame.time is None else frame.time
        point = frame.number - self._numbers.first
        for name, array in arrays.items():
            packed = frame.channels[name].payload if array is None else None
            self._send(
                self._channel(name), array, packed=packed, time=taken, point=point
            )
        own = {_ARRIVAL: arrival, _PUBLISHED: time.time(), _NUMBER: frame.number}
        stamped = replace(frame, values={**frame.values, **own})
        for name, value in self._values.of(stamped):
            if value is None:
                self._leave_out(self._value(name), point)
            else:
                self._send(self._value(name), value, time=taken, point=point)
        self.counts.left_out = self._values.total
        self.counts.frames += frame.number >= self._numbers.came
        if has_restarted:
            # What the dead gateway had never comes: nothing waits for it in memory.
            for channel in self._channels():
                self._scan.skip(channel, 0)

    def _begin(self, frame: FrameArrived) -> None:
        """Learn the first number."""
        held, self._held = self._held, None
        first, came = self._known_first, frame if held is None else held[0]
        is_learnt = first is None
        if first is None:
            first = int(held is not None and frame.number != 0)
            self.state.came_first = came.number
        if text := came_first_text(came.number, first, is_learnt=is_learnt):
            self.note(text)
        self._numbers = FrameNumbers(first)
        if self._resumed_at is not None:
            self._resumed_at = first
        self.state.first_number = first
        self.state.note_channels(self._declared, self._values.kinds)
        self._note_state()
        self._slow.begin()
        if held is None:
            return
        try:
            self._take(*held)
        except MessageError as error:
            self.refuse(str(error))  # The frame after it is to be taken all the same.

    def _declare(self, frame: FrameArrived) -> None:
        """Declare the channels by the first frame; one that cannot be is refused."""
        self._is_single = len(frame.channels) < 2
        values = {**frame.values, _ARRIVAL: 0.0, _PUBLISHED: 0.0, _NUMBER: 0}
        units = {**frame.units, _ARRIVAL: "s", _PUBLISHED: "s"}
        taken = {self._value(name) for name in values}
        twice = taken.intersection(map(self._channel, frame.channels))
        if twice:
            raise MessageError(frame.where, f"channel {min(twice)} is a value's name")
        for name, data in frame.channels.items():
            try:
                self._scan.detector(
                    self._channel(name),
                    shape=data.shape,
                    dtype=data.dtype.newbyteorder("="),
                    codec=data.codec if data.is_packed else "bitshuffle-lz4",
                    points=self._expected,
                    points_per_chunk=1,
                    nexus=self._fields(name),
                )
            except DeclarationError as error:
                if self._declared:
                    raise  # Some of its channels are declared, and stay so.
                raise MessageError(frame.where, str(error)) from error
            self._declared[name] = data
        stamped = replace(frame, values=values, units=units)
        device = self._channel(next(iter(frame.channels)))
        self._values.declare(self._scan, stamped, self._value, device)
        self._slow.declare(self._scan)

    def _fields(self, name: str) -> dict[str, Any]:
        started = self._started
        return {**started.fields, **started.channel_fields.get(name, {})}

    def _channel(self, name: str) -> str:
        """Return the channel of the scan for one of the detector."""
        if self._is_single:
            return self._names.detector
        return f"{self._names.detector}_{name}"

    def _value(self, name: str) -> str:
        return f"{self._names.detector}_{name}"

    def _note_restart(self, number: int) -> bool:
        """Note what was lost when the gateway was killed, at the first frame since.

        Return whether this is that frame.
        """
        is_first = self._resumed_at is not None and number >= self._resumed_at
        if is_first:
            first = self.state.first_number or 0
            for channel in self._named_channels():
                lacks = first + self._had.get(channel, 0)
                if lacks < number:
                    self.state.lost.append((channel, lacks, number))
            self._resumed_at = None
            self._note_state()
        return is_first

    def _named_channels(self) -> list[str]:
        """Return the channels of frames, and that of values that has least, if less.

        The verdict has room for a few sentences, and a scan has many channels.
        """
        frames = [self._channel(name) for name in self._declared]
        values = [self._value(name) for name in self._values.kinds]
        least = min(values, key=lambda name: self._had.get(name, 0))
        reached = min(self._had.get(name, 0) for name in frames)
        return [*frames, *([least] if self._had.get(least, 0) < reached else [])]

    def _send(
        self, channel: str, values: Any, *, point: int | None = None, **how: Any
    ) -> None:
        """Send, and wait for room until it is there: the detector's buffers fill."""
        if point is not None:
            if point < self._had.get(channel, 0):
                return
            self._reached[channel] = max(self._reached.get(channel, 0), point + 1)
        while True:
            try:
                self._scan.send(channel, values, copy=False, point=point, **how)
            except DeadlineError:
                if self._must_stop():
                    raise
            else:
                return

    def _leave_out(self, channel: str, point: int) -> None:
        """Make a hole at a point; one among points that came is there by itself."""
        assert self._numbers is not None
        # Skipping gives up what has not come yet, and may still.
        if not self._numbers.may_fill:
            self._skip_to(point + 1, [channel])

    # ------------------------------------------------------------------ the end

    def refuse(self, reason: str) -> None:
        """Count a message that could not be used, and note why."""
        self.counts.refused += 1
        self.note(reason)

    def note(self, text: str) -> None:
        """Add a note to the scan; of many, the first ones are kept."""
        self._noted += 1
        if self._noted <= _MAX_NOTED:
            self._scan.update(note=text)

    def finish(self, reason: EndReason, text: str = "") -> None:
        """End the scan; frames that were promised and never came are gaps."""
        if self._held is not None:
            self._begin(self._held[0])
        numbers = self._numbers
        if numbers is None:
            lost = self._lost_without_frames()
        else:
            self._skip_to(numbers.end - numbers.first)
            lost = [
                *self._skip_tail(numbers),
                *lost_by_restarts(self.state.lost, numbers.first),
                *lost_at_start(
                    map(self._channel, self._declared),
                    numbers,
                    self.state.came_first,
                    self._expected,
                ),
            ]
            self.counts.missing += numbers.n_missing
            if text_of_missing := never_came_text(numbers):
                self._scan.update(note=text_of_missing)
        if text_of_values := self._values.summary():
            self._scan.update(note=text_of_values)
        if self._noted > _MAX_NOTED:
            self._scan.update(note=f"{self._noted - _MAX_NOTED} more notes left out")
        self._scan.finish(reason, text, lost=lost)

    @property
    def _expected(self) -> int | None:
        """Frames that the series will have, if its start said so."""
        n_frames = self._started.n_frames
        return None if n_frames is None or n_frames > _MAX_EXPECTED else n_frames

    def _lost_without_frames(self) -> list[LostPoints]:
        text = why_without_frames(self._expected, self.counts.refused)
        if not text:
            return []
        self.counts.missing += self._expected or 0
        self._scan.update(note=text)
        return [LostPoints("", 0, 0, text)]

    def _skip_tail(self, numbers: FrameNumbers) -> list[LostPoints]:
        """Make gaps of promised frames that never came; of too many, say so only."""
        expected = self._expected
        tail = 0 if expected is None else expected + numbers.first - numbers.end
        if self._resumed_at is not None:
            self._note_restart(numbers.end + max(tail, 0))
        if tail <= 0:
            return []
        text = f"the series ended {counted(tail, 'frame')} short of its {expected}"
        self._scan.update(note=text)
        self.counts.missing += tail
        if tail > _MAX_TAIL:
            return [LostPoints("", 0, 0, text)]
        self._skip_to(numbers.end - numbers.first + tail)
        return []

    def _skip_to(self, n_points: int, channels: Sequence[str] = ()) -> None:
        for channel in channels or self._channels():
            lacks = n_points - self._reached.get(channel, 0)
            if lacks > 0:
                self._scan.skip(channel, lacks)
                self._reached[channel] = n_points

    def _channels(self) -> list[str]:
        """Return all channels of the scan."""
        frames = [self._channel(name) for name in self._declared]
        return frames + [self._value(name) for name in self._values.kinds]
