"""Exit codes of all commands, in one place.

Errors, verdicts and reports refer to them; no other module contains the numbers. The
README lists them for users.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """Outcome of a command; of several outcomes, the greatest number counts."""

    COMPLETE = 0
    """All points are in the files, or the command found no problem."""
    USAGE = 1
    """Nothing was done: wrong usage or configuration, no Redis, no such scan."""
    PARTIAL = 2
    """Named points are missing or wrong."""
    FAILED = 3
    """There is no usable file, or nothing was written."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT, as shells report a process that was ended by a signal."""
    TERMINATED = 143
    """SIGTERM, before the outcome was known: 128 + SIGTERM, as shells report it."""
