"""Compare verdicts and ledgers with the points in the files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from scanbus.schemas import ChannelLedger, PointRange, VerdictWord
from scanbus.schemas.wording import counted
from scanbus.writer.check.report import Spot, Tally
from scanbus.writer.check.scanbus_files import Judgement, MasterInfo
from scanbus.writer.check.virtual_datasets import VirtualInfo
from scanbus.writer.model.ledger import joined, without
from scanbus.writer.model.sources import MAX_SOURCES, are_linked

__all__ = ["check_ledger", "check_master", "compare_judgements", "note_judgement"]


def check_ledger(
    spot: Spot,
    channel: str,
    ledger: ChannelLedger,
    *,
    n_points: int,
    missing: Iterable[PointRange],
    is_exact: bool,
) -> None:
    """Compare a channel's ledger with its points in the files.

    Parameters
    ----------
    n_points : int
        Number of points covered by the files, including missing ones.
    missing : iterable of PointRange
        Points among them that are missing in the files.
    is_exact : bool
        Whether the ledger must not name more missing points than these.
    """
    if n_points > ledger.expected:
        sentence = (
            f"{channel}: {counted(n_points, 'point')}, the ledger expects "
            f"{ledger.expected}"
        )
        spot.record(sentence, ((ledger.expected, n_points),))
        return
    lost = joined([*missing, (n_points, ledger.expected)])
    said = joined(ledger.missing)
    unsaid, unseen = without(lost, said), without(said, lost)
    if unsaid:
        sentence = f"{channel}: missing, but not by the ledger"
        spot.record(sentence, unsaid)
    if unseen and is_exact:
        sentence = f"{channel}: missing by the ledger, but in the files"
        spot.record(sentence, unseen)
    n_missing = sum(stop - start for start, stop in said)
    if ledger.written != ledger.expected - n_missing:
        sentence = (
            f"{channel}: the ledger counts {ledger.written} of {ledger.expected} "
            f"points as written and names {n_missing} as missing"
        )
        spot.record(sentence, said)


def check_master(
    path: Path, master: MasterInfo, virtual: Sequence[VirtualInfo], tally: Tally
) -> None:
    """Compare a scan master's ledger and sources with its virtual datasets."""
    joined_up: dict[str, list[VirtualInfo]] = {}
    for info in virtual:
        if info.channel is not None:
            joined_up.setdefault(info.channel, []).append(info)
    own = f"{master.entry}/scanbus"
    _note_many_sources(path, master, virtual, tally)
    are_links = are_linked(master.sources)
    for channel, sources in master.sources.items():
        where = f"{own}/sources/{channel}"
        infos = joined_up.get(channel, [])
        is_link = are_links and len(sources) == 1
        if sources and not (infos or is_link) and all(one.is_whole for one in virtual):
            tally.record(path, where, "no virtual dataset joins these files")
        if any(tuple(info.parts) != sources for info in infos):
            tally.record(path, where, "not the sources of the virtual dataset")
    final = master.judgement
    if final is None or final.provisional:
        tally.note(f"{path}: {master.entry} has no final verdict; more may come")
        return
    for channel, infos in joined_up.items():
        for info in infos:
            spot = tally.at(path, info.name)
            _check_counts(spot, channel, final.ledgers.get(channel), info)


def _note_many_sources(
    path: Path, master: MasterInfo, virtual: Sequence[VirtualInfo], tally: Tally
) -> None:
    n_sources = sum(len(info.parts) for info in virtual)
    if n_sources > MAX_SOURCES:
        tally.note(
            f"{path}: {master.entry} has {n_sources} source files, more than "
            f"{MAX_SOURCES}. A process that may not have so many files open (ulimit -n)"
            " reads fill values in place of the others"
        )


def _check_counts(
    spot: Spot, channel: str, ledger: ChannelLedger | None, info: VirtualInfo
) -> None:
    if ledger is None:
        spot.record(f"the ledger does not name {channel}")
        return
    check_ledger(
        spot,
        channel,
        ledger,
        n_points=info.n_rows,
        missing=info.missing,
        is_exact=info.is_whole,
    )


def note_judgement(path: Path, judgement: Judgement, tally: Tally) -> None:
    """Add a note on a verdict that is provisional or not ``complete``."""
    if judgement.provisional:
        tally.note(f"{path}: the verdict, {judgement.word.value}, is provisional")
    elif judgement.word is not VerdictWord.COMPLETE:
        tally.note(f"{path}: the scan is {judgement.word.value}: {judgement.reason}")


def compare_judgements(
    path: Path, ours: Judgement, other: Path, theirs: Judgement, tally: Tally
) -> None:
    """Record differences between the verdicts of a master and of a scan file."""
    if ours.provisional:
        return
    if ours.word != theirs.word:
        sentence = f"verdict {ours.word.value}; {other.name}: {theirs.word.value}"
        tally.record(path, "scanbus/verdict", sentence)
    for channel in sorted({*ours.ledgers, *theirs.ledgers}):
        if ours.ledgers.get(channel) != theirs.ledgers.get(channel):
            sentence = f"{channel}: another account than in {other.name}"
            tally.record(path, "scanbus/ledger", sentence)
