"""Masters on the disk: written aside and renamed, never appended to.

Appending to a good file is how its old content gets lost: killed in the middle, 10 of
12 such files no longer opened. A master is a function of what lies below it, so it is
made as a whole, and readers see the old one or the new one.
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
from functools import partial
from pathlib import Path
from typing import Any, Final

from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import NameTakenError, RootUnusableError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.naming import (
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
from scanbus.writer.layouts.esrf import layout
from scanbus.writer.layouts.link_masters import (
    ScanMaster,
    collection_layout,
    dataset_layout,
)
from scanbus.writer.model.file_stamp import CREATOR
from scanbus.writer.model.nexus_tree import Group
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.steps import step
from scanbus.writer.storage.chunked_dataset import fsync_path
from scanbus.writer.storage.hdf5 import make_hdf5, open_hdf5
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.scan_paths import (
    collection_folder,
    collection_master,
    dataset_folder,
    dataset_master,
    inside,
    proposal_master,
    session_folder,
)
from scanbus.writer.storage.tree_writer import write_tree

__all__ = [
    "list_scans",
    "rebuild_masters",
    "replace_file",
    "write_dataset_masters",
    "write_scan_master",
]

log = get_logger()

# What pathlib, too, takes for a file that is not there; links in circles among it.
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# Others write at the same time, once per scan: more rounds than this mean that
# something else moves the listing.
_MAX_ROUNDS: Final = 20
# Left by a writer that was killed; a master takes seconds.
_LEFTOVER_AGE_S: Final = 3600.0
_HOST: Final = re.sub(r"[^0-9A-Za-z-]", "-", socket.gethostname())


def write_scan_master(
    folder: Path, contents: ScanContents, aside: Path | None = None
) -> Path:
    """Make a scan's master again; return its path.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder; it exists.
    contents : ScanContents
        The scan.
    aside : pathlib.Path or None
        Where it is made: the work folder of a lease, so that a writer that lost the
        lease while it was paused cannot replace its successor's master. By default
        the scan's folder.

    Raises
    ------
    NameTakenError
        If a file of that name exists that is not this scan's master.
    RootUnusableError
        If the file system refuses.
    """
    path = folder / scan_master_name(contents.record.identity.scan_number)
    _check_scan(path, contents)
    tree = layout(contents, stamp=stamp_now())
    replace_file(path, tree, aside)
    return path


def _check_scan(path: Path, contents: ScanContents) -> None:
    """Refuse to replace what is not the master of this scan."""
    if not path.exists():
        return
    try:
        with open_hdf5(path) as file:
            stated: Any = file[f"{contents.entry_name}/scanbus/uid"]
            uid = stated.asstr()[()]
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise NameTakenError(str(path), "something that is no scan master") from error
    if uid != contents.record.uid:
        raise NameTakenError(str(path), f"scan {uid}")


def write_dataset_masters(root: Path, identity: ScanIdentity) -> tuple[Path, ...]:
    """Make the masters of a scan's dataset, collection and proposal again.

    No lock is held: whoever writes one looks again at the folders afterwards, so the
    last one to rename has seen everybody's scans.

    Returns
    -------
    tuple of pathlib.Path
        Those that were written; none where there is no scan.

    Raises
    ------
    NameTakenError
        If a file of that name exists that scanbus did not write.
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
    """Masters that several scans of this process want written at the same time.

    Who waits for one that begins after it asked need not write it again: hundreds of
    scans that end together make each master twice, not hundreds of times.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Path, threading.Lock] = {}
        self._asked: dict[Path, int] = {}
        self._done: dict[Path, int] = {}

    def run(self, path: Path, write: Callable[[Path], Path | None]) -> Path | None:
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
    """Make all masters above scans again, from the files below a root alone.

    Raises
    ------
    NameTakenError
        If a file of such a name exists that scanbus did not write.
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
    """Write the master of all datasets that stand below a folder."""

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
    if not path.exists():
        return
    try:
        with open_hdf5(path) as file:
            creator = file.attrs.get("creator")
    except OSError as error:
        raise NameTakenError(str(path), "something that is no HDF5 file") from error
    if creator != CREATOR:
        raise NameTakenError(str(path), f"a file of {creator or 'unknown origin'}")


def list_scans(root: Path, dataset: Path, base: Path) -> tuple[ScanMaster, ...]:
    """Return the scan masters that stand in a dataset's folder.

    Every scan that ends lists all of its session, before and after each master is
    made: by text and one call of the system for each; paths took several times as long.

    Parameters
    ----------
    root : pathlib.Path
        What leads out of it by symbolic links is not listed.
    dataset : pathlib.Path
        The dataset's folder.
    base : pathlib.Path
        The folder that their paths are relative to.
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
            if _is_file(root, f"{folder.path}/{name}"):
                path = "/".join((*above, folder.name, name))
                found.append(ScanMaster(dataset.name, number, path))
    return tuple(sorted(found))


def _is_file(root: Path, path: str) -> bool:
    """Whether a file is there, and no link leads out of the root."""
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return False
    if not stat.S_ISLNK(mode):
        return stat.S_ISREG(mode)
    return _is_inside(root, Path(path)) and Path(path).is_file()


def _folders(root: Path, folder: Path) -> Iterator[Path]:
    """Yield the folders in a folder that do not lead out of the root, by name."""
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


def replace_file(path: Path, tree: Group, folder: Path | None = None) -> None:
    """Write a tree under a temporary name and put it in the place of `path`.

    Parameters
    ----------
    folder : pathlib.Path or None
        Where the temporary name stands; beside `path` by default.

    Raises
    ------
    RootUnusableError
        If the file system refuses; what stood there stands there still.
    """
    _remove_leftovers(path)
    name = temporary_name(path.name, _HOST, os.getpid(), secrets.token_hex(8))
    aside = (folder or path.parent) / name
    try:
        with make_hdf5(aside, track_order=True) as file:
            write_tree(file, tree)
        fsync_path(aside)
        with step("master"):
            aside.replace(path)
        fsync_path(path.parent)
    except (OSError, RuntimeError) as error:
        # h5py says with a RuntimeError that a file could not be closed.
        raise RootUnusableError(str(path), str(error)) from error
    finally:
        aside.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    now = time.time()
    for leftover in path.parent.glob(temporaries_glob(path.name)):
        try:
            is_old = now - leftover.stat().st_mtime > _LEFTOVER_AGE_S
            if is_old or _is_of_a_dead_process(leftover.name):
                leftover.unlink()
        except FileNotFoundError:  # another writer was faster
            continue


def _is_of_a_dead_process(name: str) -> bool:
    """Whether a process of this machine made it that is not there any more.

    Where two machines have one name, or a container has processes of its own, a living
    one may be taken for dead: its master is not replaced then, but made again.
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
