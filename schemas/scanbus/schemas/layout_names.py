"""Names of layouts, and of files that no layout may write."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import StringConstraints

from scanbus.schemas.file_names import (
    amendments_name,
    manifest_name,
    parse_scan_folder,
    parse_segment_file,
    scan_folder_name,
    scan_master_name,
    values_file_name,
)

__all__ = [
    "BUILT_IN_LAYOUTS",
    "MAX_LAYOUTS",
    "ONE_FRAME_LAYOUTS",
    "LayoutName",
    "added_layouts_name",
    "is_layout_name",
    "is_reserved_name",
]

MAX_LAYOUTS: Final = 16
"""Most layouts of one scan."""
BUILT_IN_LAYOUTS: Final = (
    "esrf",
    "nxmx",
    "nxtomo",
    "nxfluo",
    "nxxas",
    "nxsas",
    "cxi",
    "openpmd",
)
"""Layouts that every writer of this version has; a site may have others."""
ONE_FRAME_LAYOUTS: Final = frozenset({"nxmx"})
"""Layouts whose readers need a chunk for each frame, and files of equal length.

neggia, and so XDS, does."""
_PATTERN: Final = "^[a-z][a-z0-9_]{0,31}$"
LayoutName = Annotated[str, StringConstraints(pattern=_PATTERN, max_length=32)]
"""Name of a layout: lower-case letters, digits and underscores, as ``nxmx``."""


def added_layouts_name(scan_number: int) -> str:
    """Return the name of the layouts that a finished scan got later."""
    return f"{scan_folder_name(scan_number)}_layouts.json"


def is_layout_name(name: str) -> bool:
    """Return whether a layout can have this name.

    Examples
    --------
    >>> is_layout_name("nxmx"), is_layout_name("../nxmx")
    (True, False)
    """
    return re.fullmatch(_PATTERN, name) is not None and not name.endswith("\n")


def is_reserved_name(name: str) -> bool:
    """Return whether a file of a scan's folder is one of the scan itself.

    Examples
    --------
    >>> is_reserved_name("scan0007_values.h5"), is_reserved_name("scan0007.nxs")
    (True, False)
    """
    if parse_segment_file(name) is not None:
        return True
    number = parse_scan_folder(name.partition(".")[0].partition("_")[0])
    if number is None:
        return False
    return name in (
        scan_master_name(number),
        values_file_name(number),
        manifest_name(number),
        amendments_name(number),
        added_layouts_name(number),
    )
