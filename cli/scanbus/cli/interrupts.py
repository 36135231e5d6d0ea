"""Ctrl-C: a command leaves at once, until it has something to end in order.

An interrupt that raises in the middle of an import can leave half a library behind,
lose itself in an extension module, or end in a traceback. So, from the first line of
`main` on, Ctrl-C ends the process; a command that must end a scan, a file or other
processes asks for a KeyboardInterrupt when its imports are done.
"""

from __future__ import annotations

# Nothing large is imported here: until this is loaded, Ctrl-C is Python's own.
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["INTERRUPTED", "leave_on_interrupt", "raise_on_interrupt"]

# ExitCode.INTERRUPTED: importing that takes long enough to be interrupted.
INTERRUPTED = 130
_SENTENCE = b"scanbus: interrupted; what was done so far is kept\n"


def leave_on_interrupt() -> None:
    """Have Ctrl-C end the process from now on, with a sentence and exit code 130."""
    _handle_by(_leave)


def raise_on_interrupt() -> None:
    """Have Ctrl-C raise KeyboardInterrupt from now on: there is something to end."""
    _handle_by(signal.default_int_handler)


def _handle_by(handler: Callable[[int, FrameType | None], None]) -> None:
    try:
        signal.signal(signal.SIGINT, handler)
    except ValueError:  # Not the main thread, which alone gets signals.
        return


def _leave(_number: int, _frame: FrameType | None) -> None:
    try:
        os.write(2, _SENTENCE)
        sys.stdout.flush()
    finally:  # Whatever it raised: a line was being written, or nobody reads any more.
        os._exit(INTERRUPTED)
