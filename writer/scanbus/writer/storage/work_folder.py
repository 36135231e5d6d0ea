"""Work folders: fenced folders in which files are written before they are published.

A file system cannot check a fence, but link(2) and rename(2) fail if the source path
does not exist. So each lease works in its own folder, created once. A successor first
renames that folder, and every later link or rename of a paused predecessor fails in the
file system. A successor does not use its predecessor's files, because it reads the bus
again; they are kept until the scan has its verdict, because salvage needs them if the
bus is lost.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from scanbus.schemas.claim_names import claim_name, owner_uid
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import (
    WORK_FOLDER,
    parse_segment_file,
    parse_shared_segment,
    salvaged_name,
    stale_folders_glob,
    stale_name,
    work_folder_name,
    work_folders_glob,
)
from scanbus.writer.steps import Steps, step
from scanbus.writer.storage.durable_files import fsync_path, make_folder
from scanbus.writer.storage.event_journal import EVENTS_FILE
from scanbus.writer.storage.exclusive_names import give_name
from scanbus.writer.storage.number_claims import release_claims
from scanbus.writer.storage.paths_below import names_in, paths_below
from scanbus.writer.storage.regular_file import check_folder, read_regular

__all__ = ["WorkFolder", "work_folders"]

# Number of predecessors' folders with temporary segments that are kept.
_KEPT_STALE = 2


def work_folders(dataset_folder: Path, uid: str) -> list[Path]:
    """Return the work folders of a scan, current and stale, the newest first.

    Without links and files of such a name, which no writer makes.
    """
    base = dataset_folder / WORK_FOLDER
    globs = (work_folders_glob(uid), stale_folders_glob(uid))
    named = [path for each in globs for path in paths_below(base, each)]
    return _by_age(one for one in named if one.is_dir() and not one.is_symlink())


def _by_age(folders: Iterable[Path]) -> list[Path]:
    ages: list[tuple[int, Path]] = []
    for folder in folders:
        try:
            ages.append((folder.lstat().st_mtime_ns, folder))
        except FileNotFoundError:  # renamed or removed by a successor meanwhile
            continue
    return [folder for _, folder in sorted(ages, reverse=True)]


def _remove(folder: Path) -> None:
    """Remove a work folder, or whatever has its name, as far as that is possible."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(OSError):
        folder.unlink()


class WorkFolder:
    """The work folder of one lease.

    Parameters
    ----------
    dataset_folder : pathlib.Path
        Folder of the dataset; the work folder is created below it, on the same file
        system as the final names.
    owner : str
        Uid of the scan; of a replay, see `replay_owner`. Predecessors are those of the
        same owner.
    fence : int
        The lease's fence. The folder name also has a random part, because Redis may
        have lost its counters and issue a fence again.
    steps : Steps
        Timer of the steps performed here.
    makes_manifest : bool
        Whether the files made here come into the manifest of the scan.
    """

    def __init__(
        self,
        dataset_folder: Path,
        owner: str,
        fence: int,
        steps: Steps,
        *,
        makes_manifest: bool = True,
    ) -> None:
        self.steps = steps
        self.makes_manifest = makes_manifest
        self._base = dataset_folder / WORK_FOLDER
        self._owner = owner
        self.folder = self._base / work_folder_name(owner, fence, secrets.token_hex(4))
        self._was_made = False

    def open(self, make: Callable[[Path], None] = make_folder) -> None:
        """Rename predecessors' folders and create this one.

        Parameters
        ----------
        make : callable
            Creates the folder of all work folders of the dataset.

        Raises
        ------
        NameTakenError
            If something else has its name.
        """
        check_folder(self._base)
        make(self._base)
        with step("rename"):
            for old in paths_below(self._base, work_folders_glob(self._owner)):
                # Another successor may have renamed it; the lease is checked next.
                with suppress(FileNotFoundError):
                    old.rename(old.with_name(stale_name(old.name)))
        self.folder.mkdir()
        self._was_made = True
        fsync_path(self._base)

    @property
    def was_taken(self) -> bool:
        """Whether a successor has renamed this folder."""
        return self._was_made and not self.folder.exists()

    def prune(self) -> None:
        """Remove folders of older predecessors; their points are still on the bus.

        The newest folders with segments are kept. Folders without segments do not
        count: attempts that fail at once must not displace the last one with points.
        Neither do joined segments, whose points are in published ones.
        """
        stale = _by_age(paths_below(self._base, stale_folders_glob(self._owner)))
        useful = [one for one in stale if _has_segments(one)]
        for old in stale:
            if old not in useful[:_KEPT_STALE]:
                _remove(old)

    def path(self, name: str) -> Path:
        """Return the path below this folder for a file with that final name."""
        return self.folder / name

    def publish(self, name: str, final: Path) -> None:
        """Give a finished file its final name; fsync the file and the folder.

        Raises
        ------
        FileExistsError
            If the final name is taken.
        FileNotFoundError
            If this folder was renamed: another writer has the lease.
        OSError
            If the file system refuses.
        """
        made = self.path(name)
        with self.steps.step("fsync", final):
            fsync_path(made)
        with self.steps.step("link", final):
            give_name(made, final)
        self.make_names_durable(final.parent)
        with self.steps.phase("unlink", final):
            made.unlink(missing_ok=True)  # A rename has left nothing.

    def claim(self, scan_number: int) -> None:
        """Claim a number of the dataset for this scan.

        Not synced: after a loss of power, files say it, or it is claimed again.

        Raises
        ------
        NameTakenError
            If another scan has claimed it.
        FileNotFoundError
            If this folder was renamed: another writer has the lease.
        """
        final = self._base / claim_name(scan_number)
        made = self.path(final.name)
        made.write_text(self._owner)
        try:
            with step("claim"):
                give_name(made, final)
        except FileExistsError:
            holder = read_regular(final).decode("ascii", "replace")
            if owner_uid(holder) != owner_uid(self._owner):
                raise NameTakenError(str(final), f"scan {holder}") from None
        made.unlink(missing_ok=True)

    def make_names_durable(self, folder: Path) -> None:
        """Fsync a folder, so that the names in it survive a loss of power.

        This includes names linked by other writers, which may have been killed between
        link and fsync.
        """
        with self.steps.step("fsync_folder", folder):
            fsync_path(folder)

    def discard(self) -> None:
        """Remove all files in this folder except the events file."""
        if not self.folder.is_dir():
            return  # A successor renamed it and will remove it.
        for made in self.folder.iterdir():
            if made.name != EVENTS_FILE:
                made.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove this folder with its files, none of which has a final name."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._remove_base()

    def set_aside(self) -> None:
        """Rename predecessors' folders to names that no writer removes."""
        for old in paths_below(self._base, stale_folders_glob(self._owner)):
            old.rename(old.with_name(salvaged_name(old.name)))
        release_claims(self._base.parent, self._owner)
        fsync_path(self._base)

    def clear(self) -> None:
        """Remove all work folders of this scan, once nothing is left to salvage."""
        for old in paths_below(self._base, stale_folders_glob(self._owner)):
            _remove(old)
        _remove(self.folder)
        release_claims(self._base.parent, self._owner)
        self._remove_base()

    def _remove_base(self) -> None:
        try:
            self._base.rmdir()
        except OSError:
            return  # It is not empty: other scans of the dataset use it.


def _has_segments(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    return any(map(_has_points, names_in(folder)))


def _has_points(name: str) -> bool:
    if parse_shared_segment(name) is not None:
        return True
    found = parse_segment_file(name)
    return found is not None and not found.is_joined
