"""The lock of a scan, and waits of the program's threads that an interrupt cannot tear.

An exception of a signal handler may arise between any two steps of a program's thread:
also between taking a lock and the block that releases it, and inside the wait of a
condition, which then gives up a lock that another thread has.
"""

from __future__ import annotations

# As modules: a program may patch them by gevent after it imported this.
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from operator import methodcaller
from types import TracebackType
from typing import Final, TypeAlias

from scanbus.schemas.errors import ScanStateError

__all__ = [
    "Backstop",
    "ScanLock",
    "Waiters",
    "Wakeup",
    "is_own_thread",
    "refuse_own_wait",
    "refuse_reentry",
    "wait_for_end",
]

_LONGEST_PIECE_S: Final = 0.05
# Prefix of the names of all threads of a publisher.
_OWN_THREADS = "scanbus-"
_INSIDE = (
    "this was called inside another call of scanbus, by a finaliser or a signal "
    "handler: it would wait for itself"
)


def is_own_thread(thread: threading.Thread) -> bool:
    """Return whether a thread is one of a publisher's, not of the program."""
    return thread.name.startswith(_OWN_THREADS)


ScanLock: TypeAlias = "threading.RLock"

_is_owned: Callable[[ScanLock], bool] = methodcaller("_is_owned")


def is_held(lock: ScanLock) -> bool:
    """Return whether this thread holds a lock; then a finaliser, or a handler, asks."""
    return _is_owned(lock)


class Backstop:
    """Releases a lock that an interrupted ``with`` block left taken.

    A program's thread writes ``with Backstop(lock), lock:``. Whatever step of the inner
    block is interrupted, one of the two releases the lock, unless the thread held it
    before.

    Parameters
    ----------
    lock : ScanLock
        The lock.
    """

    __slots__ = ("_lock", "_was_held")

    def __init__(self, lock: ScanLock) -> None:
        self._lock = lock
        self._was_held = is_held(lock)

    def __enter__(self) -> None:
        """Do nothing: the inner block takes the lock."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock if it is still taken."""
        if not self._was_held and is_held(self._lock):
            self._lock.release()


class Wakeup:
    """Where one thread sleeps until another wakes it; woken before, it does not sleep.

    Each call is one step of a lock, so an exception of a signal handler leaves nothing
    half done. Never ``queue.SimpleQueue``: in CPython (seen in 3.11 to 3.13), its
    ``get`` with a timeout waits for ever if the time is over between two of its steps,
    as on a busy machine.

    Attributes
    ----------
    is_wanted, release : callable
        What `wake` does, without a Python call of its own: for each frame, that counts.
        The first says whether nobody has woken it since it slept. If another thread
        does so in between, the second raises RuntimeError: rarely, because an interrupt
        while that is handled may leave it behind as the context of later exceptions.
    """

    __slots__ = ("_lock", "is_wanted", "release")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.is_wanted: Final = self._lock.locked
        self.release: Final = self._lock.release

    def wake(self) -> None:
        """Wake the thread, from any thread, signal handler or finaliser."""
        if self.is_wanted():
            with suppress(RuntimeError):  # Another thread was faster.
                self.release()

    def sleep(self, timeout_s: float) -> bool:
        """Sleep until woken, at most `timeout_s`; return whether it was woken."""
        return self._lock.acquire(timeout=max(0.0, timeout_s))

    def forget(self) -> None:
        """Forget that somebody woke the thread while it was awake."""
        self._lock.acquire(blocking=False)


class Waiters:
    """Threads of the program that wait for something; no lock is needed.

    Used as ``wakeup = waiters.enter()``, then look, then ``wakeup.sleep(…)``, and
    again, so that no notification is missed.
    """

    def __init__(self) -> None:
        self._wakeups: dict[int, Wakeup] = {}

    def __bool__(self) -> bool:
        """Whether a thread waits."""
        return bool(self._wakeups)

    def enter(self) -> Wakeup:
        """Note that this thread waits; return where it is notified."""
        wakeup = self._wakeups[threading.get_ident()] = Wakeup()
        return wakeup

    def leave(self) -> None:
        """Note that this thread waits no more."""
        self._wakeups.pop(threading.get_ident(), None)

    def notify(self) -> None:
        """Wake all of them."""
        if self._wakeups:
            for wakeup in tuple(self._wakeups.values()):
                wakeup.wake()


def wait_for_end(thread: threading.Thread, timeout_s: float) -> None:
    """Wait for the end of a thread, at most `timeout_s`, so that Ctrl-C ends the wait.

    In pieces: a signal that comes in the last steps before a wait is handled after it.
    And without ``join``: interrupted, it marks a thread that runs as ended (CPython's
    answer to bpo-45274).
    """
    deadline, piece_s = time.monotonic() + timeout_s, 0.001
    while thread.is_alive() and (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(piece_s, left_s))
        piece_s = min(2 * piece_s, _LONGEST_PIECE_S)


def refuse_own_wait(lock: ScanLock | None = None) -> None:
    """Refuse to wait in a thread that what is waited for needs.

    Raises
    ------
    ScanStateError
        If a finaliser or a signal handler calls, inside a call of scanbus.
    """
    if is_own_thread(threading.current_thread()):
        raise ScanStateError(_INSIDE)
    if lock is not None:
        refuse_reentry(lock)


def refuse_reentry(lock: ScanLock) -> None:
    """Refuse a call inside the call of the same thread that holds `lock`.

    Raises
    ------
    ScanStateError
        If a finaliser or a signal handler calls, inside a call of scanbus.
    """
    if is_held(lock):
        raise ScanStateError(_INSIDE)
