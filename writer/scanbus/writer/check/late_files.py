"""Compare the late files of a scan with its master: links and ledger name each."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import h5py

from scanbus.schemas import ranges
from scanbus.schemas.file_names import late_channel, parse_segment_file
from scanbus.writer.check.report import Tally
from scanbus.writer.check.scanbus_files import MasterInfo, open_file, uid_of
from scanbus.writer.storage.late_points import point_numbers

__all__ = ["check_late_files"]


def check_late_files(
    path: Path, master: MasterInfo, linked: Collection[str], tally: Tally
) -> list[Path]:
    """Compare the files of late points beside a scan master with it.

    Parameters
    ----------
    linked : collection of str
        Names of the files to which the master links.

    Returns
    -------
    list of pathlib.Path
        The late files of this scan, to be checked whether the master links them or not.
    """
    found: list[Path] = []
    points: dict[str, set[int]] = {}
    for file_path in sorted(path.resolve().parent.iterdir()):
        name = parse_segment_file(file_path.name)
        channel = None if name is None else late_channel(name.lane)
        if channel is None or not file_path.is_file():
            continue
        with tally.guard(file_path, ""), open_file(file_path) as file:
            if uid_of(file) != master.uid:
                continue
            found.append(file_path)
            points.setdefault(channel, set()).update(_points(file))
    if master.judgement is not None and not master.judgement.provisional:
        _check_links(path, master, [one.name for one in found], linked, tally)
        _check_ledger(path, master, points, tally)
    return found


def _points(file: h5py.File) -> set[int]:
    return {int(point) for point in point_numbers(file) if point >= 0}


def _check_links(
    path: Path,
    master: MasterInfo,
    names: Collection[str],
    linked: Collection[str],
    tally: Tally,
) -> None:
    for name in names:
        if name not in linked:
            sentence = f"{name}, with late points, is not linked"
            tally.record(path, f"{master.entry}/scanbus/late", sentence)


def _check_ledger(
    path: Path, master: MasterInfo, points: dict[str, set[int]], tally: Tally
) -> None:
    ledgers = master.judgement.ledgers if master.judgement else {}
    said = {name: one.late for name, one in ledgers.items() if one.late}
    for channel in sorted({*said, *points}):
        stored = ranges(sorted(points.get(channel, ())))
        named = said.get(channel, ())
        if stored != named:
            sentence = f"{channel}: the late points of its files are not the ledger's"
            where = f"{master.entry}/scanbus/ledger/late/{channel}"
            tally.record(path, where, sentence, stored or named)
