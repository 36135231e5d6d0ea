"""The small values of a running scan, as its master shows them.

What is published in shared segments goes into a file that the master copies. When that
is large, it becomes a finished part, which the master maps, and another one begins. A
part is at least a sixteenth of what is before it, so that a long scan has few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from scanbus.schemas import LaneDescription
from scanbus.schemas.running_files import parse_values_part, values_part_name
from scanbus.writer.model.value_files import ValueFile
from scanbus.writer.scan.lane_writer import LaneWriter
from scanbus.writer.scan.shared_segments import new_sections
from scanbus.writer.storage.shared_sections import Section
from scanbus.writer.storage.values_part import ValuesPart, find_parts, grow_part
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["RunningValues"]

_SHARE: Final = 16


class RunningValues:
    """The small values of one attempt; one scan writer owns it.

    Parameters
    ----------
    uid : str
        Uid of the scan.
    folder : pathlib.Path
        The scan's folder, with published segments and finished parts.
    work_folder : WorkFolder
        Where files are made.
    copied_bytes : int
        Size up to which the master copies them all.
    """

    def __init__(
        self, uid: str, folder: Path, work_folder: WorkFolder, copied_bytes: int
    ) -> None:
        self._uid = uid
        self._folder = folder
        self._work_folder = work_folder
        self._limit = copied_bytes
        self._parts: list[ValuesPart] | None = None
        self._latest: ValuesPart | None = None
        # Names of the segments whose points are in these.
        self._taken: set[str] = set()
        self._next_number = 0

    @property
    def reached(self) -> dict[str, int]:
        """Name of each lane to the end of its points in these files."""
        files = [*(self._parts or ()), *([self._latest] if self._latest else ())]
        return {lane: stop for one in files for lane, (_, stop) in one.points.items()}

    def update(self, lanes: Sequence[LaneWriter]) -> tuple[ValueFile, ...]:
        """Add what was published since the last time; return the files.

        Raises
        ------
        OSError, StorageError
            If the file system refuses, or a file is not what its name says.
        """
        ours = [lane for lane in lanes if not lane.has_own_files]
        if not ours:
            return ()
        parts = self._parts or ()
        if not all((self._folder / one.file.name).exists() for one in parts):
            self._begin_again()
        if self._parts is None:
            self._parts = self._find({one.lane.name: one.stored for one in ours})
        sections = new_sections(self._folder, self._uid, self.reached, self._taken)
        if any(sections.values()):
            self._grow([one.lane for one in ours], sections)
        latest = [self._latest.file] if self._latest else []
        return (*(one.file for one in self._parts), *latest)

    def _begin_again(self) -> None:
        """Forget all of it: somebody removed a part, and masters would map nothing."""
        if self._latest is not None:
            Path(self._latest.file.name).unlink(missing_ok=True)
        self._parts = self._latest = None
        self._taken.clear()

    def _find(self, stored: Mapping[str, int]) -> list[ValuesPart]:
        numbers = [parse_values_part(one.name) for one in self._folder.iterdir()]
        self._next_number = max((one for one in numbers if one is not None), default=-1)
        self._next_number += 1
        return find_parts(self._folder, self._uid, stored, self._limit)

    def _grow(
        self, lanes: Sequence[LaneDescription], sections: Mapping[str, list[Section]]
    ) -> None:
        name = values_part_name(self._next_number)
        self._next_number += 1
        before = self._latest
        self._latest = grow_part(
            # The root may be relative to the current folder, a master is not.
            self._work_folder.path(name).absolute(),
            self._uid,
            lanes,
            before=before,
            sections=sections,
            starts=self.reached,
            limit=self._limit,
        )
        if before is not None:
            Path(before.file.name).unlink(missing_ok=True)
        total = sum(one.n_bytes for one in self._parts or ())
        if self._latest.n_bytes > max(self._limit, total // _SHARE):
            self._finish(name, self._latest)

    def _finish(self, name: str, part: ValuesPart) -> None:
        self._work_folder.publish(name, self._folder / name)
        file = replace(part.file, name=name, is_lasting=True)
        assert self._parts is not None
        self._parts.append(replace(part, file=file))
        self._latest = None
