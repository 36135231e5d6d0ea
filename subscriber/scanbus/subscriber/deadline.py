"""Deadline of a wait, and detection of a silent publisher.

Pure except for the clock, which is passed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from scanbus.schemas.errors import DeadlineError
from scanbus.subscriber.connection import BLOCK_S

__all__ = ["Deadline"]


class Deadline:
    """Deadline of one wait; it restarts whenever data are received.

    Parameters
    ----------
    what : str
        What is waited for, for the error message.
    timeout_s : float or None
        Longest wait without data, in seconds; None for as long as the publisher is
        alive.
    lapse_s : float
        How long, in seconds, a publisher must be without a heartbeat to count as gone.
        Longer than its heartbeat interval, so that one that reconnects has time to
        renew its heartbeat.
    clock : callable
        Returns monotonic seconds.
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
        """Restart the wait: data were received."""
        self._began = self._clock()
        self._silent_since: float | None = None

    def block_ms(self) -> int:
        """Return the timeout of the next blocking read in milliseconds.

        It ends by the deadline and early enough to check the publisher's heartbeat. At
        least 1, as Redis would wait without a timeout for 0.
        """
        wait_s = min(BLOCK_S, self._lapse_s)
        if self._timeout_s is not None:
            wait_s = min(wait_s, self._began + self._timeout_s - self._clock())
        return max(1, round(wait_s * 1000))

    def check(self) -> None:
        """Check the deadline after a read that returned nothing.

        Raises
        ------
        DeadlineError
            If nothing was received for `timeout_s`.
        """
        waited_s = self._clock() - self._began
        if self._timeout_s is not None and waited_s >= self._timeout_s:
            raise DeadlineError(self._what, waited_s, "nothing was received")

    def is_lost(self, *, publisher_alive: bool) -> bool:
        """Whether the publisher has been without a heartbeat for `lapse_s`.

        Parameters
        ----------
        publisher_alive : bool
            Whether its heartbeat has not expired now.
        """
        if publisher_alive:
            self._silent_since = None
            return False
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        return now - self._silent_since >= self._lapse_s
