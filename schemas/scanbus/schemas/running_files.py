"""Names of files that exist while scans run, and for some time afterwards. Pure.

Readers of a running scan need those in its folder. They stay for a grace period after
the last master that named them, or whose place they had, and are then removed.
"""

from __future__ import annotations

import re
from typing import Final

from scanbus.schemas.file_names import WORK_FOLDER

__all__ = [
    "UNLISTED_GLOB",
    "is_old_master",
    "old_master_name",
    "parse_values_part",
    "unlisted_record_path",
    "values_part_name",
]

UNLISTED_GLOB: Final = f"{WORK_FOLDER}/unlisted/*.json"
"""Records of scans that are in no master above them yet, relative to the root."""

# No lane's name has a hyphen.
_PART: Final = re.compile(r"values-([0-9]{4,15})\.h5\Z")
_OLD: Final = re.compile(r"\.(.+)\.([0-9a-f]+)\.old\Z")


def values_part_name(number: int) -> str:
    """Return the name of a file with finished small values of a running scan.

    Examples
    --------
    >>> values_part_name(3)
    'values-0003.h5'
    """
    return f"values-{number:04d}.h5"


def parse_values_part(name: str) -> int | None:
    """Return the number in the name of such a file; None for another one."""
    match = _PART.match(name)
    number = int(match[1]) if match else None
    is_named = number is not None and values_part_name(number) == name
    return number if is_named else None


def old_master_name(name: str, token: str) -> str:
    """Return what a master is called that was replaced.

    Parameters
    ----------
    token : str
        Hexadecimal digits; no two files have the same.

    Examples
    --------
    >>> old_master_name("scan0001.h5", "7f")
    '.scan0001.h5.7f.old'
    """
    return f".{name}.{token}.old"


def is_old_master(name: str, of: str) -> bool:
    """Return whether this is the name of an old master of that name."""
    match = _OLD.match(name)
    return match is not None and match[1] == of


def unlisted_record_path(uid: str) -> str:
    """Return the path of the record of a scan that is in no master above it yet."""
    return f"{WORK_FOLDER}/unlisted/{uid}.json"
