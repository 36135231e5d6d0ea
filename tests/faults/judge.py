"""The judge of the fault tests: what was sent, against what stands in the files.

It imports nothing of scanbus: what was sent is computed again from the seed, the files
are read with plain h5py. What an undisturbed scan looks like it learns from the first
scan of a run, which nothing disturbs.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from scanbus.schemas.file_names import WORK_FOLDERS_GLOB
from tests.faults.content import CHANNELS, n_points, points, scan_uid

__all__ = ["Claim", "Finding", "judge_run"]

COMPLETE, PARTIAL = "complete", "partial"


@dataclass(frozen=True)
class Claim:
    """What is known of a scan from outside.

    Attributes
    ----------
    ended : bool
        Whether its publisher came to the end of it: then every point must be there.
    said : str
        The verdict that stood on the bus, empty if nobody saw one.
    never_began : bool
        Whether its program was told at its begin that there is no bus, or was killed
        then: there is no point of it.
    least : Mapping of str to int, optional
        Points by channel that must be there although its publisher did not come to
        the end: they stood in a spool, on Redis, or `send` had taken them. Somebody
        has ended or salvaged the scan, so its verdict is final.
    closed : bool
        Whether it was sealed where it stood: then that much is complete.
    named : bool
        Whether points may be missing: exactly those that the ledger names are, and the
        verdict is partial if there are any.
    """

    ended: bool
    said: str = ""
    never_began: bool = False
    least: Mapping[str, int] | None = None
    closed: bool = False
    named: bool = False


@dataclass(frozen=True)
class Scan:
    """One scan that was sent."""

    seed: int
    number: int
    length: int
    claim: Claim


@dataclass
class Finding:
    """What is wrong with one scan; nothing if all is well."""

    lost: int = 0
    doubled: int = 0
    wrong_verdicts: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong_verdicts or self.notes)


def judge_run(
    root: Path, seed: int, length: int, claims: Mapping[int, Claim]
) -> dict[int, Finding]:
    """Judge all scans of a run, by number; 0 stands for what belongs to no scan."""
    masters = {
        int(path.parent.name.removeprefix("scan")): path
        for path in root.rglob("scan*/scan*.h5")
        if re.fullmatch(r"scan\d+", path.stem)
    }
    usual = _segments(masters[1].parent) if 1 in masters else {}
    findings = {
        number: _judge_scan(
            masters.get(number), Scan(seed, number, length, claim), usual
        )
        for number, claim in claims.items()
    }
    unfinished = {
        scan_uid(seed, number)
        for number, claim in claims.items()
        if not (claim.ended or claim.closed)
    }
    findings[0] = Finding(notes=_leftovers(root, unfinished))
    findings[0].notes += [
        f"scan {number} was never sent" for number in masters if number not in claims
    ]
    return findings


def _judge_scan(
    master: Path | None,
    scan: Scan,
    usual: Mapping[str, Mapping[str, tuple[int, ...]]],
) -> Finding:
    found = Finding()
    claim = scan.claim
    if master is None:
        found.lost = sum(_least(scan, channel, "") for channel in CHANNELS)
        if found.lost:
            found.notes.append("no master")
        return found
    with h5py.File(master, locking=False) as file:
        entry = file[f"{scan.number}.1"]
        if claim.never_began:
            rows = {name: len(_rows(node, name)) for name, node in _channels(entry)}
            if any(rows.values()):
                found.notes.append(f"points of a scan that never began: {rows}")
            return found
        if claim.named:
            _judge_named(entry, scan, found)
        else:
            _judge_points(entry, scan, found)
            _judge_verdict(entry, claim, found)
        if entry["scanbus/uid"].asstr()[()] != scan_uid(scan.seed, scan.number):
            found.notes.append("the uid of another scan")
    if not claim.named:
        _judge_segments(_segments(master.parent), usual, claim, found)
    return found


def _judge_points(entry: h5py.Group, scan: Scan, found: Finding) -> None:
    for channel in CHANNELS:
        expected = n_points(scan.length, channel)
        rows = _rows(entry["measurement"].get(channel), channel)
        wanted = points(scan.seed, scan.number, channel, 0, expected)
        right = [bool(np.array_equal(a, b)) for a, b in zip(rows, wanted, strict=False)]
        n_right = sum(right)
        # More than must be there may be, and must be right as far as it goes.
        wanted_right = max(_least(scan, channel, _word(entry)), len(right))
        found.lost += wanted_right - n_right
        if n_right < wanted_right:
            at = right.index(False) if False in right else len(right)
            found.notes.append(f"{channel}: {n_right} of {wanted_right}, first {at}")
        found.doubled += max(0, len(rows) - expected)
        found.doubled += _n_repeated(rows, right, wanted)


def _judge_named(entry: h5py.Group, scan: Scan, found: Finding) -> None:
    """Judge a scan of which points may be missing: those that its verdict names."""
    if "ledger" not in entry["scanbus"]:
        found.wrong_verdicts += 1
        found.notes.append(f"no ledger: the master says {_word(entry) or 'nothing'}")
        return
    ledger = entry["scanbus/ledger"]
    names = [name.decode() for name in ledger["channel"][()]]
    any_missing = False
    for channel in CHANNELS:
        named = _named(ledger, channel)
        any_missing = any_missing or bool(named)
        rows = _rows(entry["measurement"].get(channel), channel)
        wanted = points(
            scan.seed, scan.number, channel, 0, n_points(scan.length, channel)
        )
        right = [bool(np.array_equal(a, b)) for a, b in zip(rows, wanted, strict=False)]
        found.doubled += max(0, len(rows) - len(wanted))
        found.doubled += _n_repeated(rows, right, wanted)
        stop = max(len(rows), _least(scan, channel, ""))
        there = [point < len(right) and right[point] for point in range(stop)]
        lost = [p for p in range(stop) if not there[p] and p not in named]
        found.lost += len(lost)
        if lost:
            found.notes.append(f"{channel}: {len(lost)} lost unnamed, first {lost[0]}")
        untrue = [point for point in named if point < len(right) and right[point]]
        if untrue and channel != "label":
            found.wrong_verdicts += 1
            found.notes.append(f"{channel}: point {untrue[0]} is there, named missing")
        expected = int(ledger["expected"][()][names.index(channel)])
        if expected < _least(scan, channel, ""):
            found.lost += _least(scan, channel, "") - expected
            found.notes.append(f"{channel}: {expected} points, the end is lost unnamed")
    _judge_named_verdict(entry, scan.claim, any_missing, found)


def _named(ledger: h5py.Group, channel: str) -> set[int]:
    """Points that the ledger says are not in the files."""
    ranges = [
        pair
        for kind in ("missing", "corrupt", "refused")
        if kind in ledger and channel in ledger[kind]
        for pair in ledger[kind][channel][()]
    ]
    return {point for start, stop in ranges for point in range(start, stop)}


def _judge_named_verdict(
    entry: h5py.Group, claim: Claim, any_missing: bool, found: Finding
) -> None:
    word = _word(entry)
    reason = str(entry["scanbus/reason"].asstr()[()])
    problems = []
    if any_missing and word != PARTIAL:
        problems.append(f"points are missing, the master says {word or 'nothing'}")
    if word == PARTIAL and not reason:
        problems.append("partial without a reason")
    if claim.said and claim.said != word:
        problems.append(f"the bus says {claim.said}, the master {word}")
    found.wrong_verdicts += len(problems)
    found.notes += problems


def _least(scan: Scan, channel: str, word: str) -> int:
    """Points of a channel that must be there, when the master says that word."""
    if scan.claim.least is not None:
        return scan.claim.least.get(channel, 0)
    everything = scan.claim.ended or word == COMPLETE
    return n_points(scan.length, channel) if everything else 0


def _channels(entry: h5py.Group) -> list[tuple[str, Any]]:
    return [(name, entry["measurement"].get(name)) for name in CHANNELS]


def _rows(node: Any, channel: str) -> Any:
    if node is None:
        return []
    return node.asstr()[()] if CHANNELS[channel][0] == "text" else node[()]


def _n_repeated(rows: Any, right: list[bool], wanted: Any) -> int:
    """Rows that hold a point which stands at its own place, too."""
    places = {_key(wanted[place]) for place, is_right in enumerate(right) if is_right}
    wrong = (rows[place] for place, is_right in enumerate(right) if not is_right)
    return sum(_key(row) in places for row in wrong)


def _key(row: Any) -> bytes:
    return row.encode() if isinstance(row, str) else np.asarray(row).tobytes()


def _word(entry: h5py.Group) -> str:
    node = entry.get("scanbus/verdict")
    return "" if node is None else str(node.asstr()[()])


def _judge_verdict(entry: h5py.Group, claim: Claim, found: Finding) -> None:
    word = _word(entry)
    is_provisional = bool(entry.get("scanbus/provisional", np.bool_(True))[()])
    is_whole = claim.ended or claim.closed or word == COMPLETE
    truth = COMPLETE if is_whole else PARTIAL
    problems = []
    if word != truth:
        problems.append(f"the master says {word or 'nothing'}, true is {truth}")
    if (claim.ended or claim.least is not None) and is_provisional:
        problems.append("the master's verdict is provisional")
    if claim.said and claim.said != word:
        problems.append(f"the bus says {claim.said}, the master {word}")
    if claim.ended and not claim.said:
        problems.append("nobody was told the verdict")
    if word == COMPLETE:
        ledger = entry["scanbus/ledger"]
        if (ledger["expected"][()] != ledger["written"][()]).any():
            problems.append("complete, but the ledger says otherwise")
    found.wrong_verdicts += len(problems)
    found.notes += problems


def _segments(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Every file beside the master, with the shapes of what it holds."""
    number = int(folder.name.removeprefix("scan"))
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for path in folder.iterdir():
        if path.name == f"{folder.name}.h5" or path.name.startswith("."):
            continue
        with h5py.File(path, locking=False) as file:
            name = path.name.replace(f"scan{number:04d}", "scan")
            shapes[name] = _shapes(file["entry_0000/measurement"])
    return shapes


def _shapes(group: h5py.Group) -> dict[str, tuple[int, ...]]:
    return {name: group[name].shape for name in group}


def _judge_segments(
    there: Mapping[str, Mapping[str, tuple[int, ...]]],
    usual: Mapping[str, Mapping[str, tuple[int, ...]]],
    claim: Claim,
    found: Finding,
) -> None:
    # Which segments are joined hangs on when: together they hold the same.
    names = _covered(there) ^ _covered(usual) if claim.ended else set()
    if names:
        found.notes.append(f"files unlike an undisturbed run's: {sorted(names)}")
    odd = [name for name in set(there) & set(usual) if there[name] != usual[name]]
    if odd and claim.ended:
        found.notes.append(f"shapes unlike an undisturbed run's: {sorted(odd)}")


def _covered(names: Iterable[str]) -> set[str]:
    """Files by name, a joined one as the segments that were joined."""
    covered: set[str] = set()
    for name in names:
        joined = re.fullmatch(r"(.+_)(\d{4,})-(\d{4,})\.h5", name)
        if joined is None:
            covered.add(name)
            continue
        numbers = range(int(joined[2]), int(joined[3]) + 1)
        covered |= {f"{joined[1]}{number:04d}.h5" for number in numbers}
    return covered


def _leftovers(root: Path, unfinished: Iterable[str]) -> list[str]:
    """Work folders that nobody needs any more."""
    allowed = tuple(unfinished)
    return [
        f"left behind: {path.relative_to(root)}"
        for path in sorted(root.glob(f"{WORK_FOLDERS_GLOB}/*"))
        if not any(uid in path.name for uid in allowed)
    ]
