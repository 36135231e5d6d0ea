"""The masters of a scan that is being written: what they show, and since when.

While the scan runs, its master shows what is published of it. So a reader never sees
fewer points than before, whoever writes the scan, and points may be trimmed from the
bus as soon as a master shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas.file_names import scan_master_name
from scanbus.writer.masters.above import write_dataset_masters
from scanbus.writer.masters.unlisted import note_unlisted
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.scan.lane_writer import LaneWriter
from scanbus.writer.scan.master_growth import MasterGrowth
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.running_values import RunningValues
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.storage.old_masters import OldMasters
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["ScanMasters"]


class ScanMasters:
    """The masters of one attempt; one scan writer owns it.

    Parameters
    ----------
    root : pathlib.Path
        Root of all files.
    record : ScanRecord
        The scan.
    folder : pathlib.Path
        The scan's folder.
    work_folder : WorkFolder
        Where files are made.
    authority : WriteAuthority
        Told which points a master shows.
    pace : Pace
        Age of the master, size of what it copies, and grace period.

    Attributes
    ----------
    growth : MasterGrowth
        When the next one is due.
    """

    def __init__(
        self,
        root: Path,
        record: ScanRecord,
        folder: Path,
        *,
        work_folder: WorkFolder,
        authority: WriteAuthority,
        pace: Pace,
    ) -> None:
        self._root = root
        self._record = record
        self._folder = folder
        self._work_folder = work_folder
        self._authority = authority
        self._copied_bytes = pace.copied_bytes
        self._keeps_old = pace.grace_s > 0
        self.growth = MasterGrowth(pace.master_s)
        self._path = folder / scan_master_name(record.identity.scan_number)
        self._old = OldMasters(self._path, pace.grace_s)
        self._values = RunningValues(record.uid, folder, work_folder, pace.copied_bytes)
        self._shown: dict[str, int] = {}
        self._is_listed = False

    def begin(self, lanes: Sequence[LaneWriter]) -> None:
        """Note what predecessors have left."""
        self._old.note()
        self.growth.has_news = any(lane.stored for lane in lanes)

    @property
    def is_asked(self) -> bool:
        """Whether Redis waits for room, though a master shows all that there is.

        Then the bus may have lost what it was told of the master.
        """
        return self.growth.is_needed and not self.growth.has_news

    def write(self, contents: ScanContents, lanes: Sequence[LaneWriter]) -> None:
        """Write the master, with the small values so far unless there is a scan file.

        Raises
        ------
        NameTakenError
            If a file of another scan has its name.
        OSError, StorageError
            If the file system refuses.
        """
        with self.growth.counted():
            if contents.values_file is None:
                contents = replace(
                    contents,
                    values=self._values.update(lanes),
                    copied_bytes=self._copied_bytes,
                )
            old = self._old.new_name() if self._keeps_old else None
            work_folder = self._work_folder.folder
            write_scan_master(self._folder, contents, work_folder, old=old)
            if old is not None:
                self._old.note(old)
        self._show(contents, lanes)
        if not self._is_listed:
            self._list()
            self._is_listed = True

    def _list(self) -> None:
        """Have the scan listed in the masters above it, which link it once."""
        if self._authority.is_replay:  # Nobody else writes below its root.
            write_dataset_masters(self._root, self._record.identity)
        else:
            note_unlisted(self._root, self._record.identity)

    def _show(self, contents: ScanContents, lanes: Sequence[LaneWriter]) -> None:
        """Say up to which points the master shows each lane."""
        reached = self._values.reached
        shown: dict[str, int] = {}
        for lane in lanes:
            name = lane.lane.name
            # Of many lanes with files of their own, it names some of the files: the
            # others count, too, as they may never be joined if Redis stays full.
            shown[name] = lane.stored
            if not lane.has_own_files and contents.values_file is None:
                shown[name] = min(lane.stored, reached.get(name, 0))
        self._shown = {name: point for name, point in shown.items() if point}
        self.show_again()

    def show_again(self) -> None:
        """Tell the bus again, which has lost it."""
        if self._shown:
            self._authority.show(self._shown)

    def remove_expired(self) -> None:
        """Remove replaced masters whose grace period is over."""
        self._old.remove_expired()
