"""Replaced masters: they stay until readers are done with them.

A reader on another machine may have one open. Without a name it would be gone there.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from pathlib import Path

from scanbus.schemas.running_files import is_old_master, old_master_name

__all__ = ["OldMasters"]


class OldMasters:
    """The replaced versions of one master; for one thread.

    Parameters
    ----------
    master : pathlib.Path
        The master that replaced them.
    grace_s : float
        How long each stays after it was seen first, in seconds.
    """

    def __init__(self, master: Path, grace_s: float) -> None:
        self._master = master
        self._grace_s = grace_s
        self._deadlines: dict[Path, float] = {}

    def new_name(self) -> Path:
        """Return a name under which the next one that is replaced may stay."""
        name = old_master_name(self._master.name, secrets.token_hex(8))
        return self._master.with_name(name)

    def note(self, old: Path | None = None) -> None:
        """Note a replaced master; without one, all that are there."""
        found = [old] if old is not None else self._found()
        for path in found:
            deadline = time.monotonic() + self._grace_s
            self._deadlines.setdefault(path, deadline)

    def _found(self) -> list[Path]:
        paths = self._master.parent.iterdir()
        return [path for path in paths if is_old_master(path.name, self._master.name)]

    def remove_expired(self) -> None:
        """Remove those whose time is over; what cannot be removed is left."""
        now = time.monotonic()
        for path in [path for path, end in self._deadlines.items() if now >= end]:
            del self._deadlines[path]
            with suppress(OSError):
                path.unlink(missing_ok=True)
