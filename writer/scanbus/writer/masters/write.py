"""Write master files: to a temporary file that replaces the old one, never in place.

Changing a file in place endangers its old contents: killed in the middle, 10 of 12 such
files could not be opened any more. A master is a function of the files below it, so it
is written as a whole, and readers see either the old or the new version.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import NameTakenError, RootUnusableError
from scanbus.schemas.file_names import scan_master_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.layouts.esrf import layout
from scanbus.writer.layouts.profiles import UID_ATTRIBUTE, lay_out
from scanbus.writer.masters.scan_uid import read_uid
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.nexus_tree import Group
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.steps import step
from scanbus.writer.storage.amendments import (
    Amendment,
    read_amendments,
    with_amendments,
)
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.error_numbers import errno_of
from scanbus.writer.storage.exclusive_names import keep_under
from scanbus.writer.storage.hdf5 import changed_hdf5, open_hdf5, written_hdf5
from scanbus.writer.storage.layout_values import with_layout_values
from scanbus.writer.storage.plotted_values import with_plotted_values
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.references import with_references
from scanbus.writer.storage.regular_file import (
    FileVersion,
    is_there,
    open_regular,
    version_of,
)
from scanbus.writer.storage.temporary_files import new_temporary, remove_leftovers
from scanbus.writer.storage.tree_writer import write_tree
from scanbus.writer.storage.value_arrays import with_values

__all__ = [
    "add_to_file",
    "foreign_layouts",
    "replace_file",
    "write_amended_master",
    "write_scan_master",
]

log = get_logger()

_COPIED_BYTES: Final = 1 << 20
# Corrections of one scan come one by one.
_MAX_ROUNDS: Final = 20


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
    VerificationError
        If the corrections of its metadata cannot be read.
    RootUnusableError
        If the file system refuses.
    """
    found = read_amendments(folder)
    path = _write(folder, contents, found, aside, old=old)
    # Somebody may correct the metadata meanwhile: whoever renames last looks last.
    for _ in range(_MAX_ROUNDS):
        known, found = found, read_amendments(folder)
        if found == known:
            break
        _write(folder, contents, found, aside, old=old)
    return path


def write_amended_master(
    folder: Path,
    contents: ScanContents,
    found: Sequence[Amendment],
    on_written: Callable[[], None],
) -> Path:
    """Write a scan's master with given corrections, as `write_scan_master`.

    Parameters
    ----------
    on_written : callable
        Called before the new master gets its name, to make the corrections last: what
        no master can show is never noted.
    """
    return _write(folder, contents, found, on_written=on_written)


def _write(
    folder: Path,
    contents: ScanContents,
    found: Sequence[Amendment],
    aside: Path | None = None,
    *,
    old: Path | None = None,
    on_written: Callable[[], None] = lambda: None,
) -> Path:
    path = folder / scan_master_name(contents.record.identity.scan_number)
    _check_scan(path, contents)
    known = with_references(folder, with_amendments(contents, found))
    known = with_plotted_values(folder, with_values(folder, known))
    known = with_layout_values(folder, known)
    stamp = stamp_now()
    tree = layout(known, stamp=stamp)
    with (
        _replacing(path, aside or folder, old, on_written) as new,
        written_hdf5(new.path, track_order=True) as file,
    ):
        write_tree(file, tree, folder)
    # Above it, as files of other layouts may refer to the master.
    write_layouts(folder, known, stamp, aside)
    return path


def write_layouts(
    folder: Path, contents: ScanContents, stamp: FileStamp, aside: Path | None = None
) -> None:
    """Write the files of a scan's layouts, besides its master.

    One that cannot be written is logged, and the others are written: it never ends the
    attempt, unless the file system refuses, as then the master is at stake, too.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    contents : ScanContents
        The scan, with its values.
    stamp : FileStamp
        Time and versions that its master has, too.
    aside : pathlib.Path or None
        As of `write_scan_master`.

    Raises
    ------
    RootUnusableError
        If the file system refuses.
    """
    for name, tree in lay_out(contents, stamp).files.items():
        path = folder / name
        try:
            _check_layout(path, contents.record.uid)
            replace_file(path, tree, aside)
        except Exception as error:  # What HDF5 makes of a tree of its kind.
            if isinstance(error, RootUnusableError) and errno_of(error) is not None:
                raise
            log.warning(
                LogEvent.LAYOUT_NOT_WRITTEN,
                scan=contents.record.uid,
                file=str(path),
                reason=str(error),
            )


def foreign_layouts(folder: Path, contents: ScanContents) -> tuple[str, ...]:
    """Return a sentence for each file that keeps a layout of a scan from its name."""
    found: list[str] = []
    for name in lay_out(contents, stamp_now()).files:
        try:
            _check_layout(folder / name, contents.record.uid)
        except NameTakenError as error:
            found.append(str(error))
    return tuple(found)


def _check_layout(path: Path, uid: str) -> None:
    """Raise if a file exists at `path` that is not one of this scan's layouts."""
    if not is_there(path):
        return
    try:
        with open_hdf5(path) as file:
            found = file.attrs.get(UID_ATTRIBUTE)
    except OSError as error:
        raise NameTakenError(str(path), f"no HDF5 file ({error})") from error
    if found != uid:
        raise NameTakenError(str(path), "a file that is none of this scan's layouts")


def _check_scan(path: Path, contents: ScanContents) -> None:
    """Raise if a file exists at `path` that is not the master of this scan."""
    if not is_there(path):
        return
    uid = read_uid(path, contents.entry_name)
    if uid != contents.record.uid:
        raise NameTakenError(str(path), f"scan {uid}")


def replace_file(
    path: Path, tree: Group, folder: Path | None = None, *, old: Path | None = None
) -> FileVersion:
    """Write a tree to a temporary file, fsync it and rename it to `path`.

    Parameters
    ----------
    folder : pathlib.Path or None
        Folder of the temporary file; that of `path` by default.
    old : pathlib.Path or None
        Name under which the file that is replaced stays, where the file system has
        hard links; None for none.

    Returns
    -------
    tuple
        The version of the new file; by now `path` may be one of another writer.

    Raises
    ------
    RootUnusableError
        If the file system refuses. The old file is replaced as a whole or not at all.
    """
    with (
        _replacing(path, folder or path.parent, old) as new,
        written_hdf5(new.path, track_order=True) as file,
    ):
        write_tree(file, tree, path.parent)
    return new.version


def add_to_file(
    path: Path, version: FileVersion, tree: Group, *, old: Path | None = None
) -> FileVersion | None:
    """Replace a file by a copy with more members, and with other attributes.

    Parameters
    ----------
    version : tuple
        The version to copy, as `replace_file` returned it.
    tree : Group
        Members that it does not have; attributes that it has.
    old : pathlib.Path or None
        As of `replace_file`.

    Returns
    -------
    tuple or None
        The version of the new file; None if the standing one is of another version, or
        gone: nothing is written then.

    Raises
    ------
    NameTakenError, OSError
        If the standing file is no regular one, or cannot be opened.
    RootUnusableError
        As `replace_file`; also if the file cannot be read.
    """
    with ExitStack() as stack:
        try:
            # What is open stays one version, whoever replaces the file meanwhile.
            standing = stack.enter_context(os.fdopen(open_regular(path), "rb"))
        except FileNotFoundError:
            return None
        if version_of(os.fstat(standing.fileno())) != version:
            return None
        new = stack.enter_context(_replacing(path, path.parent, old))
        with new.path.open("xb") as copy:
            shutil.copyfileobj(standing, copy, _COPIED_BYTES)
        with changed_hdf5(new.path) as file:
            write_tree(file, replace(tree, nx_class=None, attributes={}))
            for name, value in tree.attributes.items():
                file.attrs.modify(name, value)
    return new.version


@dataclass
class _New:
    """A file under its temporary path; its version once it has its name."""

    path: Path
    version: FileVersion = (0, 0)


@contextmanager
def _replacing(
    path: Path,
    folder: Path,
    old: Path | None,
    on_written: Callable[[], None] = lambda: None,
) -> Iterator[_New]:
    """Yield a temporary path; then fsync the file there and rename it to `path`."""
    remove_leftovers(path.parent, path.name)
    new = _New(new_temporary(path, folder))
    try:
        yield new
        fsync_path(new.path)
        on_written()
        # Before the renaming: afterwards another writer's file may have the name.
        new.version = version_of(new.path.stat())
        if old is not None:
            keep_under(path, old)
        with step("master"):
            new.path.replace(path)
        fsync_path(path.parent)
    except (OSError, RuntimeError) as error:
        # h5py raises RuntimeError if a file cannot be closed.
        raise RootUnusableError(str(path), str(error)) from error
    finally:
        new.path.unlink(missing_ok=True)
