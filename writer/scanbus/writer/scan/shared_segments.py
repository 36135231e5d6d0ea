"""The segments that all lanes of small values of a scan share: found, open, published.

A segment ends for all lanes together: as soon as one of them is full or sealed, and
when it is large. The order of the files says nothing, only which points they have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.schemas.file_names import parse_shared_segment, shared_segment_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.section_chain import cover
from scanbus.writer.storage.placed_segment import PlacedSegment
from scanbus.writer.storage.shared_sections import (
    Section,
    SharedFile,
    read_shared_segment,
)
from scanbus.writer.storage.shared_segment import LaneSection, SharedSegment

__all__ = ["FinishedShared", "SharedSegments", "new_sections", "published_files"]

log = get_logger()
# A larger one would delay its lanes' acknowledgement: it is compared as a whole.
_MOST_BYTES: Final = 128 << 20


class SharingLane(Protocol):
    """What a shared segment needs of the writer of a lane."""

    lane: LaneDescription

    @property
    def has_own_files(self) -> bool:
        """Whether it has no part in shared segments."""
        ...

    @property
    def stored(self) -> int:
        """The point after the last published one."""
        ...

    def end_section(self) -> LaneSection | None:
        """End and return its section of the open segment, if it has one."""
        ...

    def published_section(self, name: str, section: LaneSection) -> None:
        """Record that the segment of a section is published."""
        ...


@dataclass(frozen=True, slots=True)
class FinishedShared:
    """A complete shared segment, to be closed, verified and published.

    Attributes
    ----------
    segment : SharedSegment
        The segment.
    name : str
        Its final name in the scan's folder.
    sections : tuple
        Each lane with points in it, and its section.
    """

    segment: SharedSegment
    name: str
    sections: tuple[tuple[SharingLane, LaneSection], ...]

    @property
    def stops(self) -> dict[str, int]:
        """Lane name to the point after the last one in this segment."""
        return {lane.lane.name: section.stop for lane, section in self.sections}

    def close(self) -> None:
        """Write everything and close the file."""
        self.segment.close()


def published_files(
    folder: Path, uid: str, without: Container[str] = ()
) -> dict[str, SharedFile]:
    """Return the published shared segments of a scan, by name, in order.

    Parameters
    ----------
    without : container of str
        Names of those that are not wanted.

    Raises
    ------
    NameTakenError
        If a file with the name of one is none, or another scan's.
    """
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208
    found = {}
    for name in sorted(names, key=lambda each: (len(each), each)):
        if parse_shared_segment(name) is None or name in without:
            continue
        found[name] = read_shared_segment(folder / name)
        if found[name].uid != uid:
            raise NameTakenError(str(folder / name), f"scan {found[name].uid}")
    return found


def new_sections(
    folder: Path, uid: str, reached: Mapping[str, int], taken: set[str]
) -> dict[str, list[Section]]:
    """Return the published points of each lane behind a point, ascending.

    Parameters
    ----------
    reached : mapping
        Name of each lane to that point; 0 for others.
    taken : set of str
        Names of segments with no point behind it; those read now are added.

    Raises
    ------
    NameTakenError
        If a file with the name of a segment is none, or another scan's.
    """
    found: dict[str, list[Section]] = {}
    for name, file in published_files(folder, uid, taken).items():
        taken.add(name)
        for lane, section in file.sections.items():
            found.setdefault(lane, []).append(section)
    return {
        lane: _behind(sections, reached.get(lane, 0))
        for lane, sections in found.items()
    }


def _behind(sections: Sequence[Section], point: int) -> list[Section]:
    # What is known up to the point counts as a section, too.
    pieces = cover([(0, point), *((one.start, one.stop) for one in sections)])
    return [
        sections[place - 1].clipped(max(start, point), stop)
        for place, start, stop in pieces
        if place and stop > point
    ]


class SharedSegments:
    """The shared segments of one attempt; one scan writer owns them.

    Parameters
    ----------
    uid : str
        Uid of the scan.
    folder : pathlib.Path
        The scan's folder, with published segments.
    make_path : callable
        Returns the temporary path of a segment, given its final name.
    """

    def __init__(
        self, uid: str, folder: Path, make_path: Callable[[str], Path]
    ) -> None:
        self._uid = uid
        self._folder = folder
        self._make_path = make_path
        self._open: SharedSegment | None = None
        self._placed: dict[str, PlacedSegment] = {}
        self._sections: dict[str, list[Section]] = {}
        self.is_due = False
        """Whether the open segment ends after the entries that were read with this."""
        self._next_number = 0

    def sections_of(self, lane: str) -> list[Section]:
        """Return the points of a lane in published segments when they were read.

        Ascending and contiguous from the first point on, up to a hole.
        """
        return self._pieces(lane, over_holes=False)

    def sections_behind(self, lane: str, point: int) -> list[Section]:
        """Return the pieces behind a hole, from a point on."""
        found = self._pieces(lane, over_holes=True)
        return [one for one in found if one.start >= point]

    def _pieces(self, lane: str, *, over_holes: bool) -> list[Section]:
        found = self._sections.get(lane)
        if not found:
            return []
        pieces = cover([(one.start, one.stop) for one in found], over_holes=over_holes)
        return [found[place].clipped(start, stop) for place, start, stop in pieces]

    def section(
        self, lane: LaneDescription, start: int, account: SegmentAccount
    ) -> LaneSection:
        """Begin the section of a lane in the open segment; see `SharedSegment`.

        Raises
        ------
        OSError
            If the file system refuses.
        """
        if self._open is None:
            path = self._make_path(shared_segment_name(self._next_number))
            self._open = SharedSegment(path, self._uid)
        return self._open.section(lane, start, account)

    def flush(self) -> None:
        """Flush the open segment, so that its points survive a kill of this process."""
        if self._open is not None:
            self._open.flush()

    def end(
        self, lanes: Iterable[SharingLane], *, is_due: bool = False
    ) -> FinishedShared | None:
        """End the open segment, if that is due; all lanes go on in another one."""
        segment = self._open
        is_due = is_due or self.is_due
        self.is_due = False
        if segment is None or not (is_due or segment.n_bytes >= _MOST_BYTES):
            return None
        # It may wait for others before it is closed.
        segment.flush()
        ended = [(lane, lane.end_section()) for lane in lanes]
        sections = tuple((lane, one) for lane, one in ended if one is not None)
        name = shared_segment_name(self._next_number)
        self._next_number += 1
        self._open = None
        return FinishedShared(segment, name, sections)

    def published(self, finished: FinishedShared) -> None:
        """Record that a segment is published."""
        identity = self._uid, finished.segment.digest
        self._placed[finished.name] = PlacedSegment(identity, _identity)
        for lane, section in finished.sections:
            lane.published_section(finished.name, section)

    def read_all(self, lanes: Iterable[SharingLane]) -> dict[str, list[Section]]:
        """Return all published points of lanes, in pieces as of `sections_of`.

        Raises
        ------
        VerificationError
            If there are fewer than were published: a file is gone.
        NameTakenError
            If a file with the name of a segment is none, or another scan's.
        """
        self.find()
        found: dict[str, list[Section]] = {}
        for lane in lanes:
            if lane.has_own_files:
                continue
            name = lane.lane.name
            found[name] = self.sections_of(name)
            if (found[name][-1].stop if found[name] else 0) < lane.stored:
                reason = f"it lacks points of {name} that were published"
                raise VerificationError(str(self._folder), reason)
        self.forget()
        return found

    def find(self) -> None:
        """Look which segments are published.

        Raises
        ------
        NameTakenError
            If a file with the name of one is none, or another scan's.
        """
        self._sections = {}
        for name, found in published_files(self._folder, self._uid).items():
            identity = self._uid, found.digest
            self._placed.setdefault(name, PlacedSegment(identity, _identity))
            for lane, section in found.sections.items():
                self._sections.setdefault(lane, []).append(section)
        numbers = [parse_shared_segment(name) or 0 for name in self._placed]
        self._next_number = max(numbers, default=-1) + 1

    def forget(self) -> None:
        """Give up the list of all sections: they are many."""
        self._sections = {}

    def confirm(self) -> None:
        """Check that every published segment is in its place; see `LaneWriter`.

        Raises
        ------
        VerificationError
            If one is gone, or another segment is in its place.
        NameTakenError
            If something else is in its place.
        """
        for name, placed in self._placed.items():
            placed.confirm(self._folder / name)

    def keep(self, finished: Iterable[FinishedShared]) -> None:
        """Complete and close unpublished segments, for salvage if the bus is lost."""
        for segment in self._unpublished(finished):
            if segment.is_closed:
                continue
            try:
                segment.close()
            except OSError as error:
                # Not raised: the bus has these points, and the error that ended the
                # attempt must not be hidden.
                log.warning(LogEvent.NOT_KEPT, lane="", reason=str(error))
                segment.discard()

    def discard(self, finished: Iterable[FinishedShared]) -> None:
        """Close unpublished segments without completing them."""
        for segment in self._unpublished(finished):
            segment.discard()

    def _unpublished(self, finished: Iterable[FinishedShared]) -> list[SharedSegment]:
        found = [one.segment for one in finished]
        return found if self._open is None else [*found, self._open]


def _identity(path: Path) -> tuple[str, int]:
    found = read_shared_segment(path)
    return found.uid, found.digest
