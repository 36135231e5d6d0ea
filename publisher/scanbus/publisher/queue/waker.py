"""Where a sender sleeps until its lanes have work."""

from __future__ import annotations

import threading

__all__ = ["Waker"]


class Waker:
    """Where one sender sleeps, and whether it has to look; guarded by the scan's lock.

    Parameters
    ----------
    lock : threading.Lock
        The scan's.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._condition = threading.Condition(lock)
        self._is_asleep = False
        self._must_compare = False

    @property
    def must_compare(self) -> bool:
        """Whether it has to look at what Redis holds before it sends on."""
        return self._must_compare

    def request_compare(self) -> None:
        """Have the sender compare its lanes with what Redis holds."""
        self._must_compare = True
        self.wake()

    def take_compare_request(self) -> bool:
        """Whether a look was asked for; who asks from now on asks for another one."""
        asked, self._must_compare = self._must_compare, False
        return asked

    def wake(self) -> None:
        """Wake the sender if it sleeps; the lock is held."""
        if self._is_asleep:
            self._condition.notify()

    def sleep(self, timeout_s: float) -> None:
        """Sleep until woken, at most so long; the lock is held."""
        self._is_asleep = True
        self._condition.wait(timeout_s)
        self._is_asleep = False
