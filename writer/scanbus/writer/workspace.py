"""Folders that fence: where files are made before they get their final names.

A file system cannot check a fence, but it refuses to link a path that is gone. So each
lease works in a folder of its own, made once; a successor renames it away first, and
what a paused predecessor does after waking up fails in the file system itself.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from scanbus.writer.datasets import fsync_path
from scanbus.writer.failpoints import reach
from scanbus.writer.steps import Steps

__all__ = ["WORK_FOLDER", "Workspace"]

WORK_FOLDER = ".scanbus"
_STALE = "stale-"


class Workspace:
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
        self.folder = self._base / f"{uid}.{fence}.{secrets.token_hex(4)}"

    def open(self) -> None:
        """Rename predecessors' folders away and make this one."""
        self._base.mkdir(parents=True, exist_ok=True)
        for old in self._base.glob(f"{self._uid}.*"):
            old.rename(old.with_name(_STALE + old.name))
        self.folder.mkdir()
        fsync_path(self._base)

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
            reach("fsync.before")
            fsync_path(made)
            reach("fsync.after")
        with self.steps.step("link", final):
            reach("link.before")
            os.link(made, final)
            reach("link.after")
        with self.steps.step("fsync-folder", final):
            fsync_path(final.parent)
        made.unlink()

    def leave(self) -> None:
        """Remove this folder and what it holds; nothing in it has a final name."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Remove every folder of this scan, when nothing is left to salvage."""
        for old in (*self._base.glob(f"{_STALE}{self._uid}.*"), self.folder):
            shutil.rmtree(old, ignore_errors=True)
        try:
            self._base.rmdir()
        except OSError:
            return  # Other scans of the dataset work in it.
