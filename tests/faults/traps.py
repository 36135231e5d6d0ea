"""Exceptions that nobody expects, where the threads of a process reach Redis.

A process of the fault tests sets a trap when it is told to: ``raise MemoryError 3``
on its standard input. The next three commands that threads of scanbus send to Redis
then raise it. It is raised once for each, wherever the thread is.
"""

import errno
import os
import threading
from collections.abc import Callable
from typing import Any, Final

import redis

__all__ = ["TRAPS", "has_trap", "set_trap"]

_MAKERS: Final[dict[str, Callable[[], BaseException]]] = {
    "MemoryError": MemoryError,
    "RuntimeError": lambda: RuntimeError("can't start new thread"),
    "EMFILE": lambda: OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    "ValueError": lambda: ValueError("a value that nobody foresaw"),
    "KeyError": lambda: KeyError("a key that nobody foresaw"),
    "RecursionError": RecursionError,
    "UnicodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"),
    "AssertionError": AssertionError,
}
TRAPS: Final = tuple(_MAKERS)
_lock = threading.Lock()
_waiting: list[str] = []
_was_set = threading.Event()


def has_trap() -> bool:
    """Whether a trap was ever set in this process."""
    return _was_set.is_set()


def set_trap(name: str, times: int, *, threads: str = "") -> None:
    """Have the next commands of threads whose name begins so raise this exception."""
    kind = redis.connection.AbstractConnection
    if not _was_set.is_set():
        kind.send_packed_command = _trapped(kind.send_packed_command, threads)  # type: ignore[method-assign]
    _was_set.set()
    with _lock:
        _waiting.extend([name] * times)


def _trapped(send: Callable[..., Any], threads: str) -> Callable[..., Any]:
    def send_packed_command(*given: Any, **options: Any) -> Any:
        is_ours = threading.current_thread().name.startswith(threads)
        with _lock:
            name = _waiting.pop() if _waiting and is_ours else ""
        if name:
            error = _MAKERS[name]()
            raise error
        return send(*given, **options)

    return send_packed_command
