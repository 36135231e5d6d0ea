"""Folders that fence: where files are made before they get their final names.

A file system cannot check a fence, but it refuses to link a path that is gone. So each
lease works in a folder of its own, made once; a successor renames it away first, and
what a paused predecessor does after waking up fails in the file system itself. What a
predecessor had made is of no use to its successor, who reads the bus again; it stays
until the scan has its verdict, because salvage needs it if the bus is lost.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from scanbus.schemas.naming import (
    SEGMENTS_GLOB,
    WORK_FOLDER,
    salvaged_name,
    stale_folders_glob,
    stale_name,
    work_folder_name,
    work_folders_glob,
)
from scanbus.writer.steps import Steps, step
from scanbus.writer.storage.chunked_dataset import fsync_path, make_folder
from scanbus.writer.storage.event_journal import EVENTS_FILE

__all__ = ["WorkFolder", "work_folders"]

# Predecessors' folders with temporary segments that are kept.
_KEPT_STALE = 2


def work_folders(dataset_folder: Path, uid: str) -> list[Path]:
    """Return the folders in which a scan is or was written, the youngest first."""
    base = dataset_folder / WORK_FOLDER
    return _by_age(
        [*base.glob(work_folders_glob(uid)), *base.glob(stale_folders_glob(uid))]
    )


def _by_age(folders: Iterable[Path]) -> list[Path]:
    ages: list[tuple[int, Path]] = []
    for folder in folders:
        try:
            ages.append((folder.stat().st_mtime_ns, folder))
        except FileNotFoundError:  # a successor was faster
            continue
    return [folder for _, folder in sorted(ages, reverse=True)]


class WorkFolder:
    """The work folder of one lease.

    Parameters
    ----------
    dataset_folder : pathlib.Path
        Folder of the dataset; the work folder is made below it, on the same file
        system as the final names.
    uid : str
        The scan.
    fence : int
        The lease's fence; the name also holds a random part, for Redis may have
        forgotten its counters.
    steps : Steps
        Times what is done here.
    """

    def __init__(
        self, dataset_folder: Path, uid: str, fence: int, steps: Steps
    ) -> None:
        self.steps = steps
        self._base = dataset_folder / WORK_FOLDER
        self._uid = uid
        self.folder = self._base / work_folder_name(uid, fence, secrets.token_hex(4))
        self._was_made = False

    def open(self) -> None:
        """Rename predecessors' folders away and make this one."""
        make_folder(self._base)
        with step("rename"):
            for old in self._base.glob(work_folders_glob(self._uid)):
                # Another successor may be faster; who has the lease is asked next.
                with suppress(FileNotFoundError):
                    old.rename(old.with_name(stale_name(old.name)))
        self.folder.mkdir()
        self._was_made = True
        fsync_path(self._base)

    @property
    def was_taken(self) -> bool:
        """Whether a successor has renamed this folder away."""
        return self._was_made and not self.folder.exists()

    def prune(self) -> None:
        """Remove folders of older predecessors; what they had is on the bus.

        Folders in which nothing is to salvage do not count: attempts that fail at once
        must not push out the last one that had points.
        """
        stale = _by_age(self._base.glob(stale_folders_glob(self._uid)))
        useful = [one for one in stale if any(one.glob(SEGMENTS_GLOB))]
        for old in stale:
            if old not in useful[:_KEPT_STALE]:
                shutil.rmtree(old, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Return where a file of that final name is made."""
        return self.folder / name

    def publish(self, name: str, final: Path) -> None:
        """Give a finished file its final name, and make both durable.

        Raises
        ------
        FileExistsError
            If the final name is taken.
        FileNotFoundError
            If this folder was renamed away: the lease is another's.
        """
        made = self.path(name)
        with self.steps.step("fsync", final):
            fsync_path(made)
        with self.steps.step("link", final):
            os.link(made, final)
        self.make_names_durable(final.parent)
        with self.steps.phase("unlink", final):
            made.unlink()

    def make_names_durable(self, folder: Path) -> None:
        """Have the names that stand in a folder survive a loss of power.

        Also those that somebody else gave: whoever linked a file may have been killed
        before it came to this.
        """
        with self.steps.step("fsync_folder", folder):
            fsync_path(folder)

    def discard(self) -> None:
        """Remove what was made in this folder, but for what was said of the scan."""
        if not self.folder.is_dir():
            return  # It is a successor's to remove now.
        for made in self.folder.iterdir():
            if made.name != EVENTS_FILE:
                made.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove this folder and what it holds; nothing in it has a final name."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._remove_base()

    def set_aside(self) -> None:
        """Keep predecessors' folders under a name that no writer removes."""
        for old in self._base.glob(stale_folders_glob(self._uid)):
            old.rename(old.with_name(salvaged_name(old.name)))
        fsync_path(self._base)

    def clear(self) -> None:
        """Remove every folder of this scan, when nothing is left to salvage."""
        for old in (*self._base.glob(stale_folders_glob(self._uid)), self.folder):
            shutil.rmtree(old, ignore_errors=True)
        self._remove_base()

    def _remove_base(self) -> None:
        try:
            self._base.rmdir()
        except OSError:
            return  # Other scans of the dataset work in it.
