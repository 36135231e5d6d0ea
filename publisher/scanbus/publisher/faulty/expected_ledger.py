"""The account that an honest writer must come to, from what was sent.

Made from the rules in ``docs/protocol.md``, not from the writer's code: an entry that
begins before the end of the one before is taken nothing of; a bad one is only believed
to be about points where its id is the one that must come next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from scanbus.schemas import ChannelLedger, LaneDescription, PointRange, ranges

__all__ = ["Effect", "LaneBook", "Means"]


class Means(Enum):
    """What an entry means to whoever reads it."""

    POINTS = "points"
    GAP = "gap"
    CORRUPT = "corrupt"
    REFUSED_AT_THE_EDGE = "refused at the edge"
    REFUSED_WITHIN = "refused within"
    LATE = "late"
    SEAL = "seal"


@dataclass(frozen=True)
class Effect:
    """What one entry is.

    Attributes
    ----------
    means : Means
        Its kind.
    first, stop : int
        The points that it names; for the seal, `stop` is the length.
    gaps : mapping
        Channel name to points that it declares missing.
    channel : str
        Of a late point.
    """

    means: Means
    first: int
    stop: int
    gaps: Mapping[str, tuple[PointRange, ...]] = field(default_factory=dict)
    channel: str = ""


class LaneBook:
    """The account of one lane, entry by entry.

    Parameters
    ----------
    lane : LaneDescription
        The lane.
    """

    def __init__(self, lane: LaneDescription) -> None:
        self._lane = lane
        self._reached = 0
        self._length: int | None = None
        self._stored: set[int] = set()
        self._lacking: defaultdict[str, set[int]] = defaultdict(set)
        self._late: defaultdict[str, set[int]] = defaultdict(set)
        self._duplicate: set[int] = set()
        self._corrupt: set[int] = set()
        self._refused: set[int] = set()

    def take(self, effect: Effect) -> None:
        """Take one entry, in the order of the lane."""
        points = set(range(effect.first, effect.stop))
        match effect.means:
            case Means.SEAL:
                self._length = effect.stop
            case Means.LATE:
                self._late[effect.channel] |= points
            case Means.CORRUPT:
                self._bad(effect, self._corrupt)
            case Means.REFUSED_AT_THE_EDGE:
                self._bad(effect, self._refused)
            case _ if effect.first < self._reached:
                self._duplicate |= {point for point in points if point < self._reached}
            case Means.REFUSED_WITHIN:
                self._refused |= points
                self._reached = effect.stop
            case Means.GAP:
                self._reached = effect.stop
            case Means.POINTS:
                self._points(effect, points)

    def _points(self, effect: Effect, points: set[int]) -> None:
        self._stored |= points
        self._reached = effect.stop
        for name, gaps in effect.gaps.items():
            self._lacking[name] |= {
                p for start, stop in gaps for p in range(start, stop)
            }

    def _bad(self, effect: Effect, found: set[int]) -> None:
        length = self._lane.points_per_segment
        is_next = effect.first == self._reached
        if is_next and effect.stop <= (effect.first // length + 1) * length:
            found |= set(range(effect.first, effect.stop))
            self._reached = effect.stop

    def ledgers(self, *, has_ended: bool) -> dict[str, ChannelLedger]:
        """Return what must stand in the verdict of each channel.

        Parameters
        ----------
        has_ended : bool
            Whether the scan's end was said, and with it what came too late.
        """
        expected = max(self._reached, self._length or 0)
        stored = self._stored
        if self._length is None:
            # Without a seal the open segment stays on the bus.
            length = self._lane.points_per_segment
            files_stop = self._reached // length * length
            stored = {point for point in stored if point < files_stop}
        ledgers = {}
        for channel in self._lane.channels:
            there = stored - self._lacking[channel.name]
            ledgers[channel.name] = ChannelLedger(
                expected=expected,
                written=len(there),
                missing=_ranges(set(range(expected)) - there),
                duplicate=_ranges(self._duplicate),
                late=_ranges(self._late[channel.name]) if has_ended else (),
                corrupt=_ranges(self._corrupt),
                refused=_ranges(self._refused),
                sealed=self._length is not None,
            )
        return ledgers


def _ranges(points: Iterable[int]) -> tuple[PointRange, ...]:
    return ranges(sorted(points))
