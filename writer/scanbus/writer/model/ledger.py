"""What became of a lane's points, and the word over a scan that follows from it.

Pure. A segment's account is stored in the segment, so that a writer that takes over
knows it without reading the bus again; a scan's ledger is the sum of its segments'.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scanbus.schemas import (
    ChannelLedger,
    EndReason,
    LaneDescription,
    PointRange,
    Verdict,
    VerdictWord,
)

__all__ = ["SegmentAccount", "joined", "judge", "lane_ledgers"]

# Sentences that one segment keeps.
MAX_PROBLEMS = 20


@dataclass(slots=True)
class SegmentAccount:
    """What is not as it should be with the points of one segment.

    Attributes
    ----------
    missing : list of PointRange
        Points of which nothing is in the file, for all channels of the lane.
    duplicate, corrupt, refused : list of PointRange
        Points that came twice, damaged, or in a form that cannot be stored.
    gaps : dict
        Channel name to points that are missing for it alone.
    problems : list of str
        What came meanwhile and says nothing about points.
    last_id : str
        Id of the last entry that was read for it: whoever goes on behind this segment
        begins there, and so comes to the same account of the next.
    """

    missing: list[PointRange] = field(default_factory=list)
    duplicate: list[PointRange] = field(default_factory=list)
    corrupt: list[PointRange] = field(default_factory=list)
    refused: list[PointRange] = field(default_factory=list)
    gaps: dict[str, list[PointRange]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    last_id: str = ""

    def note(self, kind: str, start: int, stop: int) -> None:
        """Note points that did not come as they should.

        Parameters
        ----------
        kind : str
            ``missing``, ``duplicate``, ``corrupt`` or ``refused``.
        """
        getattr(self, kind).append((start, stop))

    def note_gaps(self, gaps: Mapping[str, Iterable[PointRange]]) -> None:
        """Note points that are missing for single channels."""
        for name, found in gaps.items():
            self.gaps.setdefault(name, []).extend(found)

    def read_up_to(self, entry_id: str) -> None:
        """Note up to which entry the lane was read for this segment."""
        self.last_id = entry_id

    def note_problem(self, problem: str) -> None:
        """Keep a sentence, but only some and each once: they come from anybody."""
        if len(self.problems) < MAX_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    def note_duplicate(self, start: int, stop: int) -> None:
        """Note points that came again; bounded, however often they come."""
        found = self.duplicate
        if found and found[-1][0] <= start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))

    @property
    def n_notes(self) -> int:
        """How often something was noted; it only grows while a segment is open."""
        lists = (self.missing, self.duplicate, self.corrupt, self.refused)
        n_ranges = sum(len(found) for found in (*lists, *self.gaps.values()))
        return n_ranges + len(self.problems)

    def to_json(self) -> str:
        """Return the account as text, the same for the same account."""
        fields = {
            "missing": joined(self.missing),
            "duplicate": joined(self.duplicate),
            "corrupt": joined(self.corrupt),
            "refused": joined(self.refused),
            "gaps": {name: joined(found) for name, found in self.gaps.items()},
            "problems": self.problems,
            "last_id": self.last_id,
        }
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SegmentAccount:
        """Return the account that a segment holds."""
        found = json.loads(text)
        kinds = ("missing", "duplicate", "corrupt", "refused")
        lists = {kind: _pairs(found[kind]) for kind in kinds}
        gaps = {name: _pairs(ranges) for name, ranges in found["gaps"].items()}
        return cls(
            **lists,
            gaps=gaps,
            # Segments of earlier versions have neither.
            problems=[str(problem) for problem in found.get("problems", [])],
            last_id=str(found.get("last_id", "")),
        )

    def missing_of(self, channel: str) -> tuple[PointRange, ...]:
        """Return the points that one channel lacks."""
        return joined([*self.missing, *self.gaps.get(channel, ())])


def _pairs(found: list[list[int]]) -> list[PointRange]:
    return [(int(start), int(stop)) for start, stop in found]


def joined(found: Iterable[PointRange]) -> tuple[PointRange, ...]:
    """Return ranges in order, without overlap, neighbours made one.

    Examples
    --------
    >>> joined([(5, 7), (0, 2), (2, 4), (6, 9)])
    ((0, 4), (5, 9))
    """
    result: list[PointRange] = []
    for start, stop in sorted(found):
        if start == stop:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(stop, result[-1][1]))
        else:
            result.append((start, stop))
    return tuple(result)


def lane_ledgers(
    lane: LaneDescription,
    accounts: Iterable[SegmentAccount],
    *,
    expected: int,
    stored: int,
    sealed: bool,
) -> dict[str, ChannelLedger]:
    """Return the ledger of every channel of a lane.

    Parameters
    ----------
    accounts : iterable of SegmentAccount
        Of all segments that are in the files.
    expected : int
        Points up to the seal, or up to the last one seen.
    stored : int
        Points that the files have a place for.
    sealed : bool
        Whether the publisher said how many there are.
    """
    accounts = list(accounts)
    beyond = [(stored, expected)] if expected > stored else []
    ledgers = {}
    for channel in lane.channels:
        missing = joined(
            [
                *(gap for one in accounts for gap in one.missing_of(channel.name)),
                *beyond,
            ]
        )
        lost = sum(stop - start for start, stop in missing)
        ledgers[channel.name] = ChannelLedger(
            expected=expected,
            written=expected - lost,
            missing=missing,
            duplicate=joined(r for one in accounts for r in one.duplicate),
            corrupt=joined(r for one in accounts for r in one.corrupt),
            refused=joined(r for one in accounts for r in one.refused),
            sealed=sealed,
        )
    return ledgers


def judge(
    uid: str,
    ledgers: Mapping[str, ChannelLedger],
    *,
    end_reason: EndReason | None,
    master: str,
    problems: Iterable[str] = (),
    provisional: bool = False,
) -> Verdict:
    """Return the verdict that follows from the ledgers.

    Parameters
    ----------
    end_reason : EndReason or None
        What the publisher said of the acquisition; None if it did not.
    master : str
        Path of the scan master below the root.
    problems : iterable of str
        What else keeps the scan from being complete, e.g. events that could not be
        understood.
    """
    faults = [*problems, *_faults(ledgers)]
    if end_reason is None:
        faults.insert(0, "the publisher is gone and did not end the scan")
    word = VerdictWord.PARTIAL if faults else VerdictWord.COMPLETE
    return Verdict(
        uid=uid,
        verdict=word,
        provisional=provisional,
        reason="; ".join(faults[:20]),
        end_reason=end_reason.value if end_reason else "",
        channels=dict(ledgers),
        master=master,
    )


def _faults(ledgers: Mapping[str, ChannelLedger]) -> list[str]:
    return [
        f"{name}: {fault}"
        for name, ledger in ledgers.items()
        if not ledger.is_complete
        for fault in _channel_faults(ledger)
    ]


def _channel_faults(ledger: ChannelLedger) -> list[str]:
    faults = []
    if ledger.missing:
        lost = ledger.expected - ledger.written
        faults.append(
            f"{lost} of {ledger.expected} points are missing "
            f"({_listed(ledger.missing)})"
        )
    for kind, found in (
        ("came too late", ledger.late),
        ("were damaged", ledger.corrupt),
        ("could not be stored", ledger.refused),
    ):
        if found:
            faults.append(f"points {kind} ({_listed(found)})")
    if not ledger.sealed:
        faults.append(f"not sealed, {ledger.written} points so far")
    return faults


def _listed(found: tuple[PointRange, ...]) -> str:
    shown = ", ".join(
        str(start) if stop == start + 1 else f"{start} to {stop - 1}"
        for start, stop in found[:5]
    )
    return shown + (", …" if len(found) > 5 else "")
