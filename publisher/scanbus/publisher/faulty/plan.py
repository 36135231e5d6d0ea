"""Plan the entries and faults of a simulated scan, step by step. Pure.

The same seed, faults and lengths give the same plan, except for the sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.faulty.content import simulated_lanes
from scanbus.publisher.faulty.expected_ledger import Effect, LaneLedgers, Means
from scanbus.publisher.faulty.faults import Faults
from scanbus.publisher.faulty.raw_entries import (
    FORMS_AT_THE_EDGE,
    FORMS_WITHIN,
    RawEntryBuilder,
)
from scanbus.schemas import ChannelLedger, LaneDescription, PointRange, Storage

__all__ = ["Plan", "Step", "make_plan"]

# Most points of one entry of small values.
_MAX_VALUES = 12
# Added to the seed for the points of the second publisher.
_SECOND = 1_000_003


@dataclass(frozen=True)
class Step:
    """One entry to be sent, or a pause.

    Attributes
    ----------
    lane : LaneDescription
        Lane whose ledgers it changes, also for late points.
    stream : LaneDescription
        Lane to which it is sent: `lane`, or a lane of late points.
    entry : EncodedEntry or None
        The entry; None for a pause or for dropped points.
    effect : Effect or None
        Effect on the ledgers; None if there is none.
    fault : str
        Name of the fault; empty if there is none.
    pause_s : float
        Pause before it, in seconds.
    """

    lane: LaneDescription
    stream: LaneDescription
    entry: EncodedEntry | None = None
    effect: Effect | None = None
    fault: str = ""
    pause_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The plan of a simulated scan.

    Attributes
    ----------
    seed : int
        Seed of points and faults.
    lanes : tuple of LaneDescription
        Lanes of the prepared scan.
    steps : tuple of Step
        In order.
    dies : bool
        Whether sending stops after the last step, without an end.
    """

    seed: int
    lanes: tuple[LaneDescription, ...]
    steps: tuple[Step, ...]
    dies: bool

    def injected(self) -> dict[str, int]:
        """Return how often each fault is in the plan."""
        found = Counter(step.fault for step in self.steps if step.fault)
        if self.dies:
            found["die"] = 1
        return dict(sorted(found.items()))

    def late(self) -> dict[str, int]:
        """Return the number of late points of each channel that has any."""
        effects = [step.effect for step in self.steps if step.effect]
        return dict(Counter(one.channel for one in effects if one.channel))

    def ledgers(self) -> dict[str, ChannelLedger]:
        """Return the ledger of each channel that a writer must produce."""
        lane_ledgers = {lane.name: LaneLedgers(lane) for lane in self.lanes}
        for step in self.steps:
            if step.effect is not None:
                lane_ledgers[step.lane.name].add(step.effect)
        ledgers: dict[str, ChannelLedger] = {}
        for lane_ledger in lane_ledgers.values():
            ledgers |= lane_ledger.ledgers(has_ended=not self.dies)
        return ledgers


def make_plan(
    seed: int, faults: Faults, *, n_points: int = 200, n_frames: int = 60
) -> Plan:
    """Return the plan of a simulated scan with faults.

    Parameters
    ----------
    seed : int
        Seed of points and faults; not negative.
    faults : Faults
        Probability of each fault.
    n_points, n_frames : int
        Length of the lanes of small values, and of the detectors.
    """
    random = np.random.default_rng(seed)
    lanes = simulated_lanes()
    todo = []
    for lane in lanes:
        length = n_frames if lane.storage is Storage.FILES else n_points
        todo.append(_LanePlan(lane, seed, faults, random).steps(length))
    steps = _merged(todo, random)
    dies = bool(random.random() < faults.die)
    if dies:
        steps = steps[: int(random.integers(1, len(steps)))]
    return Plan(seed, lanes, tuple(steps), dies)


def _merged(todo: Sequence[list[Step]], random: np.random.Generator) -> list[Step]:
    """Return the steps of several lanes in random order, each lane's in its order."""
    turns = np.repeat(np.arange(len(todo)), [len(steps) for steps in todo])
    random.shuffle(turns)
    lanes = [iter(steps) for steps in todo]
    return [next(lanes[turn]) for turn in turns]


class _LanePlan:
    """The steps of one lane, made from its first point to its last."""

    def __init__(
        self,
        lane: LaneDescription,
        seed: int,
        faults: Faults,
        random: np.random.Generator,
    ) -> None:
        self._lane = lane
        self._faults = faults
        self._random = random
        self._builder = RawEntryBuilder(lane, seed)
        self._second = RawEntryBuilder(lane, seed + _SECOND)
        self._late_lanes = [lane.late_lane(channel) for channel in lane.channels]
        self._late_builders = [RawEntryBuilder(late, seed) for late in self._late_lanes]
        self._n_late = 0
        self._length = 0
        self._steps: list[Step] = []

    def steps(self, length: int) -> list[Step]:
        """Return the steps of a lane of `length` points, with its seal."""
        self._length = length
        inject: Mapping[str, Callable[[int, int], int]] = {
            "": self._good,
            "drop": self._drop,
            "gap": self._gap,
            "duplicate": self._duplicate,
            "second": self._overrun,
            "reorder": self._reorder,
            "corrupt": self._corrupt,
            "refused": self._refused,
            "stall": self._stall,
        }
        point = 0
        while point < length:
            stop = self._next_stop(point)
            point = inject[self._faults.draw(self._random)](point, stop)
        self._add(self._builder.seal(length), Effect(Means.SEAL, length, length))
        for late, builder in zip(self._late_lanes, self._late_builders, strict=True):
            if self._n_late:
                self._add(builder.seal(self._n_late), None, stream=late)
        return self._steps

    def _add(
        self,
        entry: EncodedEntry | None,
        effect: Effect | None,
        fault: str = "",
        *,
        stream: LaneDescription | None = None,
        pause_s: float = 0.0,
    ) -> None:
        step = Step(self._lane, stream or self._lane, entry, effect, fault, pause_s)
        self._steps.append(step)

    def _boundary(self, point: int) -> int:
        length = self._lane.points_per_segment
        return (point // length + 1) * length

    def _next_stop(self, point: int) -> int:
        """Return where the next entry ends: within segment, chunk and lane."""
        most = min(self._boundary(point), self._length)
        if self._lane.storage is Storage.VALUES:
            return min(most, point + int(self._random.integers(1, _MAX_VALUES + 1)))
        rows = self._lane.points_per_chunk
        stop = min(most, (point // rows + 1) * rows)
        is_whole = self._random.random() < 0.7
        return stop if is_whole else int(self._random.integers(point + 1, stop + 1))

    def _good(self, first: int, stop: int, fault: str = "") -> int:
        rows = self._lane.points_per_chunk
        is_files = self._lane.storage is Storage.FILES
        is_last = first % rows == 0 and stop == self._length
        is_padded = is_files and is_last and stop - first < rows
        entry = self._builder.good(first, stop, is_padded=is_padded)
        self._add(entry, Effect(Means.POINTS, first, stop), fault)
        return stop

    def _drop(self, _: int, stop: int) -> int:
        self._add(None, None, "drop")
        return stop

    def _gap(self, first: int, stop: int) -> int:
        if len(self._lane.channels) == 1 or self._random.random() < 0.5:
            entry = self._builder.gap(first, stop)
            self._add(entry, Effect(Means.GAP, first, stop), "gap")
            return stop
        channel = self._lane.channels[self._pick(len(self._lane.channels))]
        start = int(self._random.integers(first, stop))
        gaps: dict[str, tuple[PointRange, ...]] = {channel.name: ((start, stop),)}
        entry = self._builder.good(first, stop, gaps)
        self._add(entry, Effect(Means.POINTS, first, stop, gaps), "gap")
        return stop

    def _duplicate(self, first: int, stop: int) -> int:
        self._good(first, stop)
        return self._again(self._builder, first, stop, "duplicate")

    def _overrun(self, first: int, stop: int) -> int:
        self._good(first, stop)
        return self._again(self._second, first, stop, "second")

    def _again(
        self, builder: RawEntryBuilder, first: int, stop: int, fault: str
    ) -> int:
        """Send points again, in an entry with a larger id; return the next point.

        The id is larger because the entry begins later, or has new points after the
        old ones. Readers must ignore that entry, so the new points are sent again.
        """
        most = min(self._boundary(first), self._length)
        choices = [
            (start, end)
            for start in range(first, stop)
            for end in range(start + 1, most + 1)
            if start > first or end > stop
        ]
        if choices:
            start, end = choices[self._pick(len(choices))]
            effect = Effect(Means.POINTS, start, end)
            self._add(builder.good(start, end), effect, fault)
        return stop

    def _reorder(self, first: int, stop: int) -> int:
        """Acquire an entry after later ones; the publisher sorts them."""
        n_behind = int(self._random.integers(1, 2 * self._faults.window + 1))
        if n_behind > self._faults.window:
            return self._too_late(first, stop)
        acquired = []
        point = stop
        for _ in range(n_behind):
            if point < self._length:
                acquired.append((point, self._next_stop(point)))
                point = acquired[-1][1]
        acquired.append((first, stop))
        for start, end in sorted(acquired):
            self._good(start, end, "reorder" if start == first else "")
        return point

    def _too_late(self, first: int, stop: int) -> int:
        """Declare points as a gap, and send them to the lanes of late points."""
        entry = self._builder.gap(first, stop)
        self._add(entry, Effect(Means.GAP, first, stop), "late")
        for point in range(first, stop):
            for late, builder in zip(
                self._late_lanes, self._late_builders, strict=True
            ):
                name = late.channels[0].name
                effect = Effect(Means.LATE, point, point + 1, channel=name)
                self._add(builder.late(self._n_late, point), effect, stream=late)
            self._n_late += 1
        return stop

    def _corrupt(self, first: int, stop: int) -> int:
        entry = self._builder.corrupt(first, stop, self._pick(2**31))
        self._add(entry, Effect(Means.CORRUPT, first, stop), "corrupt")
        return stop

    def _refused(self, first: int, stop: int) -> int:
        edge = self._builder.forms(FORMS_AT_THE_EDGE)
        forms = ["crossing", *edge, *self._builder.forms(FORMS_WITHIN)]
        form = forms[self._pick(len(forms))]
        if form == "crossing":
            return self._crossing(first)
        means = Means.REFUSED_AT_THE_EDGE if form in edge else Means.REFUSED_WITHIN
        entry = self._builder.wrong(form, first, stop)
        self._add(entry, Effect(means, first, stop), "refused")
        return stop

    def _crossing(self, first: int) -> int:
        """Send points of two segments in one entry, if there is a second segment."""
        boundary = self._boundary(first)
        if boundary >= self._length:
            return self._good(first, self._next_stop(first))
        stop = self._next_stop(boundary)
        effect = Effect(Means.REFUSED_AT_THE_EDGE, first, stop)
        self._add(self._builder.good(first, stop), effect, "refused")
        return stop

    def _stall(self, first: int, stop: int) -> int:
        self._add(None, None, "stall", pause_s=self._faults.stall_s)
        return self._good(first, stop)

    def _pick(self, n: int) -> int:
        return int(self._random.integers(n))
