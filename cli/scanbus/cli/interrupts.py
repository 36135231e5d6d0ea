"""Ctrl-C: a command leaves at once, until it has something to end in order.

An interrupt that raises in the middle of an import can leave half a library behind,
lose itself in an extension module, or end in a traceback. So, from the first line of
`main` on, Ctrl-C ends the process; a command that must end a scan, a file or other
processes asks for a KeyboardInterrupt when its imports are done.
"""

from __future__ import annotations

# Nothing large is imported here: until this is loaded, Ctrl-C is Python's own.
import _thread
import atexit
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType
else:
    # The part in C: `signal` itself imports enum, which takes most of the time until
    # Ctrl-C is ours.
    import _signal as signal

__all__ = [
    "INTERRUPTED",
    "ignore_interrupts_at_exit",
    "leave_on_interrupt",
    "raise_on_interrupt",
    "was_raised",
]

# ExitCode.INTERRUPTED: importing that takes long enough to be interrupted.
INTERRUPTED = 130
_raised: list[int] = []
_SENTENCE = b"scanbus: interrupted; what was done so far is kept\n"


def leave_on_interrupt() -> None:
    """Have Ctrl-C end the process from now on, with a sentence and exit code 130."""
    _handle_by(_leave)


def ignore_interrupts_at_exit() -> None:
    """Have Ctrl-C ignored when all threads have ended: the exit code is decided."""
    atexit.register(_ignore)  # Python would have it kill the process then.


def raise_on_interrupt() -> None:
    """Have Ctrl-C raise KeyboardInterrupt from now on: there is something to end."""
    sys.unraisablehook = _raise_again
    _handle_by(_raise)


def was_raised() -> bool:
    """Return whether Ctrl-C raised: an extension may have made another error of it."""
    return bool(_raised)


def _handle_by(handler: Callable[[int, FrameType | None], None]) -> None:
    try:
        signal.signal(signal.SIGINT, handler)
    except ValueError:  # Not the main thread, which alone gets signals.
        return


def _raise(number: int, _frame: FrameType | None) -> None:
    _raised.append(number)
    raise KeyboardInterrupt


def _raise_again(lost: sys.UnraisableHookArgs) -> None:
    """Raise what a finaliser or a callback could not, at the next step outside it."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # In the hook itself it would be lost as well.
        _thread.start_new_thread(_interrupt_soon, ())
    else:
        sys.__unraisablehook__(lost)


def _interrupt_soon() -> None:
    time.sleep(0.01)
    _thread.interrupt_main()


def _ignore() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(_number: int, _frame: FrameType | None) -> None:
    try:
        os.write(2, _SENTENCE)
        sys.stdout.flush()
    finally:  # Whatever it raised: a line was being written, or nobody reads any more.
        os._exit(INTERRUPTED)
