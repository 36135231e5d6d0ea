"""Which series a file belongs to, and where in it, by its name. Pure."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import NamedTuple

from scanbus.publisher.gateways.files.images import is_image_name

__all__ = ["FilePlace", "is_wanted_name", "place_of", "shown"]

# Longer ones are dates, not counters.
_MAX_DIGITS = 8
_COUNTER = re.compile(r"\d+")
# What a program adds to a name while it writes the file.
_UNFINISHED = (".", "~")


class FilePlace(NamedTuple):
    """Place of a file.

    Attributes
    ----------
    series : str
        Path below the watched folder, with ``#`` for the counter in its name.
    number : int or None
        The counter; None if the name has none.
    """

    series: str
    number: int | None


def shown(path: PurePath | str) -> str:
    """Return a path as text, for scans and logs: names are octets, of any encoding.

    Examples
    --------
    >>> shown(PurePath("é.cbf")), len(shown(PurePath(os.fsdecode(bytes([0xE9])))))
    ('é.cbf', 4)
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_wanted_name(path: PurePath) -> bool:
    """Whether a file is an image, by its name.

    Examples
    --------
    >>> [is_wanted_name(PurePath(n)) for n in ("a1.cbf", ".a1.cbf", "a.txt", "m.0001")]
    [True, False, False, True]
    """
    return not path.name.startswith(_UNFINISHED) and is_image_name(path)


def place_of(path: Path, folder: Path) -> FilePlace:
    """Return the place of a file, by the last number in its name.

    Examples
    --------
    >>> folder = Path("/d")
    >>> place_of(Path("/d/s1/run_2_00017.cbf.gz"), folder)
    FilePlace(series='s1/run_2_#.cbf.gz', number=17)
    >>> place_of(Path("/d/test.0003"), folder), place_of(Path("/d/dark.tif"), folder)
    (FilePlace(series='test.#', number=3), FilePlace(series='dark.tif', number=None))
    """
    below = path.relative_to(folder)
    head, dot, tail = _split(below.name)
    counters = [each for each in _COUNTER.finditer(head) if len(each[0]) <= _MAX_DIGITS]
    if not counters:
        return FilePlace(shown(below), None)
    last = counters[-1]
    name = f"{head[: last.start()]}#{head[last.end() :]}{dot}{tail}"
    return FilePlace(shown(below.with_name(name)), int(last[0]))


def _split(name: str) -> tuple[str, str, str]:
    """Return a name without its suffixes, and these; a counter is no suffix."""
    head, dot, tail = name.rpartition(".")
    if tail.isdecimal() or not dot:
        return name, "", ""
    if tail.lower() in {"gz", "bz2"} and "." in head:
        head, _, inner = head.rpartition(".")
        return head, ".", f"{inner}.{tail}"
    return head, dot, tail
