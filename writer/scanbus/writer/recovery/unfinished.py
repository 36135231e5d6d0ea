"""Unfinished scans, found by their work folders."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas.errors import NameTakenError, RootUnusableError
from scanbus.schemas.file_names import (
    WORK_FOLDER,
    WORK_FOLDERS_GLOB,
    parse_work_folder,
    values_file_name,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.storage.data_root import dataset_folder, inside, scan_folder
from scanbus.writer.storage.event_journal import EVENTS_FILE, read_journals
from scanbus.writer.storage.paths_below import names_in, paths_below
from scanbus.writer.storage.regular_file import check_folder, is_there
from scanbus.writer.storage.scan_file import read_scan_file
from scanbus.writer.storage.work_folder import work_folders

__all__ = ["IDLE_S", "UnfinishedScan", "find_unfinished"]

log = get_logger()

IDLE_S: Final = 60.0
"""Time without changes after which a work folder has no writer, in seconds.

A running writer updates its work folder at intervals of ``flush_s``, 1 s by default."""


@dataclass(frozen=True)
class UnfinishedScan:
    """An unfinished scan with work folders.

    Attributes
    ----------
    root : pathlib.Path
        Root of all files.
    dataset : pathlib.Path
        Folder of the dataset that has the work folders.
    uid : str
        Uid of the scan, from the names of its work folders.
    record : ScanRecord or None
        Record of its events; None if no work folder has them.
    """

    root: Path
    dataset: Path
    uid: str
    record: ScanRecord | None

    @property
    def folder(self) -> Path | None:
        """Folder of the scan's files; None without a record."""
        return scan_folder(self.root, self.record.identity) if self.record else None

    def named_by(self, names: Sequence[str]) -> set[str]:
        """Return the names that mean this scan: its uid, or paths of its folder."""
        folder = self.folder
        return {
            name
            for name in names
            if name == self.uid
            or (folder is not None and Path(name).resolve() == folder.resolve())
        }

    def refusal(self, *, force: bool) -> tuple[str, bool] | None:
        """Return why it must not be salvaged, and whether that is an error, or None.

        Raises
        ------
        NameTakenError
            If the scan file belongs to another scan, or is not a scan file.
        """
        if self.record is None or self.folder is None:
            base = self.dataset / WORK_FOLDER
            return f"no {EVENTS_FILE} in {base} says what the scan was", True
        if dataset_folder(self.root, self.record.identity) != self.dataset:
            return f"it belongs in {self.folder}, not below {self.dataset}", True
        values = self.folder / values_file_name(self.record.identity.scan_number)
        if is_there(values):
            holder = read_scan_file(values).uid
            if holder != self.uid:
                raise NameTakenError(str(values), f"scan {holder}")
            return "it is finished; `scanbus master rebuild` makes its masters", False
        age_s = time.time() - self._last_activity()
        if age_s < IDLE_S and not force:
            return (
                f"something moved in its work folder {max(0.0, age_s):.0f} s ago: a "
                f"writer may have it. Wait until it is silent for {IDLE_S:.0f} s, "
                "or say --force"
            ), True
        return None

    def _last_activity(self) -> float:
        """Return the latest mtime in all work folders, in seconds since 1970.

        It is now if something of them goes meanwhile, or all of them have gone.
        """
        latest = 0.0
        for folder in work_folders(self.dataset, self.uid):
            for path in (folder, *(folder / name for name in names_in(folder))):
                try:
                    latest = max(latest, path.lstat().st_mtime)
                except FileNotFoundError:
                    return time.time()
        return latest or time.time()


def find_unfinished(root: Path) -> Iterator[UnfinishedScan]:
    """Yield all scans with work folders below a root; links out of it are skipped."""
    for base in sorted(paths_below(root, WORK_FOLDERS_GLOB)):
        try:
            inside(root, base)
            check_folder(base)
        except RootUnusableError:
            log.warning(LogEvent.LINK_OUT_OF_ROOT, path=str(base), root=str(root))
            continue
        except NameTakenError as error:
            log.warning(LogEvent.NO_REGULAR_FILE, path=error.path, found=error.holder)
            continue
        names = map(parse_work_folder, names_in(base))
        for uid in sorted({one.uid for one in names if one and not one.is_salvaged}):
            folders = reversed(work_folders(base.parent, uid))
            record = read_journals(one / EVENTS_FILE for one in folders)
            if record is not None and record.uid != uid:
                record = None
            yield UnfinishedScan(root, base.parent, uid, record)
