"""Several threads at work on one array: a frame is ready as soon as it can be.

Frames that come faster than one thread packs them keep all threads busy one each; what
is done here is for the frame that somebody waits for.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import TypeVar

__all__ = ["ThreadPool"]

# Fits the cache of a core together with what becomes of it, and takes 0.5 ms or more:
# waking a thread takes a tenth of that.
_PART_BYTES = 1 << 20

_T = TypeVar("_T")


class ThreadPool:
    """Threads that help whoever calls, where they have nothing else to do.

    Safe to share between threads, and to call from the helping threads themselves:
    nobody waits for help that has not begun.

    Parameters
    ----------
    size : int
        Threads for one call, the calling one included.
    name : str
        Of the threads.
    part_bytes : int
        Unpacked bytes that one thread takes at a time.

    Attributes
    ----------
    pool : ThreadPoolExecutor
        The threads, `size` of them; they are started when there is work.
    """

    def __init__(self, size: int, name: str, part_bytes: int = _PART_BYTES) -> None:
        self._size = size
        self.part_bytes = part_bytes
        self._members: list[threading.Thread] = []
        self._sending = threading.Lock()
        self.pool = ThreadPoolExecutor(
            size,
            name,
            initializer=lambda: self._members.append(threading.current_thread()),
        )

    def map(self, work: Callable[[int], _T], count: int) -> list[_T]:
        """Return ``[work(0), work(1), …]``, by several threads where there are any.

        Raises
        ------
        Exception
            What `work` raised; nobody is at work any more then.
        """
        numbers = iter(range(count))
        done: dict[int, _T] = {}
        n_helpers = min(self._size, count) - 1
        with self._elsewhere() if n_helpers > 0 else nullcontext():
            helpers = self._called(lambda: _drain(numbers, work, done), n_helpers)
            try:
                _drain(numbers, work, done)
            finally:
                # One that has not begun finds nothing to do: it is not waited for.
                begun = [helper for helper in helpers if not helper.cancel()]
                errors = [helper.exception() for helper in begun]
        for error in errors:
            if error is not None:
                raise error
        return [done[number] for number in range(count)]

    def _called(self, drain: Callable[[], None], n_helpers: int) -> list[Future[None]]:
        helpers: list[Future[None]] = []
        # The interpreter may be leaving, and take no more work.
        with suppress(RuntimeError):
            helpers.extend(self.pool.submit(drain) for _ in range(n_helpers))
        return helpers

    @contextmanager
    def _elsewhere(self) -> Iterator[None]:
        """Have helpers wake up on other processors than the one that this one is on.

        The Linux of a virtual machine takes a processor that sleeps for one that the
        host has taken away, and wakes threads on the processor of whoever wakes them,
        where they wait until it is free: sharing a frame gained nothing there
        (docs/performance.md). On other machines the scheduler would have chosen an idle
        one anyway. One caller at a time: what it finds is what it restores.
        """
        here = _current_processor()
        if here is None or not self._sending.acquire(blocking=False):
            yield
            return
        try:
            own = threading.current_thread()
            sent = [each for each in self._members if each is not own]
            found = {thread: _allowed(thread) for thread in sent}
            for thread, processors in found.items():
                _allow(thread, processors - {here})
            try:
                yield
            finally:
                for thread, processors in found.items():
                    _allow(thread, processors)
        finally:
            self._sending.release()


def _drain(
    numbers: Iterator[int], work: Callable[[int], _T], done: dict[int, _T]
) -> None:
    for number in numbers:
        done[number] = work(number)


def _allowed(thread: threading.Thread) -> set[int]:
    """Return the processors of a thread; none if it cannot be asked."""
    # After a fork it lives in another process, and its number is not ours.
    if thread.is_alive() and thread.native_id is not None:
        with suppress(OSError):
            return set(os.sched_getaffinity(thread.native_id))
    return set()


def _allow(thread: threading.Thread, processors: set[int]) -> None:
    if processors and thread.is_alive() and thread.native_id is not None:
        with suppress(OSError):  # Processors may be taken from us at any time.
            os.sched_setaffinity(thread.native_id, processors)


def _find_sched_getcpu() -> Callable[[], int] | None:
    if not hasattr(os, "sched_setaffinity"):
        return None
    function: Callable[[], int] | None = getattr(
        ctypes.CDLL(None), "sched_getcpu", None
    )
    return function


_SCHED_GETCPU = _find_sched_getcpu()


def _current_processor() -> int | None:
    """Return the processor that this thread is on; None where it cannot be known."""
    number = -1 if _SCHED_GETCPU is None else _SCHED_GETCPU()
    return number if number >= 0 else None
