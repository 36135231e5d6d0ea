"""Folders and files of scans below the root, on a disk.

What they are called is said in :mod:`scanbus.schemas.naming`. Names come from the bus;
the schemas let through only what can be a file name. Symbolic links in the tree may be
anybody's, so every folder is resolved and must still be below the root.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import RootUnusableError
from scanbus.schemas.naming import (
    collection_master_name,
    dataset_master_name,
    dataset_path,
    is_segment_of,
    proposal_master_name,
    scan_folder_name,
    scan_master_name,
    session_path,
)

__all__ = [
    "check_root",
    "collection_folder",
    "collection_master",
    "dataset_folder",
    "dataset_master",
    "inside",
    "proposal_master",
    "remove_segments",
    "scan_folder",
    "scan_master",
    "session_folder",
]


def check_root(root: Path) -> None:
    """Make the root if need be, and see that files can be made and linked in it.

    Raises
    ------
    RootUnusableError
        If they cannot.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".scanbus-", dir=root) as folder:
            made = Path(folder) / "made"
            made.write_bytes(b"")
            os.link(made, Path(folder) / "linked")
    except OSError as error:
        reason = error.strerror or str(error)
        raise RootUnusableError(str(root), reason) from error


def inside(root: Path, path: Path) -> Path:
    """Return a path below the root, as it is given, after a look at where it leads.

    Raises
    ------
    RootUnusableError
        If symbolic links lead it out of the root.
    """
    try:
        target, base = path.resolve(), root.resolve()
    except (OSError, RuntimeError) as error:  # links in circles, until Python 3.13
        raise RootUnusableError(str(path), str(error)) from error
    if not target.is_relative_to(base):
        raise RootUnusableError(
            str(root), f"{path} leads out of it, to {target}, by a symbolic link"
        )
    return path


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
    """Return where a scan's master stands."""
    name = scan_master_name(identity.scan_number)
    return inside(root, scan_folder(root, identity) / name)


def remove_segments(folder: Path, lane: str) -> None:
    """Remove all segments of a lane from a scan's folder."""
    for path in folder.iterdir():
        if is_segment_of(lane, path.name):
            path.unlink(missing_ok=True)


def dataset_master(root: Path, identity: ScanIdentity) -> Path:
    """Return where the master of a dataset stands."""
    folder = dataset_folder(root, identity)
    return inside(root, folder / dataset_master_name(folder.name))


def collection_master(root: Path, identity: ScanIdentity) -> Path:
    """Return where the master of a collection stands."""
    name = collection_master_name(identity.proposal, identity.collection)
    return inside(root, collection_folder(root, identity) / name)


def proposal_master(root: Path, identity: ScanIdentity) -> Path:
    """Return where the master of a proposal's session stands."""
    name = proposal_master_name(identity.proposal, identity.beamline)
    return inside(root, session_folder(root, identity) / name)
