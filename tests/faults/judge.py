"""The judge of the fault tests: what was sent, against what stands in the files.

It imports nothing of scanbus: what was sent is computed again from the seed, the files
are read with plain h5py. What an undisturbed scan looks like it learns from the first
scan of a run, which nothing disturbs. A scan that was closed in its publisher's place
may go on as others, which name it as their parent: then all of them together must have
every point, and none of them twice.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from scanbus.schemas.file_names import WORK_FOLDERS_GLOB, parse_shared_segment
from tests.faults.content import CHANNELS, n_points, points, scan_uid
from tests.support.waiting import found_below

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
    heard : Mapping of str to str
        The same as `said`, by uid, for scans that continue this one.
    """

    ended: bool
    said: str = ""
    never_began: bool = False
    least: Mapping[str, int] | None = None
    closed: bool = False
    named: bool = False
    heard: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Master:
    """The master of a scan, by what it says of itself."""

    path: Path
    number: int
    uid: str
    parent: str


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
    root: Path,
    seed: int,
    length: int,
    claims: Mapping[int, Claim],
    *,
    closed: Iterable[str] = (),
    foreign: Mapping[Path, bytes] | None = None,
) -> dict[int, Finding]:
    """Judge all scans of a run, by number; 0 stands for what belongs to no scan.

    Parameters
    ----------
    closed : iterable of str
        Uids of scans that were ended in their publisher's place: only these may have
        others that continue them.
    foreign : Mapping of pathlib.Path to bytes, optional
        Files of somebody else, which took the numbers of scans.
    """
    masters = _masters(root, foreign or {})
    undisturbed = [each for each in masters if each.uid == scan_uid(seed, 1)]
    usual = _segments(undisturbed[0].path.parent) if undisturbed else {}
    findings: dict[int, Finding] = {}
    unfinished: set[str] = set()
    unknown = {each.path for each in masters}
    for number, claim in claims.items():
        ours = _family(masters, scan_uid(seed, number))
        unknown -= {each.path for each in ours}
        scan = Scan(seed, number, length, claim)
        if any(each.parent for each in ours):
            findings[number] = _judge_family(ours, scan, set(closed))
        else:
            findings[number] = _judge_scan(ours, scan, usual)
        if not (claim.ended or claim.closed):
            unfinished |= {scan_uid(seed, number), *(each.uid for each in ours)}
    findings[0] = Finding(notes=_leftovers(root, unfinished))
    findings[0].notes += [f"never sent: {path}" for path in sorted(unknown)]
    findings[0].notes += [
        f"changed: {path}, of somebody else"
        for path, content in (foreign or {}).items()
        if not path.is_file() or path.read_bytes() != content
    ]
    return findings


def _masters(root: Path, foreign: Container[Path]) -> list[Master]:
    found = []
    for path in sorted(set(found_below(root, "scan*/scan*.h5"))):
        if path in foreign:
            continue
        if not re.fullmatch(r"scan\d+", path.stem) or path.stem != path.parent.name:
            continue
        number = int(path.stem.removeprefix("scan"))
        with h5py.File(path, locking=False) as file:
            own = file[f"{number}.1/scanbus"]
            parent = str(own["parent"].asstr()[()]) if "parent" in own else ""
            found.append(Master(path, number, str(own["uid"].asstr()[()]), parent))
    return found


def _family(masters: Sequence[Master], uid: str) -> list[Master]:
    """Return the master of a scan, and those of scans that continue it, in order."""
    found = [each for each in masters if each.uid == uid]
    for each in masters:
        if each.parent == uid:
            found += _family(masters, each.uid)
    return found


def _judge_family(masters: Sequence[Master], scan: Scan, closed: set[str]) -> Finding:
    """Judge a scan that was closed, and goes on as others."""
    found = Finding()
    if scan.claim.never_began:
        found.notes.append("a scan that never began goes on as another")
    there: dict[str, list[set[int]]] = {channel: [] for channel in CHANNELS}
    excused: dict[str, set[int]] = {channel: set() for channel in CHANNELS}
    if len({each.uid for each in masters}) != len(masters):
        found.notes.append(f"two files of one scan: {masters}")
    for master in masters:
        if master.parent and master.parent not in closed:
            found.notes.append(f"{master.parent} goes on, and was never closed")
        _judge_member(master, scan, found, there, excused)
    for channel in CHANNELS:
        least = set(range(_least(scan, channel, "")))
        union = set().union(*there[channel])
        lost = least - union - (excused[channel] if scan.claim.named else set())
        found.lost += len(lost)
        if lost:
            found.notes.append(f"{channel}: {len(lost)} in no scan, first {min(lost)}")
        twice = sum(map(len, there[channel])) - len(union)
        found.doubled += twice
        if twice:
            ranges = [(min(one), max(one) + 1) for one in there[channel] if one]
            found.notes.append(f"{channel}: {twice} in two scans: {ranges}")
    return found


def _judge_member(
    master: Master,
    scan: Scan,
    found: Finding,
    there: dict[str, list[set[int]]],
    excused: dict[str, set[int]],
) -> None:
    """Judge one of several: what it lacks it names; add what it has."""
    claim = scan.claim
    word = claim.heard.get(master.uid, "" if master.parent else claim.said)
    # How much must be there is known of all together only.
    own = replace(scan, claim=Claim(ended=False, said=word, least={}, named=True))
    with h5py.File(master.path, locking=False) as file:
        entry = file[f"{master.number}.1"]
        _judge_named(entry, own, found)
        is_provisional = bool(entry.get("scanbus/provisional", np.bool_(True))[()])
        if is_provisional:
            found.wrong_verdicts += 1
            found.notes.append(f"the verdict of {master.path.stem} is provisional")
        for channel in CHANNELS:
            rows = _rows(entry["measurement"].get(channel), channel)
            wanted = points(scan.seed, scan.number, channel, 0, len(rows))
            there[channel].append(
                {
                    point
                    for point, (row, sent) in enumerate(zip(rows, wanted, strict=True))
                    if np.array_equal(row, sent)
                }
            )
            if "ledger" in entry["scanbus"]:
                excused[channel] |= _named(entry["scanbus/ledger"], channel)


def _judge_scan(
    masters: Sequence[Master],
    scan: Scan,
    usual: Mapping[str, Mapping[str, tuple[int, ...]]],
) -> Finding:
    found = Finding()
    claim = scan.claim
    if not masters:
        found.lost = sum(_least(scan, channel, "") for channel in CHANNELS)
        if found.lost:
            found.notes.append("no master")
        return found
    if len(masters) > 1:
        found.notes.append(f"two files of one scan: {masters}")
    master = masters[0]
    with h5py.File(master.path, locking=False) as file:
        entry = file[f"{master.number}.1"]
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
    if not claim.named:
        _judge_segments(_segments(master.path.parent), usual, claim, found)
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
        # The master changes, and so does what the manifest says of a scan's files.
        if path.stem == folder.name or path.name.startswith("."):
            continue
        if parse_shared_segment(path.name) is not None:
            shapes[path.name] = {}  # Left by a writer that was killed.
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
        if not any(uid in _owner(path) for uid in allowed)
    ]


def _owner(path: Path) -> str:
    """Return what names the scan of a work folder, or of the claim of a number."""
    return path.read_text() if path.is_file() else path.name
