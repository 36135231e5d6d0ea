"""Say of a file of a layout that it is one, and how it is made again."""

from __future__ import annotations

from pathlib import Path

import h5py

from scanbus.schemas.file_names import parse_scan_folder
from scanbus.schemas.layout_names import is_reserved_name
from scanbus.writer.layouts.profiles import LAYOUT_ATTRIBUTE

__all__ = ["layout_of", "remedy_of"]


def layout_of(file: h5py.File) -> str:
    """Return the layout of a file beside a scan master; empty if it is of none."""
    found = file.attrs.get(LAYOUT_ATTRIBUTE)
    return found if isinstance(found, str) else ""


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
