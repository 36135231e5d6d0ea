"""Which scans masters above can link to, from the folders on the disk.

A session may have thousands of scans, and is listed each time that one is added. So
this works on strings, and whoever lists again and again remembers: then a scan costs
its name in the folder, and a dataset in which nothing changed one system call.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from scanbus.schemas.errors import RootUnusableError
from scanbus.schemas.file_names import parse_scan_folder, scan_master_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.layouts.link_masters import ScanMaster
from scanbus.writer.masters.scan_uid import linkable_uid
from scanbus.writer.masters.standing_links import StandingLinks, standing_links
from scanbus.writer.storage.data_root import inside
from scanbus.writer.storage.paths_below import names_in
from scanbus.writer.storage.regular_file import FileVersion, version_of

__all__ = ["KnownScans", "folders_below", "is_inside"]

log = get_logger()

# Errors that mean "no such file", also to pathlib; ELOOP is a loop of links.
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_RELOOK_S: Final = 60.0
# A folder may change twice within one step of its time, which is 2 s at most.
_SETTLED_S: Final = 2.5
# What a standing master links was looked at before it was written, by so much at most.
_LOOKED_BEFORE_NS: Final = 90 * 10**9
_FORGET_S: Final = 600.0
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _Scan(NamedTuple):
    """A scan to which masters above can link.

    Attributes
    ----------
    version : tuple
        Inode and time of its master.
    """

    number: int
    uid: str
    version: FileVersion


class KnownScans:
    """The scans below a root, remembered; not safe to share between threads.

    Parameters
    ----------
    root : pathlib.Path
        Root; targets of symbolic links outside of it are not listed.
    trusts_masters : bool
        Whether a dataset's master may say which scans there are: of thousands of scans
        whose files did not change since, not one has to be opened.
    relook_s : float
        Age of what is remembered at which it is looked at again: somebody may have
        removed it.
    """

    def __init__(
        self, root: Path, *, trusts_masters: bool = False, relook_s: float = _RELOOK_S
    ) -> None:
        self._root = root
        self._trusts_masters = trusts_masters
        self._relook_s = relook_s
        self._round = 0
        self._datasets: dict[Path, _Dataset] = {}

    def look_again(self) -> None:
        """Look at the disk from now on, once for each dataset."""
        self._round += 1
        since = time.monotonic() - _FORGET_S
        self._datasets = {
            folder: known
            for folder, known in self._datasets.items()
            if known.looked_at >= since
        }

    def list_scans(self, dataset: Path, base: Path) -> tuple[ScanMaster, ...]:
        """Return the scan masters in a dataset's folder, sorted.

        Parameters
        ----------
        dataset : pathlib.Path
            The dataset's folder.
        base : pathlib.Path
            The folder to which their paths are relative.
        """
        known = self._datasets.get(dataset)
        if known is None:
            known = _Dataset(self._root, dataset, self._relook_s)
            known.trusts_master = self._trusts_masters
            self._datasets[dataset] = known
        if known.round != self._round:
            known.look()
            known.round = self._round
        return known.scans_from(base)


class _Dataset:
    """What is known of the folder of one dataset."""

    def __init__(self, root: Path, folder: Path, relook_s: float) -> None:
        self._root = root
        self._folder = folder
        self._relook_s = relook_s
        self.trusts_master = False
        self.round = -1
        self.looked_at = time.monotonic()
        self._forget()

    def _forget(self) -> None:
        self._stamp: tuple[int, int] | None = None
        self._since = self._relook_at = 0.0
        self._listed_at = -math.inf
        # Folders by inode: those of known scans, and those without a master so far.
        self._inodes: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._scans: dict[str, _Scan] = {}
        # Behind symbolic links: looked at anew each time.
        self._linked: dict[str, _Scan] = {}
        self._sorted: dict[Path, tuple[ScanMaster, ...]] = {}

    def look(self) -> None:
        """Bring what is known up to date."""
        self.looked_at = now = time.monotonic()
        if not self._folder.is_dir() or _may_lead_out(self._root, self._folder):
            self._forget()
            return
        is_first = self._stamp is None
        self._list(now)
        if now >= self._relook_at:
            self._drop(name for name in self._scans if not self._is_same(name))
            self._relook_at = now + self._relook_s
        trusted = StandingLinks()
        if is_first and self.trusts_master:
            trusted = standing_links(self._folder, len(self._inodes))
        new = {}
        for name in self._waiting:
            found = self._trusted_scan(name, trusted) or self._scan_in(name)
            if found is not None:
                new[name] = found
        self._linked = {name: new.pop(name) for name in [*new] if self._is_link(name)}
        self._waiting -= new.keys()
        self._add(new)

    def _list(self, now: float) -> None:
        """Read the names in the folder, if they may have changed."""
        # Opened: a network file system asks the server then.
        descriptor = os.open(self._folder, _FOLDER)
        try:
            status = os.fstat(descriptor)
            stamp = status.st_ino, status.st_mtime_ns
            if stamp != self._stamp:
                self._stamp, self._since = stamp, now
            if self._listed_at >= self._since + _SETTLED_S:
                return
            with os.scandir(descriptor) as entries:
                found = {
                    each.name: each.inode()
                    for each in entries
                    if each.name.startswith("scan")
                }
        finally:
            os.close(descriptor)
        self._listed_at = now
        if found == self._inodes:
            return
        self._drop(
            name for name in self._scans if found.get(name) != self._inodes[name]
        )
        self._inodes = found
        self._waiting = {
            name
            for name in found.keys() - self._scans.keys()
            if parse_scan_folder(name)
        }

    def _is_same(self, name: str) -> bool:
        """Whether a known scan has the master that it had."""
        number, _, version = self._scans[name]
        status = _status(self._root, self._path(name, number))
        return status is not None and version_of(status) == version

    def _drop(self, names: Iterable[str]) -> None:
        gone = set(names)
        for name in gone:
            del self._scans[name]
        if gone:
            self._waiting |= gone
            self._sorted.clear()

    def _path(self, name: str, number: int) -> str:
        return f"{self._folder}/{name}/{scan_master_name(number)}"

    def _is_link(self, name: str) -> bool:
        return Path(f"{self._folder}/{name}").is_symlink()

    def _trusted_scan(self, name: str, trusted: StandingLinks) -> _Scan | None:
        """Return a scan as the standing master links it, if nothing changed since."""
        uid = trusted.uids.get(name)
        number = parse_scan_folder(name)
        if uid is None or number is None:
            return None
        try:
            above = os.lstat(f"{self._folder}/{name}")
            status = os.lstat(self._path(name, number))
        except OSError:
            return None
        is_plain = stat.S_ISDIR(above.st_mode) and stat.S_ISREG(status.st_mode)
        changed_ns = max(above.st_ctime_ns, status.st_ctime_ns)
        if is_plain and changed_ns < trusted.written_ns - _LOOKED_BEFORE_NS:
            return _Scan(number, uid, version_of(status))
        return None

    def _scan_in(self, name: str) -> _Scan | None:
        """Return the scan in a folder, if it can be linked to."""
        number = parse_scan_folder(name)
        if number is None:
            return None
        folder = Path(f"{self._folder}/{name}")
        if folder.is_symlink() and not is_inside(self._root, folder):
            return None
        path = self._path(name, number)
        status = _status(self._root, path)
        uid = None if status is None else linkable_uid(path, f"{number}.1", status)
        if status is None or uid is None:
            return None
        return _Scan(number, uid, version_of(status))

    def _add(self, new: dict[str, _Scan]) -> None:
        """Add scans; the known ones are not made again."""
        self._scans |= new
        if not new:
            return
        for base, scans in self._sorted.items():
            made = sorted(self._made(base, new))
            is_behind = not scans or scans[-1] < made[0]
            together = (*scans, *made)
            self._sorted[base] = together if is_behind else tuple(sorted(together))

    def scans_from(self, base: Path) -> tuple[ScanMaster, ...]:
        """Return the scans, with paths relative to a folder above."""
        if base not in self._sorted:
            self._sorted[base] = tuple(sorted(self._made(base, self._scans)))
        scans = self._sorted[base]
        if self._linked:
            scans = tuple(sorted((*scans, *self._made(base, self._linked))))
        return scans

    def _made(self, base: Path, scans: dict[str, _Scan]) -> Iterator[ScanMaster]:
        dataset = self._folder.name
        above = "".join(f"{part}/" for part in self._folder.relative_to(base).parts)
        for name, (number, uid, _) in scans.items():
            path = f"{above}{name}/{scan_master_name(number)}"
            yield ScanMaster(dataset, number, path, uid)


def _may_lead_out(root: Path, dataset: Path) -> bool:
    """Whether links lead the folder of a dataset out of the root."""
    is_plain = not (dataset.is_symlink() or dataset.parent.is_symlink())
    return not is_plain and not is_inside(root, dataset)


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
    for child in (folder / name for name in names_in(folder)):
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
