"""Names of files that are being made, and the removal of those of dead processes."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import Final

from scanbus.schemas.file_names import (
    parse_temporary,
    temporaries_glob,
    temporary_name,
)
from scanbus.writer.storage.paths_below import paths_below

__all__ = ["has_ended", "new_temporary", "remove_leftovers"]

# Older ones were left by killed processes of other hosts: files grow all the time.
_LEFTOVER_AGE_S: Final = 3600.0
_HOST: Final = re.sub(r"[^0-9A-Za-z-]", "-", socket.gethostname())


def new_temporary(path: Path, folder: Path | None = None) -> Path:
    """Return a path for a file that will get the name `path`.

    Parameters
    ----------
    folder : pathlib.Path or None
        Its folder; that of `path` by default.
    """
    name = temporary_name(path.name, _HOST, os.getpid(), secrets.token_hex(8))
    return (folder or path.parent) / name


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove files of dead processes that would have got a name.

    Parameters
    ----------
    name : str
        The name; by default any.
    """
    now = time.time()
    for leftover in paths_below(folder, temporaries_glob(name)):
        try:
            is_old = now - leftover.lstat().st_mtime > _LEFTOVER_AGE_S
            if is_old or _is_of_a_dead_process(leftover.name):
                leftover.unlink()
        except OSError:  # removed by another writer meanwhile, or no file at all
            continue


def _is_of_a_dead_process(name: str) -> bool:
    """Whether a process of this host wrote the temporary file and no longer exists.

    If two hosts share a name, or in a container with its own pid namespace, a running
    process may be taken for dead. Then its rename fails and the master is written
    again.
    """
    made = parse_temporary(name)
    return made is not None and made.host == _HOST and has_ended(made.pid)


def has_ended(pid: int) -> bool:
    """Whether no process of this host has a number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
