"""Write the log of a service in a thread, so that no reader of it can stop the service.

A pipe that nobody reads, a terminal that is held, a log file on a full disk: whoever
logs would wait for ever, or get an error instead of doing its work.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Final

__all__ = ["LogThread"]

# Normally a line is written when `write` returns, also if the process is killed then.
_PATIENCE_S: Final = 0.5
_MOST_LINES: Final = 10_000


class LogThread:
    """A text file to which a thread writes; what it cannot write is counted.

    Safe to share between threads.

    Parameters
    ----------
    descriptor : int
        Of the open file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._lines: deque[str] = deque()
        self._is_stuck = False
        self._n_lost = 0
        threading.Thread(target=self._run, name="scanbus-log", daemon=True).start()

    def write(self, line: str) -> None:
        """Have a line written; wait for that only as long as it usually takes."""
        with self._changed:
            if len(self._lines) >= _MOST_LINES:
                self._n_lost += 1
                return
            self._lines.append(line)
            self._changed.notify_all()
            if not self._is_stuck:
                self._is_stuck = not self._changed.wait_for(self._is_empty, _PATIENCE_S)

    def flush(self) -> None:
        """Do nothing: `write` has waited."""

    def take_lost(self) -> int:
        """Return how many lines were lost since the last call."""
        with self._changed:
            n_lost, self._n_lost = self._n_lost, 0
        return n_lost

    def _is_empty(self) -> bool:
        return not self._lines

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_empty())
                line = self._lines[0]
            is_written = self._written(line)  # Without the lock: it may never return.
            with self._changed:
                self._lines.popleft()
                self._n_lost += not is_written
                self._is_stuck = self._is_stuck and not self._is_empty()
                self._changed.notify_all()

    def _written(self, line: str) -> bool:
        rest = line.encode("utf-8", "backslashreplace")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            return False
        return True
