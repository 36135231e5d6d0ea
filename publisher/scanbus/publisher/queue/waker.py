"""Condition on which a sender sleeps until its lanes have work."""

from __future__ import annotations

import threading

__all__ = ["Waker"]


class Waker:
    """Condition and compare request of one sender; guarded by the scan's lock.

    Parameters
    ----------
    lock : threading.Lock
        The scan's lock.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._condition = threading.Condition(lock)
        self._is_asleep = False
        self._must_compare = False

    @property
    def must_compare(self) -> bool:
        """Whether the sender must compare its lanes with Redis before it sends."""
        return self._must_compare

    def request_compare(self) -> None:
        """Have the sender compare its lanes with Redis."""
        self._must_compare = True
        self.wake()

    def take_compare_request(self) -> bool:
        """Return whether a comparison was requested, and reset the flag."""
        asked, self._must_compare = self._must_compare, False
        return asked

    def wake(self) -> None:
        """Wake the sender if it sleeps; the lock is held."""
        if self._is_asleep:
            self._condition.notify()

    def sleep(self, timeout_s: float) -> None:
        """Sleep until woken, at most `timeout_s`; the lock is held."""
        self._is_asleep = True
        self._condition.wait(timeout_s)
        self._is_asleep = False
