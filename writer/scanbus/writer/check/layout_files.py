"""Say of a file of a layout that it is one, and how it is made again."""

from __future__ import annotations

from pathlib import Path

import h5py

from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.schemas.file_names import parse_scan_folder
from scanbus.schemas.layout_names import added_layouts_name, is_reserved_name
from scanbus.writer.check.report import Tally
from scanbus.writer.layouts.profiles import LAYOUT_ATTRIBUTE
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.storage.added_layouts import with_added_layouts

__all__ = ["check_added_layouts", "layout_of", "remedy_of"]


def layout_of(file: h5py.File) -> str:
    """Return the layout of a file beside a scan master; empty if it is of none."""
    found = file.attrs.get(LAYOUT_ATTRIBUTE)
    return found if isinstance(found, str) else ""


def check_added_layouts(folder: Path, tally: Tally) -> None:
    """Read the list of layouts that a scan got later: rebuilds depend on it."""
    number = parse_scan_folder(folder.name)
    if number is None:
        return
    try:
        with_added_layouts(folder, LayoutChoice())
    except (NameTakenError, VerificationError) as error:
        tally.record(folder / added_layouts_name(number), "", str(error))


def remedy_of(path: Path) -> str:
    """Return what to do about a file that cannot be opened, if it may be of a layout.

    Whose it is cannot be read any more, so a rebuild does not replace it.
    """
    folder = path.resolve().parent.name
    is_beside = parse_scan_folder(folder) is not None and path.name.startswith(folder)
    if not is_beside or is_reserved_name(path.name):
        return ""
    return (
        "; if it was the file of a layout, remove it, and `scanbus master rebuild` "
        "makes it again"
    )
