"""Accounts of points per segment, ledgers per channel, and the verdict on a scan.

Pure. A segment's account is stored in the segment, so a writer that takes over need
not read the bus again; a channel's ledger is the sum of its segments' accounts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scanbus.schemas import (
    ChannelLedger,
    EndReason,
    LaneDescription,
    LostData,
    PointRange,
    Verdict,
    VerdictWord,
)
from scanbus.schemas.wording import counted

__all__ = [
    "SegmentAccount",
    "joined",
    "judge",
    "lane_ledgers",
    "losses",
    "without",
]

# Largest number of problem sentences per segment.
MAX_PROBLEMS = 20


@dataclass(slots=True)
class SegmentAccount:
    """Account of missing, duplicate, damaged and refused points of one segment.

    Attributes
    ----------
    missing : list of PointRange
        Points without data in the file, for all channels of the lane.
    duplicate, corrupt, refused : list of PointRange
        Points received twice, damaged, or in a form that cannot be stored.
    gaps : dict
        Channel name to points that are missing for this channel only.
    problems : list of str
        Problems that concern no particular points.
    last_id : str
        Id of the last entry read for this segment. A writer that takes over continues
        there, so its account of the next segment is the same.
    """

    missing: list[PointRange] = field(default_factory=list)
    duplicate: list[PointRange] = field(default_factory=list)
    corrupt: list[PointRange] = field(default_factory=list)
    refused: list[PointRange] = field(default_factory=list)
    gaps: dict[str, list[PointRange]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    last_id: str = ""

    def note(self, kind: str, start: int, stop: int) -> None:
        """Record the points ``[start, stop)`` under one kind.

        Parameters
        ----------
        kind : str
            ``missing``, ``duplicate``, ``corrupt`` or ``refused``.
        """
        getattr(self, kind).append((start, stop))

    def note_gaps(self, gaps: Mapping[str, Iterable[PointRange]]) -> None:
        """Record points that are missing for single channels."""
        for name, found in gaps.items():
            self.gaps.setdefault(name, []).extend(found)

    def read_up_to(self, entry_id: str) -> None:
        """Record the id of the last entry read for this segment."""
        self.last_id = entry_id

    def note_problem(self, problem: str) -> None:
        """Record a problem once; their number is bounded, as any client causes them."""
        if len(self.problems) < MAX_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    def note_duplicate(self, start: int, stop: int) -> None:
        """Record points received again, merged with adjacent ones to bound the list."""
        found = self.duplicate
        if found and found[-1][0] <= start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))

    @property
    def n_notes(self) -> int:
        """Number of records; it only grows while a segment is open."""
        lists = (self.missing, self.duplicate, self.corrupt, self.refused)
        n_ranges = sum(len(found) for found in (*lists, *self.gaps.values()))
        return n_ranges + len(self.problems)

    def to_json(self) -> str:
        """Return the account as JSON text; equal accounts give equal text."""
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
        """Return an account from the JSON text stored in a segment."""
        found = json.loads(text)
        kinds = ("missing", "duplicate", "corrupt", "refused")
        lists = {kind: _pairs(found[kind]) for kind in kinds}
        gaps = {name: _pairs(ranges) for name, ranges in found["gaps"].items()}
        return cls(
            **lists,
            gaps=gaps,
            # Segments of earlier versions lack these fields.
            problems=[str(problem) for problem in found.get("problems", [])],
            last_id=str(found.get("last_id", "")),
        )

    @classmethod
    def merged(cls, accounts: Iterable[SegmentAccount]) -> SegmentAccount:
        """Return the account of consecutive segments that become one."""
        whole = cls()
        for one in accounts:
            whole.missing += one.missing
            whole.duplicate += one.duplicate
            whole.corrupt += one.corrupt
            whole.refused += one.refused
            whole.note_gaps(one.gaps)
            for problem in one.problems:
                whole.note_problem(problem)
            whole.last_id = one.last_id
        return whole

    def clipped(self, start: int, stop: int) -> SegmentAccount:
        """Return the account of the points ``[start, stop)`` among those of it."""

        def inside(found: Iterable[PointRange]) -> list[PointRange]:
            cut = ((max(start, a), min(stop, b)) for a, b in found)
            return [(a, b) for a, b in cut if a < b]

        return SegmentAccount(
            missing=inside(self.missing),
            duplicate=inside(self.duplicate),
            corrupt=inside(self.corrupt),
            refused=inside(self.refused),
            gaps={name: inside(found) for name, found in self.gaps.items()},
            problems=[*self.problems],
            last_id=self.last_id,
        )

    def missing_of(self, channel: str) -> tuple[PointRange, ...]:
        """Return the missing points of one channel, sorted and merged."""
        return joined([*self.missing, *self.gaps.get(channel, ())])


def _pairs(found: list[list[int]]) -> list[PointRange]:
    return [(int(start), int(stop)) for start, stop in found]


def joined(found: Iterable[PointRange]) -> tuple[PointRange, ...]:
    """Return ranges sorted, with overlapping and adjacent ones merged.

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


def without(
    ranges: Iterable[PointRange], taken: Sequence[PointRange]
) -> tuple[PointRange, ...]:
    """Return ranges minus other ranges; both must be sorted and merged.

    Examples
    --------
    >>> without([(0, 10)], [(2, 3), (8, 12)])
    ((0, 2), (3, 8))
    """
    left: list[PointRange] = []
    for start, stop in ranges:
        edge = start
        for low, high in taken:
            if high <= edge or low >= stop:
                continue
            if low > edge:
                left.append((edge, low))
            edge = max(edge, high)
        if edge < stop:
            left.append((edge, stop))
    return tuple(left)


def lane_ledgers(
    lane: LaneDescription,
    accounts: Iterable[SegmentAccount],
    *,
    expected: int,
    stored: int,
    sealed: bool,
    is_open: bool = False,
) -> dict[str, ChannelLedger]:
    """Return the ledger of every channel of a lane, by channel name.

    Parameters
    ----------
    accounts : iterable of SegmentAccount
        Accounts of all segments in the files.
    expected : int
        Number of points up to the seal, or up to the last one seen.
    stored : int
        Number of points covered by the files, including missing ones.
    sealed : bool
        Whether the publisher sealed the lane, i.e. declared its length.
    is_open : bool
        Whether the scan may go on: points behind the files are not missing then, but on
        the bus.
    """
    accounts = list(accounts)
    if lane.is_static and not is_open:
        expected = max(expected, 1)  # Metadata refer to it, whatever its seal says.
    beyond = [(stored, expected)] if expected > stored and not is_open else []
    ledgers = {}
    for channel in lane.channels:
        missing = joined(
            [
                *(gap for one in accounts for gap in one.missing_of(channel.name)),
                *beyond,
            ]
        )
        reached = min(expected, stored) if is_open else expected
        lost = sum(max(0, min(stop, reached) - start) for start, stop in missing)
        ledgers[channel.name] = ChannelLedger(
            expected=expected,
            written=reached - lost,
            missing=missing,
            duplicate=joined(r for one in accounts for r in one.duplicate),
            corrupt=joined(r for one in accounts for r in one.corrupt),
            refused=joined(r for one in accounts for r in one.refused),
            sealed=sealed,
        )
    return ledgers


def losses(
    lost: Iterable[LostData],
    lanes: Iterable[LaneDescription],
    ledgers: Mapping[str, ChannelLedger],
) -> list[str]:
    """Return what the publisher lost, in sentences; not of points that files have."""
    missing = {
        lane.name: [r for each in lane.channels for r in ledgers[each.name].missing]
        for lane in lanes
        if not lane.is_late
    }
    return [
        each.text
        for each in lost
        if not each.lane
        or any(
            start < each.stop and each.first < stop
            for start, stop in missing.get(each.lane, ())
        )
    ]


def judge(
    uid: str,
    ledgers: Mapping[str, ChannelLedger],
    *,
    end_reason: EndReason | None,
    master: str,
    problems: Iterable[str] = (),
    notes: Iterable[str] = (),
    provisional: bool = False,
) -> Verdict:
    """Return the verdict that follows from the ledgers: complete or partial.

    Parameters
    ----------
    end_reason : EndReason or None
        How the acquisition ended, by the publisher; None if it did not end the scan.
    master : str
        Path of the scan master relative to the root.
    problems : iterable of str
        Other reasons why the scan is not complete, e.g. events that cannot be parsed.
    notes : iterable of str
        What holds also of a complete scan.
    provisional : bool
        Whether the verdict may change because the publisher may return.
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
        notes=tuple(notes),
    )


def _faults(ledgers: Mapping[str, ChannelLedger]) -> list[str]:
    """Return a sentence for each fault, with the channels that have it."""
    found: dict[str, list[str]] = {}
    for name, ledger in ledgers.items():
        if not ledger.is_complete:
            for fault in _channel_faults(ledger):
                found.setdefault(fault, []).append(name)
    return [f"{_named(names)}: {fault}" for fault, names in found.items()]


def _named(channels: Sequence[str]) -> str:
    """Return the first channels by name, and how many more there are.

    Examples
    --------
    >>> _named(["a", "b", "c", "d"]), _named(["a"])
    ('a, b and 2 more', 'a')
    """
    if len(channels) <= 3:
        return ", ".join(channels)
    return f"{channels[0]}, {channels[1]} and {len(channels) - 2} more"


def _channel_faults(ledger: ChannelLedger) -> list[str]:
    faults = []
    if ledger.missing:
        lost = sum(stop - start for start, stop in ledger.missing)
        faults.append(
            f"{lost} of {counted(ledger.expected, 'point')} "
            f"{'is' if lost == 1 else 'are'} missing "
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
        lost = sum(stop - start for start, stop in ledger.missing)
        on_bus = ledger.expected - ledger.written - lost
        where = f", {on_bus} of them on the bus" if on_bus else ""
        faults.append(
            f"not sealed, {counted(ledger.expected - lost, 'point')} so far{where}"
        )
    return faults


def _listed(found: tuple[PointRange, ...]) -> str:
    shown = ", ".join(
        str(start) if stop == start + 1 else f"{start} to {stop - 1}"
        for start, stop in found[:5]
    )
    return shown + (", …" if len(found) > 5 else "")
