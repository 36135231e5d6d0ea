"""Look below a folder in which others are at work.

Folders go meanwhile: writers remove their work folders, people move datasets. Before
Python 3.13, `Path.glob` and `Path.rglob` raise FileNotFoundError then; `glob.glob`
passes over every error, so that a mount which fails would look empty.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

__all__ = ["files_below", "names_in", "paths_below"]

_GONE: Final = (FileNotFoundError, NotADirectoryError)


def paths_below(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the paths that match a pattern, as `Path.glob` does, in no order.

    What goes meanwhile is passed over, and so are folders that this user may not read,
    as ``lost+found``, and links that lead to no folder.

    Parameters
    ----------
    pattern : str
        Names with ``*``, ``?`` and ``[]``, joined by ``/``; ``**`` has no meaning.

    Raises
    ------
    OSError
        If the file system fails otherwise.
    """
    first, _, rest = pattern.partition("/")
    found: list[os.DirEntry[str]] = []
    with suppress(*_GONE, PermissionError), os.scandir(root) as entries:
        found += (one for one in entries if fnmatchcase(one.name, first))
    # The folder is closed while the caller is at work, however deep it looks.
    for one in found:
        if not rest:
            yield root / one.name
        elif _is_folder(one):
            yield from paths_below(root / one.name, rest)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link in a circle, or to what this user may not see, leads to no folder.
        if error.errno in {errno.ELOOP, errno.EACCES, errno.EPERM}:
            return False
        raise


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if it is gone.

    Raises
    ------
    OSError
        If the file system fails otherwise.
    """
    with suppress(*_GONE):
        return sorted(path.name for path in folder.iterdir())
    return []


def files_below(folder: Path, refused: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield all that is no folder, however deep; links to folders are not followed.

    Parameters
    ----------
    refused : callable
        Is given the error for each folder that cannot be read; those that went
        meanwhile are passed over.
    """

    def note(error: OSError) -> None:
        if not isinstance(error, _GONE):
            refused(error)

    for place, _, names in os.walk(folder, onerror=note):
        for name in names:
            yield Path(place, name)
