"""Paths of scans' folders and files below the root.

:mod:`scanbus.schemas.file_names` defines their names. Names come from the bus; the
schemas accept only valid file names. Users may place symbolic links in the tree, so
every path is resolved and must still be below the root, or below another root that the
setting ``allowed_roots`` names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import NoRootError, RootUnusableError
from scanbus.schemas.file_names import (
    SCAN_FOLDERS_GLOB,
    WORK_FOLDERS_GLOB,
    collection_master_name,
    dataset_master_name,
    dataset_path,
    parse_shared_segment,
    proposal_master_name,
    scan_folder_name,
    scan_master_name,
    session_path,
)
from scanbus.writer.storage.paths_below import paths_below
from scanbus.writer.storage.root_identity import read_root_id

__all__ = [
    "allow_links_to",
    "check_tree",
    "collection_folder",
    "collection_master",
    "dataset_folder",
    "dataset_master",
    "inside",
    "proposal_master",
    "remove_shared_segments",
    "scan_folder",
    "scan_master",
    "session_folder",
]


# Of this process: whoever reads the settings sets it once, before paths are made.
_allowed: tuple[Path, ...] = ()


def allow_links_to(roots: Iterable[Path]) -> None:
    """Set the roots to which symbolic links may lead, for this process."""
    global _allowed  # noqa: PLW0603 - a setting of the process
    _allowed = tuple(roots)


def check_tree(root: Path, allowed_roots: Iterable[Path] = ()) -> None:
    """Check that a folder is one below which scans are, or may be.

    A root, or any folder with scans: that of a replay, or a copy, is no root.

    Raises
    ------
    NoRootError
        If it is neither, or an allowed one is no root.
    RootUnusableError
        If the file system refuses.
    """
    for allowed in allowed_roots:
        read_root_id(allowed)
    try:
        read_root_id(root)
    except NoRootError as error:
        if any(
            any(paths_below(root, each))
            for each in (SCAN_FOLDERS_GLOB, WORK_FOLDERS_GLOB)
        ):
            return
        raise NoRootError(str(root), f"{error.reason}, and no scan is in it") from error


def inside(root: Path, path: Path) -> Path:
    """Return `path` unchanged after checking where it leads.

    Raises
    ------
    NoRootError
        If it leads to an allowed root that is not there now, as if not mounted.
    RootUnusableError
        If symbolic links lead elsewhere than below the root or an allowed one, or form
        a loop.
    """
    try:
        target, base = path.resolve(), root.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: link loop, before 3.13
        raise RootUnusableError(str(path), str(error)) from error
    if not target.is_relative_to(base):
        _check_allowed(root, path, target)
    return path


def _check_allowed(root: Path, path: Path, target: Path) -> None:
    for allowed in _allowed:
        if target.is_relative_to(allowed.resolve()):
            # An empty mount point has no id: nothing is written behind it.
            read_root_id(allowed)
            return
    named = ", ".join(map(str, _allowed)) or "none"
    raise RootUnusableError(
        str(root),
        f"{path} leads out of it, to {target}, by a symbolic link, and the setting "
        f"allowed_roots names no root there (it names {named})",
    )


def session_folder(root: Path, identity: ScanIdentity) -> Path:
    """Return the folder of all collections of a session."""
    return inside(root, root / session_path(identity))


def collection_folder(root: Path, identity: ScanIdentity) -> Path:
    """Return the folder of all datasets of a collection."""
    return inside(root, session_folder(root, identity) / identity.collection)


def dataset_folder(root: Path, identity: ScanIdentity) -> Path:
    """Return the folder of all scans of a dataset."""
    return inside(root, root / dataset_path(identity))


def scan_folder(root: Path, identity: ScanIdentity) -> Path:
    """Return the folder of a scan's files."""
    folder = dataset_folder(root, identity) / scan_folder_name(identity.scan_number)
    return inside(root, folder)


def scan_master(root: Path, identity: ScanIdentity) -> Path:
    """Return the path of a scan's master."""
    name = scan_master_name(identity.scan_number)
    return inside(root, scan_folder(root, identity) / name)


def remove_shared_segments(folder: Path) -> None:
    """Remove the segments that the scan file replaces from a scan's folder."""
    for path in folder.iterdir():
        if parse_shared_segment(path.name) is not None:
            path.unlink(missing_ok=True)


def dataset_master(root: Path, identity: ScanIdentity) -> Path:
    """Return the path of a dataset's master."""
    folder = dataset_folder(root, identity)
    return inside(root, folder / dataset_master_name(folder.name))


def collection_master(root: Path, identity: ScanIdentity) -> Path:
    """Return the path of a collection's master."""
    name = collection_master_name(identity.proposal, identity.collection)
    return inside(root, collection_folder(root, identity) / name)


def proposal_master(root: Path, identity: ScanIdentity) -> Path:
    """Return the path of the master of a proposal's session."""
    name = proposal_master_name(identity.proposal, identity.beamline)
    return inside(root, session_folder(root, identity) / name)
