"""The masters of datasets, collections and proposals: links to all scans below them.

There is no lock between processes: each writer lists the folders again after its
renames, so the last one to rename has listed all scans. Links to scans that come after
all others are added to a copy of the standing master, which costs the same however
many there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import NameTakenError, ScanbusError
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
    scan_folder_name,
    session_path,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.layouts.link_masters import (
    ScanMaster,
    collection_layout,
    dataset_layout,
)
from scanbus.writer.masters.list_scans import KnownScans, folders_below
from scanbus.writer.masters.standing_links import creator_of
from scanbus.writer.masters.write import add_to_file, replace_file
from scanbus.writer.model.file_stamp import CREATOR, FileStamp
from scanbus.writer.model.nexus_tree import Group
from scanbus.writer.storage.data_root import inside
from scanbus.writer.storage.old_masters import OldMasters
from scanbus.writer.storage.paths_below import paths_below
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.regular_file import (
    FileVersion,
    check_regular,
    is_there,
    version_of,
)

__all__ = ["MastersAbove", "rebuild_masters", "write_dataset_masters"]

log = get_logger()

# Other writers change the listing at most once per scan; after more rounds than this,
# something else keeps changing it.
_MAX_ROUNDS: Final = 20
_FORGET_S: Final = 3600.0
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
        If the name of a master is taken by a file that scanbus did not write. The
        others are written.
    RootUnusableError, OSError
        If the file system refuses.
    """
    return MastersAbove(root, KnownScans(root, trusts_masters=True)).write(names)


def rebuild_masters(root: Path) -> tuple[Path, ...]:
    """Rebuild the masters of all datasets, collections and proposals below a root.

    Raises
    ------
    NameTakenError
        If the name of a master is taken by a file that scanbus did not write. The
        others are rebuilt.
    RootUnusableError, OSError
        If the file system refuses.
    """
    written: list[Path] = []
    errors: list[Exception] = []
    for session in sorted(paths_below(root, SESSIONS_GLOB)):
        name = parse_session_path(session.relative_to(root).as_posix())
        if name is None:
            continue
        masters = []
        for collection in folders_below(root, session):
            masters += [_of_dataset(each) for each in folders_below(root, collection)]
            masters.append(_of_collection(collection, name.proposal))
        masters.append(_of_proposal(session, name.proposal, name.beamline))
        done = MastersAbove(root).write_all(masters)
        written += done.written
        errors += done.errors
    _raise_first(errors)
    return tuple(written)


@dataclass(frozen=True)
class _Master:
    """A master above scans.

    Attributes
    ----------
    folder : pathlib.Path
        Its folder, to which links are relative.
    name : str
        Name of the file.
    datasets : str
        Pattern of the folders of its datasets, relative to `folder`.
    layout : callable
        Makes its tree.
    """

    folder: Path
    name: str
    datasets: str
    layout: _Layout

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.folder / self.name


def _of_dataset(folder: Path) -> _Master:
    return _Master(folder, dataset_master_name(folder.name), "", dataset_layout)


def _of_collection(folder: Path, proposal: str) -> _Master:
    name = collection_master_name(proposal, folder.name)
    return _Master(folder, name, COLLECTION_DATASETS_GLOB, collection_layout)


def _of_proposal(folder: Path, proposal: str, beamline: str) -> _Master:
    name = proposal_master_name(proposal, beamline)
    return _Master(folder, name, SESSION_DATASETS_GLOB, collection_layout)


@dataclass(frozen=True)
class _Done:
    """What became of some masters: those written, and the errors of the others."""

    written: list[Path]
    errors: list[Exception]


@dataclass(frozen=True)
class _Written:
    """A master as it was written last.

    Attributes
    ----------
    version : tuple
        Of the file: one of another version was written by somebody else.
    scans : tuple of ScanMaster
        The scans that it links.
    names : frozenset of str
        The names of its links.
    at : float
        When, by the monotonic clock.
    """

    version: FileVersion
    scans: tuple[ScanMaster, ...]
    names: frozenset[str]
    at: float


class MastersAbove:
    """Writes masters above scans, and remembers them; for one thread.

    Parameters
    ----------
    root : pathlib.Path
        Root of all files.
    known : KnownScans or None
        What was listed before; by default nothing.
    grace_s : float
        How long replaced masters stay, in seconds; 0: they do not.
    """

    def __init__(
        self, root: Path, known: KnownScans | None = None, grace_s: float = 0.0
    ) -> None:
        self._root = root
        self._known = known or KnownScans(root)
        self._grace_s = grace_s
        self._written: dict[Path, _Written] = {}
        self._old: dict[Path, OldMasters] = {}

    def write(self, names: DatasetNames) -> tuple[Path, ...]:
        """Write the masters of a dataset, its collection and its proposal.

        Raises
        ------
        NameTakenError, RootUnusableError, OSError
            As `write_dataset_masters`.
        """
        root = self._root
        done = self.write_all(
            [
                _of_dataset(root / dataset_path(names)),
                _of_collection(root / collection_path(names), names.proposal),
                _of_proposal(
                    root / session_path(names), names.proposal, names.beamline
                ),
            ]
        )
        _raise_first(done.errors)
        return tuple(done.written)

    def lists(self, names: DatasetNames, scan_number: int) -> bool:
        """Whether the masters written last link a scan; True if it has no master."""
        dataset = self._root / dataset_path(names)
        folder = scan_folder_name(scan_number)
        if not is_there(dataset / folder / f"{folder}.h5"):
            return True
        scans = self._known.list_scans(dataset, dataset)
        return any(scan.scan_number == scan_number for scan in scans)

    def write_all(self, masters: Sequence[_Master]) -> _Done:
        """Write masters that have scans; what one lacks does not stop the others."""
        done: dict[Path, tuple[ScanMaster, ...]] = {}
        failed: dict[Path, Exception] = {}
        for _ in range(_MAX_ROUNDS):
            self._known.look_again()
            is_as_before = True
            for master in masters:
                if master.path in failed:
                    continue
                try:
                    inside(self._root, master.folder)
                    scans = self._scans(master)
                    if done.get(master.path, ()) == scans:
                        continue
                    if master.path not in done:
                        _check_creator(inside(self._root, master.path))
                    self._replace(master, scans)
                except (OSError, RuntimeError, ScanbusError) as error:
                    failed[master.path] = error
                    continue
                done[master.path] = scans
                is_as_before = False
            if is_as_before:
                break
        else:
            log.warning(
                LogEvent.MASTER_KEEPS_CHANGING,
                file=str(masters[-1].path),
                rounds=_MAX_ROUNDS,
            )
        self._forget()
        return _Done([path for path in done if path not in failed], [*failed.values()])

    def _scans(self, master: _Master) -> tuple[ScanMaster, ...]:
        """Return the scans below a master, in the order of its links."""
        folder = master.folder
        if not master.datasets:
            return self._known.list_scans(folder, folder)
        found: list[ScanMaster] = []
        for dataset in paths_below(folder, master.datasets):
            if dataset.is_dir():
                found += self._known.list_scans(dataset, folder)
        return tuple(sorted(found))

    def _replace(self, master: _Master, scans: tuple[ScanMaster, ...]) -> None:
        path = master.path
        last = self._written.pop(path, None)
        if last is not None and last.scans == scans and last.version == _version(path):
            self._written[path] = replace(last, at=time.monotonic())
            return
        old = self._old_name(path)
        written = None if last is None else _add(master, last, scans, old)
        self._written[path] = written or _write(master, scans, old)
        if old is not None:
            self._old[path].note(old)

    def _forget(self) -> None:
        """Forget masters to which nothing was added for long."""
        since = time.monotonic() - _FORGET_S
        self._written = {
            path: written
            for path, written in self._written.items()
            if written.at > since
        }

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


def _add(
    master: _Master, last: _Written, scans: tuple[ScanMaster, ...], old: Path | None
) -> _Written | None:
    """Add scans that come after all others; None if they do not, or to another file."""
    n_known = len(last.scans)
    if last.scans != scans[:n_known]:
        return None
    tree = master.layout(master.name, scans[n_known:], stamp_now(), last.names)
    version = add_to_file(master.path, last.version, tree, old=old)
    if version is None:
        return None
    names = last.names | tree.children.keys()
    return _Written(version, scans, names, time.monotonic())


def _write(
    master: _Master, scans: tuple[ScanMaster, ...], old: Path | None
) -> _Written:
    tree = master.layout(master.name, scans, stamp_now(), ())
    version = replace_file(master.path, tree, old=old)
    return _Written(version, scans, frozenset(tree.children), time.monotonic())


def _version(path: Path) -> FileVersion | None:
    try:
        return version_of(check_regular(path))
    except FileNotFoundError:
        return None


def _check_creator(path: Path) -> None:
    if not is_there(path):
        return
    creator = creator_of(path)
    if creator != CREATOR:
        raise NameTakenError(str(path), f"a file of {creator or 'unknown origin'}")


def _raise_first(errors: Iterable[Exception]) -> None:
    for error in errors:
        raise error
