"""The lock of a scan, and waits of the program's threads that an interrupt cannot tear.

An exception of a signal handler may arise between any two steps of a program's thread:
also between taking a lock and the block that releases it, and inside the wait of a
condition, which then gives up a lock that another thread has.
"""

from __future__ import annotations

# As modules: a program may patch them by gevent after it imported this.
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from operator import methodcaller
from types import TracebackType
from typing import TypeAlias

from scanbus.schemas.errors import ScanStateError

__all__ = [
    "Backstop",
    "ScanLock",
    "Waiters",
    "is_own_thread",
    "refuse_own_wait",
    "refuse_reentry",
]

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


class Waiters:
    """Threads of the program that wait for something; no lock is needed.

    Used as ``tokens = waiters.enter()``, then look, then ``waiters.wait(tokens, …)``,
    and again, so that no notification is missed.
    """

    def __init__(self) -> None:
        self._tokens: dict[int, queue.SimpleQueue[None]] = {}

    def __bool__(self) -> bool:
        """Whether a thread waits."""
        return bool(self._tokens)

    def enter(self) -> queue.SimpleQueue[None]:
        """Note that this thread waits; return where it is notified."""
        tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._tokens[threading.get_ident()] = tokens
        return tokens

    def leave(self) -> None:
        """Note that this thread waits no more."""
        self._tokens.pop(threading.get_ident(), None)

    @staticmethod
    def wait(tokens: queue.SimpleQueue[None], timeout_s: float) -> None:
        """Sleep until notified, at most `timeout_s`."""
        with suppress(queue.Empty):
            tokens.get(timeout=max(0.0, timeout_s))

    def notify(self) -> None:
        """Wake all of them."""
        if self._tokens:
            for tokens in tuple(self._tokens.values()):
                tokens.put(None)


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
