"""Which scans masters above can link to, from the folders on the disk.

A dataset may have thousands of scans, and is listed each time that one is added. So
this works on strings, and whoever lists again and again remembers: then a scan costs
its name in the folder. `pathlib` took a hundred times as long.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import RootUnusableError
from scanbus.schemas.file_names import parse_scan_folder, scan_master_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.layouts.link_masters import ScanMaster
from scanbus.writer.masters.scan_uid import linkable_uid
from scanbus.writer.storage.data_root import inside

__all__ = ["KnownScans", "folders_below", "is_inside", "list_scans"]

log = get_logger()

# Errors that mean "no such file", also to pathlib; ELOOP is a loop of links.
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# What is remembered is looked at again after so long: somebody may have removed it.
_RELOOK_S: Final = 60.0


def list_scans(
    root: Path, dataset: Path, base: Path, known: KnownScans | None = None
) -> tuple[ScanMaster, ...]:
    """Return the scan masters in a dataset's folder to which masters above can link.

    Parameters
    ----------
    root : pathlib.Path
        Root; targets of symbolic links outside of it are not listed.
    dataset : pathlib.Path
        The dataset's folder.
    base : pathlib.Path
        The folder to which their paths are relative.
    known : KnownScans or None
        What was listed before.
    """
    return (known or KnownScans()).list_scans(root, dataset, base)


@dataclass
class _Dataset:
    """What is known of the folder of one dataset.

    Attributes
    ----------
    folders : dict
        Name of each scan's folder with a master to its inode.
    uids : dict
        Name of each scan's folder with a master to its number and uid.
    scans : dict
        Base to the scans, sorted.
    """

    folders: dict[str, int] = field(default_factory=dict)
    uids: dict[str, tuple[int, str]] = field(default_factory=dict)
    scans: dict[Path, tuple[ScanMaster, ...]] = field(default_factory=dict)

    def scans_from(self, dataset: Path, base: Path) -> tuple[ScanMaster, ...]:
        """Return the scans, with paths relative to a folder above."""
        if base not in self.scans:
            above = dataset.relative_to(base).parts
            self.scans[base] = tuple(sorted(self._made(dataset, above, self.uids)))
        return self.scans[base]

    def add(self, dataset: Path, new: dict[str, tuple[int, str]]) -> None:
        """Add scans; the known ones are not made again."""
        self.uids |= new
        for base, scans in self.scans.items():
            made = self._made(dataset, dataset.relative_to(base).parts, new)
            self.scans[base] = tuple(sorted((*scans, *made)))

    @staticmethod
    def _made(
        dataset: Path, above: tuple[str, ...], uids: dict[str, tuple[int, str]]
    ) -> Iterator[ScanMaster]:
        for name, (number, uid) in uids.items():
            path = "/".join((*above, name, scan_master_name(number)))
            yield ScanMaster(dataset.name, number, path, uid)


class KnownScans:
    """What was listed a short time ago; not safe to share between threads."""

    def __init__(self) -> None:
        self._until = 0.0
        self._datasets: dict[Path, _Dataset] = {}

    def forget_old(self) -> None:
        """Forget everything, if that is due."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + _RELOOK_S
            self._datasets.clear()

    def list_scans(
        self, root: Path, dataset: Path, base: Path
    ) -> tuple[ScanMaster, ...]:
        """Return the scan masters in a dataset's folder; see `list_scans`."""
        if not dataset.is_dir() or _may_lead_out(root, dataset):
            return ()
        with os.scandir(dataset) as entries:
            found = {
                each.name: each for each in entries if each.name.startswith("scan")
            }
        folders = {name: each.inode() for name, each in found.items()}
        known = self._datasets.setdefault(dataset, _Dataset())
        # Only those that have a master and are no links are known.
        if not known.folders.items() <= folders.items():
            known = self._datasets[dataset] = _Dataset()
        new, links = {}, {}
        for name in folders.keys() - known.folders.keys():
            one = _scan_in(root, found[name])
            if one is not None and found[name].is_symlink():
                links[name] = one
            elif one is not None:
                new[name] = one
        if new:
            known.folders |= {name: folders[name] for name in new}
            known.add(dataset, new)
        if not links:
            return known.scans_from(dataset, base)
        everything = _Dataset(uids={**known.uids, **links})
        return everything.scans_from(dataset, base)


def _may_lead_out(root: Path, dataset: Path) -> bool:
    """Whether links lead the folder of a dataset out of the root."""
    is_plain = not (dataset.is_symlink() or dataset.parent.is_symlink())
    return not is_plain and not is_inside(root, dataset)


def _scan_in(root: Path, folder: os.DirEntry[str]) -> tuple[int, str] | None:
    """Return number and uid of the scan in a folder, if it can be linked to."""
    number = parse_scan_folder(folder.name)
    if number is None:
        return None
    uid = _uid(root, folder, scan_master_name(number), number)
    return None if uid is None else (number, uid)


def _uid(root: Path, folder: os.DirEntry[str], name: str, number: int) -> str | None:
    """Return the uid of the scan in a folder; None if it cannot be linked to."""
    if folder.is_symlink() and not is_inside(root, Path(folder.path)):
        return None
    path = f"{folder.path}/{name}"
    status = _status(root, path)
    return None if status is None else linkable_uid(path, f"{number}.1", status)


def _status(root: Path, path: str) -> os.stat_result | None:
    """Return the status of a regular file; None if a link to it leaves the root."""
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return None
    if not stat.S_ISLNK(status.st_mode):
        return status if stat.S_ISREG(status.st_mode) else None
    is_usable = is_inside(root, Path(path)) and Path(path).is_file()
    return Path(path).stat() if is_usable else None


def folders_below(root: Path, folder: Path) -> Iterator[Path]:
    """Yield the subfolders of a folder, sorted, without links out of the root."""
    if not folder.is_dir() or not is_inside(root, folder):
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and is_inside(root, child):
            yield child


def is_inside(root: Path, path: Path) -> bool:
    """Return whether links lead nowhere else; a warning says where they lead."""
    try:
        inside(root, path)
    except RootUnusableError:
        log.warning(LogEvent.LINK_OUT_OF_ROOT, path=str(path), root=str(root))
        return False
    return True
