"""Exit codes of all commands, in one place.

Errors, verdicts and reports say which of them they lead to; no other module writes the
numbers. The README lists them for users.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """How a command came out; of several outcomes, the greatest number wins."""

    COMPLETE = 0
    """All points are in the files; or there is nothing to complain about."""
    USAGE = 1
    """Nothing was done: usage, configuration, no Redis, no such scan."""
    PARTIAL = 2
    """Named points are missing or wrong."""
    FAILED = 3
    """There is no usable file, or nothing was written."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT, as a shell says it of a process that a signal ended."""
