"""The masters of datasets, collections and proposals: links to all scans below them.

There is no lock between processes: each writer lists the folders again after its
rename, so the last one to rename has listed all scans. Links to scans that come after
all others are added to a copy of the standing master, which costs the same however
many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import (
    COLLECTION_DATASETS_GLOB,
    SESSION_DATASETS_GLOB,
    SESSIONS_GLOB,
    DatasetNames,
    collection_master_name,
    collection_path,
    dataset_master_name,
    dataset_path,
    parse_session_path,
    proposal_master_name,
    session_path,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.layouts.link_masters import (
    ScanMaster,
    collection_layout,
    dataset_layout,
)
from scanbus.writer.masters.list_scans import (
    KnownScans,
    folders_below,
    list_scans,
)
from scanbus.writer.masters.write import add_to_file, replace_file
from scanbus.writer.model.file_stamp import CREATOR, FileStamp
from scanbus.writer.model.nexus_tree import Group
from scanbus.writer.storage.data_root import inside
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.old_masters import OldMasters
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.regular_file import is_there

__all__ = ["MastersAbove", "rebuild_masters", "write_dataset_masters"]

log = get_logger()

# Other writers change the listing at most once per scan; after more rounds than this,
# something else keeps changing it.
_MAX_ROUNDS: Final = 20
_Layout = Callable[[str, Iterable[ScanMaster], FileStamp, Collection[str]], Group]


def write_dataset_masters(root: Path, names: DatasetNames) -> tuple[Path, ...]:
    """Write the masters of a scan's dataset, collection and proposal once.

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
    return MastersAbove(root).write(names)


def rebuild_masters(root: Path) -> tuple[Path, ...]:
    """Rebuild the masters of all datasets, collections and proposals below a root.

    Raises
    ------
    NameTakenError
        If the name of a master is taken by a file that scanbus did not write.
    RootUnusableError
        If the file system refuses.
    """
    masters = MastersAbove(root)
    written: list[Path | None] = []
    for session in sorted(root.glob(SESSIONS_GLOB)):
        name = parse_session_path(session.relative_to(root).as_posix())
        if name is None:
            continue
        for collection in folders_below(root, session):
            written += [
                masters.write_dataset(dataset)
                for dataset in folders_below(root, collection)
            ]
            written.append(masters.write_collection(collection, name.proposal))
        written.append(masters.write_proposal(session, name.proposal, name.beamline))
    return tuple(path for path in written if path is not None)


@dataclass(frozen=True)
class _Written:
    """A master as it was written last.

    Attributes
    ----------
    stamp : tuple
        Inode and time of the file: another one was written by somebody else.
    scans : tuple of ScanMaster
        The scans that it links.
    names : frozenset of str
        The names of its links.
    """

    stamp: tuple[int, int] | None
    scans: tuple[ScanMaster, ...]
    names: frozenset[str]


class MastersAbove:
    """Writes masters above scans, and remembers them; for one thread.

    Parameters
    ----------
    root : pathlib.Path
        Root of all files.
    known : KnownScans or None
        What was listed before.
    grace_s : float
        How long replaced masters stay, in seconds; 0: they do not.
    """

    def __init__(
        self, root: Path, known: KnownScans | None = None, grace_s: float = 0.0
    ) -> None:
        self._root = root
        self._known = known
        self._grace_s = grace_s
        self._written: dict[Path, _Written] = {}
        self._old: dict[Path, OldMasters] = {}

    def write(self, names: DatasetNames) -> tuple[Path, ...]:
        """Write the masters of a dataset, its collection and its proposal.

        Raises
        ------
        NameTakenError, RootUnusableError
            As `write_dataset_masters`.
        """
        if self._known is not None:
            self._known.forget_old()
        root = self._root
        written = (
            self.write_dataset(inside(root, root / dataset_path(names))),
            self.write_collection(
                inside(root, root / collection_path(names)), names.proposal
            ),
            self.write_proposal(
                inside(root, root / session_path(names)), names.proposal, names.beamline
            ),
        )
        return tuple(path for path in written if path is not None)

    def write_dataset(self, folder: Path) -> Path | None:
        """Write the master of a dataset; return None if it has no scan."""

        def found() -> tuple[ScanMaster, ...]:
            return list_scans(self._root, folder, folder, self._known)

        path = inside(self._root, folder / dataset_master_name(folder.name))
        return self._write(path, found, dataset_layout)

    def write_collection(self, folder: Path, proposal: str) -> Path | None:
        """Write the master of a collection; return None if it has no scan."""
        path = folder / collection_master_name(proposal, folder.name)
        return self._write_all(folder, COLLECTION_DATASETS_GLOB, path)

    def write_proposal(self, folder: Path, proposal: str, beamline: str) -> Path | None:
        """Write the master of a proposal's session; return None if it has no scan."""
        path = folder / proposal_master_name(proposal, beamline)
        return self._write_all(folder, SESSION_DATASETS_GLOB, path)

    def _write_all(self, folder: Path, datasets: str, path: Path) -> Path | None:
        """Write the master of all datasets below a folder."""
        root, known = self._root, self._known

        def found() -> tuple[ScanMaster, ...]:
            return tuple(
                scan
                for dataset in sorted(folder.glob(datasets))
                for scan in list_scans(root, dataset, folder, known)
            )

        return self._write(inside(root, path), found, collection_layout)

    def _write(
        self, path: Path, found: Callable[[], tuple[ScanMaster, ...]], made: _Layout
    ) -> Path | None:
        _check_creator(path)
        scans = found()
        if not scans:
            return None
        for _ in range(_MAX_ROUNDS):
            self._replace(path, scans, made)
            before, scans = scans, found()
            if scans == before:
                return path
        log.warning(LogEvent.MASTER_KEEPS_CHANGING, file=str(path), rounds=_MAX_ROUNDS)
        return path

    def _replace(
        self, path: Path, scans: tuple[ScanMaster, ...], made: _Layout
    ) -> None:
        last = self._written.pop(path, None)
        is_ours = last is not None and last.stamp == _stamp(path)
        old = self._old_name(path)
        n_known = len(last.scans) if last is not None else 0
        if last is not None and is_ours and scans[:n_known] == last.scans:
            names = last.names
            if len(scans) > n_known:
                tree = made(path.name, scans[n_known:], stamp_now(), names)
                add_to_file(path, tree, old=old)
                names = names | tree.children.keys()
        else:
            tree = made(path.name, scans, stamp_now(), ())
            replace_file(path, tree, old=old)
            names = frozenset(tree.children)
        if old is not None:
            self._old[path].note(old)
        if self._known is not None:
            self._written[path] = _Written(_stamp(path), scans, names)

    def _old_name(self, path: Path) -> Path | None:
        if self._grace_s <= 0:
            return None
        if path not in self._old:
            self._old[path] = OldMasters(path, self._grace_s)
            self._old[path].note()
        return self._old[path].new_name()

    def remove_expired(self) -> None:
        """Remove replaced masters whose grace period is over."""
        for old in self._old.values():
            old.remove_expired()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


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
