"""The points of small values that killed writers left in shared segments.

Published segments have what was acknowledged, and those in work folders what was
flushed, by any attempt. Nothing is copied: the scan file is written from all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.schemas.file_names import parse_shared_segment
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.section_chain import cover
from scanbus.writer.storage.shared_sections import (
    Section,
    read_shared_segment,
    recover_shared_segment,
)

__all__ = ["accounts_of", "find_sections"]


def find_sections(
    uid: str,
    lanes: Iterable[LaneDescription],
    folder: Path,
    work_folders: Iterable[Path],
) -> tuple[dict[str, list[Section]], list[str]]:
    """Return everything that files have of lanes of small values.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    work_folders : iterable of pathlib.Path
        The folders of all attempts.

    Returns
    -------
    sections : dict
        Lane name to pieces of sections, ascending, with holes where no file has points.
    unusable : list of str
        One sentence for each file that could not be used.

    Raises
    ------
    VerificationError
        If nothing of a published segment can be used, or it is another scan's.
    """
    names = {lane.model_dump_json(): lane.name for lane in lanes}
    found: dict[str, list[Section]] = {name: [] for name in names.values()}
    whole: dict[str, list[Section]] = {name: [] for name in names.values()}
    for path in _shared_in(folder):
        for name, section in _published(path, uid, names):
            found[name].append(section)
    unusable: list[str] = []
    for path in (path for each in work_folders for path in _shared_in(each)):
        try:
            recovered = recover_shared_segment(path, uid)
        except VerificationError as error:
            unusable.append(str(error))
            continue
        for section in recovered:
            if section.description in names:
                found[names[section.description]] += _runs(section)
                whole[names[section.description]].append(section)
    return {name: _covered(found[name], whole[name]) for name in found}, unusable


def _shared_in(folder: Path) -> list[Path]:
    """Return the shared segments in a folder in which anything was written."""
    paths = folder.iterdir()
    shared = (one for one in paths if parse_shared_segment(one.name) is not None)
    return sorted(one for one in shared if one.stat().st_size)


def _published(
    path: Path, uid: str, names: dict[str, str]
) -> Iterator[tuple[str, Section]]:
    try:
        found = read_shared_segment(path)
    except (NameTakenError, OSError):
        for section in recover_shared_segment(path, uid):
            if section.description in names:
                for run in _runs(section):
                    yield names[section.description], run
        return
    if found.uid != uid:
        raise VerificationError(str(path), "it belongs to another scan")
    known = set(names.values())
    yield from ((name, one) for name, one in found.sections.items() if name in known)


def _runs(section: Section) -> list[Section]:
    """Return the parts of a recovered section that have points.

    Another file may have the points that this one lacks.
    """
    edges = [(one.first, one.first + one.count) for one in section.records]
    runs = cover(edges, over_holes=True)
    return [section.clipped(max(a, section.start), b) for _, a, b in runs]


def _covered(sections: Sequence[Section], whole: Sequence[Section]) -> list[Section]:
    """Return the pieces of a lane, up to the last point that a writer has noted."""
    ranges = [(one.start, one.stop) for one in sections]
    pieces = cover(ranges, over_holes=True)
    found = [sections[place].clipped(start, stop) for place, start, stop in pieces]
    reached = found[-1].stop if found else 0
    last = max(whole, key=lambda one: one.stop, default=None)
    if last is not None and last.stop > reached:
        found.append(last.clipped(max(reached, last.start), last.stop))
    return found


def accounts_of(sections: Sequence[Section]) -> list[SegmentAccount]:
    """Return the accounts of a lane's pieces; points between them are missing."""
    accounts = [section.account for section in sections]
    reached = 0
    for section in sections:
        if section.start > reached:
            accounts.append(SegmentAccount(missing=[(reached, section.start)]))
        reached = section.stop
    return accounts
