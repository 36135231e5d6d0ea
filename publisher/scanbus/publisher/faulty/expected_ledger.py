"""The ledgers that a correct writer must produce from the entries sent.

Derived from the rules of the protocol, not from the writer's code: of an entry that
begins before the end of the previous one, nothing is stored; the points in the id of an
invalid entry count only if it is the id that must come next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from scanbus.schemas import ChannelLedger, LaneDescription, PointRange, ranges

__all__ = ["Effect", "LaneLedgers", "Means"]


class Means(Enum):
    """How a reader must treat an entry."""

    POINTS = "points"
    GAP = "gap"
    CORRUPT = "corrupt"
    REFUSED_AT_THE_EDGE = "refused at the edge"
    REFUSED_WITHIN = "refused within"
    LATE = "late"
    SEAL = "seal"


@dataclass(frozen=True)
class Effect:
    """The effect of one entry on the ledgers of its lane.

    Attributes
    ----------
    means : Means
        How a reader must treat it.
    first, stop : int
        The points in its id; for the seal, `stop` is the length.
    gaps : mapping
        Points that it declares missing, by channel name.
    channel : str
        Channel of a late point; empty for other entries.
    """

    means: Means
    first: int
    stop: int
    gaps: Mapping[str, tuple[PointRange, ...]] = field(default_factory=dict)
    channel: str = ""


class LaneLedgers:
    """The ledgers of one lane, built entry by entry.

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

    def add(self, effect: Effect) -> None:
        """Add one entry, in the order of the lane."""
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

    def ledgers(
        self, *, has_ended: bool, stored_stop: int = 0
    ) -> dict[str, ChannelLedger]:
        """Return the ledger of each channel that the verdict must have.

        Parameters
        ----------
        has_ended : bool
            Whether the end of the scan was sent, which counts its late points.
        stored_stop : int
            The point after the last segment, where it ended by its bytes: how many
            these are depends on the packing.
        """
        expected = max(self._reached, self._length or 0)
        stored = self._stored
        if self._length is None:
            # Without a seal the open segment stays on the bus: its points are not
            # written, and not missing.
            length = self._lane.points_per_segment
            files_stop = max(stored_stop, self._reached // length * length)
            stored = {point for point in stored if point < files_stop}
        ledgers = {}
        for channel in self._lane.channels:
            there = stored - self._lacking[channel.name]
            sent = self._stored - self._lacking[channel.name]
            ledgers[channel.name] = ChannelLedger(
                expected=expected,
                written=len(there),
                missing=_ranges(set(range(expected)) - sent),
                duplicate=_ranges(self._duplicate),
                late=_ranges(self._late[channel.name]) if has_ended else (),
                corrupt=_ranges(self._corrupt),
                refused=_ranges(self._refused),
                sealed=self._length is not None,
            )
        return ledgers


def _ranges(points: Iterable[int]) -> tuple[PointRange, ...]:
    return ranges(sorted(points))
