"""How long a wait may last: its deadline, and when a silent publisher is given up.

Pure but for the clock that is passed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from scanbus.schemas.errors import DeadlineError
from scanbus.subscriber.connection import BLOCK_S

__all__ = ["Deadline"]


class Deadline:
    """The deadline of one wait; begun again whenever something came.

    Parameters
    ----------
    what : str
        What is waited for, for the error.
    timeout_s : float or None
        Longest wait without anything; None for as long as the publisher lives.
    lapse_s : float
        How long a publisher must have been silent to count as gone. Longer than
        its heartbeat, so that one that reconnects has time to say so.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        what: str,
        timeout_s: float | None,
        lapse_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._timeout_s = timeout_s
        self._lapse_s = lapse_s
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Begin anew: something came."""
        self._began = self._clock()
        self._silent_since: float | None = None

    def block_ms(self) -> int:
        """Return how long the next blocking read may last, at least 1: 0 is for ever.

        Not beyond the deadline, nor longer than a look at the publisher may wait.
        """
        wait_s = min(BLOCK_S, self._lapse_s)
        if self._timeout_s is not None:
            wait_s = min(wait_s, self._began + self._timeout_s - self._clock())
        return max(1, round(wait_s * 1000))

    def check(self) -> None:
        """Take note that nothing came.

        Raises
        ------
        DeadlineError
            If that has been so for longer than allowed.
        """
        waited_s = self._clock() - self._began
        if self._timeout_s is not None and waited_s >= self._timeout_s:
            raise DeadlineError(self._what, waited_s, "nothing came")

    def is_lost(self, *, publisher_alive: bool) -> bool:
        """Whether the publisher has been silent for too long by now."""
        if publisher_alive:
            self._silent_since = None
            return False
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        return now - self._silent_since >= self._lapse_s
