"""Names of files in a scan's folder that readers of a running scan need. Pure.

They stay for a grace period after the last master that named them, or whose place they
had, and are then removed.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "is_old_master",
    "old_master_name",
    "parse_values_part",
    "values_part_name",
]

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
