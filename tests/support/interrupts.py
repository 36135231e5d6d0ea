"""Raise an exception at one step of a call, as a signal handler may at any of them."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import scanbus.publisher

ROOT = str(Path(scanbus.publisher.__file__).parent)


class Interruption:
    """Raises KeyboardInterrupt at one step of a call; a step is one bytecode.

    Only steps in modules of the publisher count, in the thread of the call.

    Parameters
    ----------
    at : int
        The step, from 1.
    """

    def __init__(self, at: int) -> None:
        self._left = at

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self._left -= 1
            if not self._left:
                raise KeyboardInterrupt
        return self._trace

    def cuts(self, call: Callable[[], object]) -> bool:
        """Make the call; return whether it was interrupted before its end."""
        sys.settrace(self._trace)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False


def interrupt_everywhere(call: Callable[[], object], *, stride: int = 1) -> list[bool]:
    """Make a call again and again, interrupted one step later each time.

    Returns
    -------
    list of bool
        Whether each of the calls was interrupted; only the last one was not.
    """
    cut = [True]
    while cut[-1]:
        cut.append(Interruption(1 + (len(cut) - 1) * stride).cuts(call))
    return cut[1:]
