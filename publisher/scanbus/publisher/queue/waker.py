"""Condition on which a sender sleeps until its lanes have work."""

from __future__ import annotations

from collections.abc import Callable

from scanbus.publisher.queue.locks import ScanLock, Wakeup

__all__ = ["Waker"]


class Waker:
    """Sleep and compare request of one sender.

    Parameters
    ----------
    lock : ScanLock
        The scan's lock, which guards the request.
    """

    def __init__(self, lock: ScanLock) -> None:
        self._lock = lock
        self._wakeup = Wakeup()
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
        """Wake the sender if it sleeps; no lock is needed."""
        if self._is_asleep:
            self._wakeup.wake()

    def sleep_unless(self, has_work: Callable[[], bool], timeout_s: float) -> bool:
        """Return True if there is work; else sleep until woken, and return False.

        The lock is held once, and released while this sleeps.

        Parameters
        ----------
        timeout_s : float
            Longest sleep, in seconds.
        """
        self._is_asleep = True  # Before the look: who adds work after it wakes us.
        try:
            if has_work():
                return True
            self._lock.release()
            try:
                self._wakeup.sleep(timeout_s)
            finally:
                self._lock.acquire()
            return False
        finally:
            self._is_asleep = False
            self._wakeup.forget()
