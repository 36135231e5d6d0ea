"""Write master files: to a temporary file that replaces the old one, never in place.

Changing a file in place endangers its old contents: killed in the middle, 10 of 12 such
files could not be opened any more. A master is a function of the files below it, so it
is written as a whole, and readers see either the old or the new version.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import NameTakenError, RootUnusableError
from scanbus.schemas.file_names import (
    COLLECTION_DATASETS_GLOB,
    SESSION_DATASETS_GLOB,
    SESSIONS_GLOB,
    collection_master_name,
    dataset_master_name,
    parse_scan_folder,
    parse_session_path,
    parse_temporary,
    proposal_master_name,
    scan_master_name,
    temporaries_glob,
    temporary_name,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.layouts.esrf import layout
from scanbus.writer.layouts.link_masters import (
    ScanMaster,
    collection_layout,
    dataset_layout,
)
from scanbus.writer.masters.scan_uid import linkable_uid, read_uid
from scanbus.writer.model.file_stamp import CREATOR
from scanbus.writer.model.nexus_tree import Group
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.steps import step
from scanbus.writer.storage.data_root import (
    collection_folder,
    collection_master,
    dataset_folder,
    dataset_master,
    inside,
    proposal_master,
    session_folder,
)
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.hdf5 import open_hdf5, written_hdf5
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.references import with_references
from scanbus.writer.storage.regular_file import is_there
from scanbus.writer.storage.tree_writer import write_tree
from scanbus.writer.storage.value_arrays import with_values

__all__ = [
    "list_scans",
    "rebuild_masters",
    "replace_file",
    "write_dataset_masters",
    "write_scan_master",
]

log = get_logger()

# Errors that mean "no such file", also to pathlib; ELOOP is a loop of links.
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# Other writers change the listing at most once per scan; after more rounds than this,
# something else keeps changing it.
_MAX_ROUNDS: Final = 20
# Older temporary files were left by killed writers; writing a master takes seconds.
_LEFTOVER_AGE_S: Final = 3600.0
_HOST: Final = re.sub(r"[^0-9A-Za-z-]", "-", socket.gethostname())


def write_scan_master(
    folder: Path,
    contents: ScanContents,
    aside: Path | None = None,
    *,
    old: Path | None = None,
) -> Path:
    """Write a scan's master, replacing the old one; return its path.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder, which must exist.
    contents : ScanContents
        The scan.
    aside : pathlib.Path or None
        Folder of the temporary file; the scan's folder by default. With the work folder
        of a lease, a writer that lost the lease while it was paused cannot replace its
        successor's master.
    old : pathlib.Path or None
        Name under which the one that is replaced stays; None for none.

    Raises
    ------
    NameTakenError
        If a file of that name exists that is not this scan's master.
    RootUnusableError
        If the file system refuses.
    """
    path = folder / scan_master_name(contents.record.identity.scan_number)
    _check_scan(path, contents)
    contents = with_values(folder, with_references(folder, contents))
    tree = layout(contents, stamp=stamp_now())
    replace_file(path, tree, aside, old=old)
    return path


def _check_scan(path: Path, contents: ScanContents) -> None:
    """Raise if a file exists at `path` that is not the master of this scan."""
    if not is_there(path):
        return
    uid = read_uid(path, contents.entry_name)
    if uid != contents.record.uid:
        raise NameTakenError(str(path), f"scan {uid}")


def write_dataset_masters(root: Path, identity: ScanIdentity) -> tuple[Path, ...]:
    """Write the masters of a scan's dataset, collection and proposal.

    There is no lock between processes: each writer lists the folders again after its
    rename, so the last one to rename has listed all scans.

    Returns
    -------
    tuple of pathlib.Path
        The masters written; empty if there is no scan.

    Raises
    ------
    NameTakenError
        If the name of a master is taken by a file that scanbus did not write.
    RootUnusableError
        If the file system refuses.
    """
    dataset = dataset_folder(root, identity)
    collection = collection_folder(root, identity)
    session = session_folder(root, identity)
    masters = (
        (dataset_master(root, identity), partial(_write_dataset_master, root, dataset)),
        (
            collection_master(root, identity),
            partial(_write_collection_master, root, collection),
        ),
        (
            proposal_master(root, identity),
            partial(_write_proposal_master, root, session),
        ),
    )
    written = [_SHARED_WRITES.run(path, write) for path, write in masters]
    return tuple(path for path in written if path is not None)


class _SharedWrites:
    """Combines concurrent requests of this process to write the same master.

    A request that was waiting when a write started is served by that write: hundreds of
    scans that end together write each master twice, not hundreds of times.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Path, threading.Lock] = {}
        self._asked: dict[Path, int] = {}
        self._done: dict[Path, int] = {}

    def run(self, path: Path, write: Callable[[Path], Path | None]) -> Path | None:
        """Write a master unless a write that started after this call has done so."""
        with self._guard:
            lock = self._locks.setdefault(path, threading.Lock())
            ticket = self._asked[path] = self._asked.get(path, 0) + 1
        with lock:
            if self._done.get(path, 0) >= ticket:
                return path
            with self._guard:
                begun = self._asked[path]
            written = write(path)
            self._done[path] = begun
            return written


_SHARED_WRITES = _SharedWrites()


def rebuild_masters(root: Path) -> tuple[Path, ...]:
    """Rebuild the masters of all datasets, collections and proposals below a root.

    Raises
    ------
    NameTakenError
        If the name of a master is taken by a file that scanbus did not write.
    RootUnusableError
        If the file system refuses.
    """
    written: list[Path | None] = []
    for session in sorted(root.glob(SESSIONS_GLOB)):
        name = parse_session_path(session.relative_to(root).as_posix())
        if name is None:
            continue
        for collection in _folders(root, session):
            for dataset in _folders(root, collection):
                master = dataset / dataset_master_name(dataset.name)
                written.append(_write_dataset_master(root, dataset, master))
            master = collection / collection_master_name(name.proposal, collection.name)
            written.append(_write_collection_master(root, collection, master))
        master = session / proposal_master_name(name.proposal, name.beamline)
        written.append(_write_proposal_master(root, session, master))
    return tuple(path for path in written if path is not None)


def _write_dataset_master(root: Path, folder: Path, path: Path) -> Path | None:
    return _write_until_unchanged(
        path,
        lambda: list_scans(root, folder, folder),
        lambda scans: dataset_layout(path.name, scans, stamp_now()),
    )


def _write_collection_master(root: Path, folder: Path, path: Path) -> Path | None:
    return _write_master_of(root, folder, COLLECTION_DATASETS_GLOB, path)


def _write_proposal_master(root: Path, folder: Path, path: Path) -> Path | None:
    return _write_master_of(root, folder, SESSION_DATASETS_GLOB, path)


def _write_master_of(
    root: Path, folder: Path, datasets: str, path: Path
) -> Path | None:
    """Write the master of all datasets below a folder."""

    def found() -> tuple[ScanMaster, ...]:
        return tuple(
            scan
            for dataset in sorted(folder.glob(datasets))
            if dataset.is_dir() and _is_inside(root, dataset)
            for scan in list_scans(root, dataset, folder)
        )

    return _write_until_unchanged(
        path, found, lambda scans: collection_layout(path.name, scans, stamp_now())
    )


def _write_until_unchanged(
    path: Path,
    found: Callable[[], tuple[ScanMaster, ...]],
    made: Callable[[tuple[ScanMaster, ...]], Group],
) -> Path | None:
    _check_creator(path)
    scans = found()
    if not scans:
        return None
    for _ in range(_MAX_ROUNDS):
        replace_file(path, made(scans))
        before, scans = scans, found()
        if scans == before:
            return path
    log.warning(LogEvent.MASTER_KEEPS_CHANGING, file=str(path), rounds=_MAX_ROUNDS)
    return path


def _check_creator(path: Path) -> None:
    if not is_there(path):
        return
    try:
        with open_hdf5(path) as file:
            creator = file.attrs.get("creator")
    except OSError as error:
        raise NameTakenError(str(path), "something other than HDF5") from error
    if creator != CREATOR:
        raise NameTakenError(str(path), f"a file of {creator or 'unknown origin'}")


def list_scans(root: Path, dataset: Path, base: Path) -> tuple[ScanMaster, ...]:
    """Return the scan masters in a dataset's folder to which masters above can link.

    At its end every scan lists all scans of its session, before and after it writes
    each master. So this works on strings, with one system call per scan whose master
    did not change; `pathlib` took several times as long.

    Parameters
    ----------
    root : pathlib.Path
        Root; targets of symbolic links outside of it are not listed.
    dataset : pathlib.Path
        The dataset's folder.
    base : pathlib.Path
        The folder to which their paths are relative.
    """
    if not dataset.is_dir() or not _is_inside(root, dataset):
        return ()
    above = dataset.relative_to(base).parts
    found: list[ScanMaster] = []
    with os.scandir(dataset) as folders:
        for folder in folders:
            number = parse_scan_folder(folder.name)
            if number is None:
                continue
            if folder.is_symlink() and not _is_inside(root, Path(folder.path)):
                continue
            name = scan_master_name(number)
            status = _status(root, f"{folder.path}/{name}")
            if status is None:
                continue
            uid = linkable_uid(f"{folder.path}/{name}", f"{number}.1", status)
            if uid is not None:
                path = "/".join((*above, folder.name, name))
                found.append(ScanMaster(dataset.name, number, path, uid))
    return tuple(sorted(found))


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
    is_usable = _is_inside(root, Path(path)) and Path(path).is_file()
    return Path(path).stat() if is_usable else None


def _folders(root: Path, folder: Path) -> Iterator[Path]:
    """Yield the subfolders of a folder, sorted, without links out of the root."""
    if not folder.is_dir() or not _is_inside(root, folder):
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and _is_inside(root, child):
            yield child


def _is_inside(root: Path, path: Path) -> bool:
    try:
        inside(root, path)
    except RootUnusableError:
        log.warning(LogEvent.LINK_OUT_OF_ROOT, path=str(path), root=str(root))
        return False
    return True


def replace_file(
    path: Path, tree: Group, folder: Path | None = None, *, old: Path | None = None
) -> None:
    """Write a tree to a temporary file, fsync it and rename it to `path`.

    Parameters
    ----------
    folder : pathlib.Path or None
        Folder of the temporary file; that of `path` by default.
    old : pathlib.Path or None
        Name under which the file that is replaced stays, where the file system has
        hard links; None for none.

    Raises
    ------
    RootUnusableError
        If the file system refuses. The old file is replaced as a whole or not at all.
    """
    _remove_leftovers(path)
    name = temporary_name(path.name, _HOST, os.getpid(), secrets.token_hex(8))
    aside = (folder or path.parent) / name
    try:
        with written_hdf5(aside, track_order=True) as file:
            write_tree(file, tree, path.parent)
        fsync_path(aside)
        if old is not None:
            with suppress(OSError):
                os.link(path, old)
        with step("master"):
            aside.replace(path)
        fsync_path(path.parent)
    except (OSError, RuntimeError) as error:
        # h5py raises RuntimeError if a file cannot be closed.
        raise RootUnusableError(str(path), str(error)) from error
    finally:
        aside.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    now = time.time()
    for leftover in path.parent.glob(temporaries_glob(path.name)):
        try:
            is_old = now - leftover.lstat().st_mtime > _LEFTOVER_AGE_S
            if is_old or _is_of_a_dead_process(leftover.name):
                leftover.unlink()
        except OSError:  # removed by another writer meanwhile, or no file at all
            continue


def _is_of_a_dead_process(name: str) -> bool:
    """Whether a process of this host wrote the temporary file and no longer exists.

    If two hosts share a name, or in a container with its own pid namespace, a running
    process may be taken for dead. Then its rename fails and the master is written
    again.
    """
    made = parse_temporary(name)
    if made is None or made.host != _HOST:
        return False
    try:
        os.kill(made.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
