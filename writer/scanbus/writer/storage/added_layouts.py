"""Layouts that a finished scan got later, in a file beside it.

The scan file is written once and stays. ``scan0001_layouts.json`` has what was added
since, in the form of the scan file's own choice; masters are built from both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import RootUnusableError, VerificationError
from scanbus.schemas.file_names import parse_scan_folder
from scanbus.schemas.layout_names import added_layouts_name
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.regular_file import check_regular, is_there, read_regular
from scanbus.writer.storage.temporary_files import new_temporary

__all__ = ["add_layouts", "with_added_layouts"]

_MAX_BYTES: Final = 64 * 2**20


def with_added_layouts(folder: Path, choice: LayoutChoice) -> LayoutChoice:
    """Return the layouts of a scan, with those that were added to it.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    choice : LayoutChoice
        That of its scan file.

    Raises
    ------
    VerificationError
        If the file beside the scan cannot be read.
    NameTakenError
        If it is no regular file.
    """
    path = _path(folder)
    if path is None or not is_there(path):
        return choice
    try:
        added = _read(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = f"it has no added layouts ({error}); remove it, and add them again"
        raise VerificationError(str(path), reason) from error
    return _joined(choice, added)


def add_layouts(folder: Path, own: LayoutChoice, wanted: LayoutChoice) -> LayoutChoice:
    """Add layouts to a finished scan, durably; return all that it has then.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    own : LayoutChoice
        What the scan has so far, with layouts that were added before.
    wanted : LayoutChoice
        Those to add. Their templates replace others of the same names.

    Raises
    ------
    RootUnusableError
        If the file system refuses.
    """
    path = _path(folder)
    joined = _joined(own, wanted.chosen(wanted.names))
    if path is None or joined == own:
        return own
    new = new_temporary(path)
    try:
        new.write_text(joined.to_json(), encoding="utf-8")
        fsync_path(new)
        new.replace(path)
        fsync_path(folder)
    except OSError as error:
        raise RootUnusableError(str(path), error.strerror or str(error)) from error
    finally:
        new.unlink(missing_ok=True)
    return joined


def _read(path: Path) -> LayoutChoice:
    if check_regular(path).st_size > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    return LayoutChoice.from_json(read_regular(path).decode())


def _path(folder: Path) -> Path | None:
    number = parse_scan_folder(folder.name)
    return None if number is None else folder / added_layouts_name(number)


def _joined(own: LayoutChoice, added: LayoutChoice) -> LayoutChoice:
    names = tuple(dict.fromkeys((*own.names, *added.names)))
    return replace(own, names=names, templates={**own.templates, **added.templates})
