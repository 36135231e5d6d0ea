"""The text by which a process names itself in heartbeats, and whether it is dead.

A heartbeat expires some seconds after its process died. Who runs on the same host need
not wait for that: it can look.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

__all__ = ["is_dead_here", "process_text"]

_PROCESS = re.compile(r" on (?P<host>\S+), pid (?P<pid>\d+) of (?P<namespace>\S+)\Z")
_PROC = Path("/proc")


def process_text(name: str) -> str:
    """Return a text that names this process, for people and `is_dead_here`."""
    host, namespace = socket.gethostname(), _namespace()
    return f"{name} on {host}, pid {os.getpid()} of {namespace}"


def is_dead_here(text: str) -> bool:
    """Return whether a process ran here and is dead; False if that is not known.

    Parameters
    ----------
    text : str
        What it said of itself, by `process_text`.

    Examples
    --------
    >>> is_dead_here(process_text("this")), is_dead_here("another on elsewhere, pid 1")
    (False, False)
    """
    found = _PROCESS.search(text)
    if found is None or found["host"] != socket.gethostname():
        return False
    # Containers may share a name, but their processes have numbers of their own.
    if found["namespace"] != _namespace() or not (_PROC / "self").exists():
        return False
    return _state(int(found["pid"])) in {"", "Z", "X"}


def _namespace() -> str:
    with suppress(OSError):
        return str((_PROC / "self/ns/pid").readlink())
    return "?"


def _state(pid: int) -> str:
    """Return the letter of a process's state; empty if there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    # The program's name, in brackets, may hold anything.
    return stat.rpartition(")")[2].split()[0]
