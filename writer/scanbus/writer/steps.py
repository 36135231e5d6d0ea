"""The steps that touch the disk or the lease: timed, and visible while they last.

A stalled mount blocks a call for as long as it likes; nobody can interrupt it. What can
be done is to say which step of which file it is, and since when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scanbus.schemas.logs import get_logger

__all__ = ["Steps"]

log = get_logger()


class Steps:
    """The steps of one attempt; safe to share between its threads.

    Parameters
    ----------
    slow_s : float
        Steps that take longer are reported when they end.
    """

    def __init__(self, slow_s: float = 5.0) -> None:
        self._slow_s = slow_s
        self._lock = threading.Lock()
        self._current: dict[int, tuple[str, str, float]] = {}

    @contextmanager
    def step(self, name: str, path: Path) -> Iterator[None]:
        """Time one step on one file, perhaps within another one.

        Parameters
        ----------
        name : str
            ``write``, ``flush``, ``close``, ``verify``, ``fsync``, ``link``, ….
        """
        started = time.monotonic()
        thread = threading.get_ident()
        with self._lock:
            outer = self._current.get(thread)
            self._current[thread] = (name, path.name, started)
        try:
            yield
        finally:
            with self._lock:
                if outer is None:
                    del self._current[thread]
                else:
                    self._current[thread] = outer
            elapsed = time.monotonic() - started
            if elapsed > self._slow_s:
                log.warning(
                    "slow_step", step=name, file=str(path), seconds=round(elapsed, 1)
                )

    def stalled(self) -> str:
        """Return a sentence on the step that lasts longest, empty if none is slow."""
        now = time.monotonic()
        with self._lock:
            current = sorted(self._current.values(), key=lambda step: step[2])
        if not current or now - current[0][2] < self._slow_s:
            return ""
        name, path, started = current[0]
        return f"stalled: {name} of {path} has taken {now - started:.0f} s so far"
