"""Thread pool that shares the work on one array, to reduce the latency of a frame.

At high frame rates every thread is busy with a frame of its own; sharing helps when
a single frame has to be ready soon.
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

# Input and output of a part fit into the cache of a core, and a part takes 0.5 ms or
# more: ten times as long as waking a thread.
_PART_BYTES = 1 << 20

_T = TypeVar("_T")


class ThreadPool:
    """Threads that share the work of a caller while they are idle.

    Safe to share between threads, and to call from threads of the pool itself: a call
    never waits for a helper that has not started.

    Parameters
    ----------
    size : int
        Number of threads for one call, including the calling thread.
    name : str
        Prefix of the threads' names.
    part_bytes : int
        Unpacked bytes that one thread processes at a time.

    Attributes
    ----------
    pool : ThreadPoolExecutor
        The `size` threads; they are started when there is work.
    """

    def __init__(self, size: int, name: str, part_bytes: int = _PART_BYTES) -> None:
        self._size = size
        self.part_bytes = part_bytes
        self._members: list[threading.Thread] = []
        self._affinity_lock = threading.Lock()
        self.pool = ThreadPoolExecutor(
            size,
            name,
            initializer=lambda: self._members.append(threading.current_thread()),
        )

    def submit(self, run: Callable[[], None]) -> Future[None] | None:
        """Have a thread call `run`; return None if there is none and never will be.

        ThreadPoolExecutor queues the call before it starts a thread: if the system
        allows no more threads, it raises, and another thread makes the call later.
        """
        if len(self._members) == self._size:
            # A future less for each call: the garbage collector looks at all of them.
            with suppress(RuntimeError):
                return self.pool.submit(run)
            return None
        future: Future[None] = Future()
        try:
            self.pool.submit(_run_once, run, future)
        except (RuntimeError, MemoryError):
            # No more threads, or the interpreter shuts down.
            return None if future.cancel() else future
        return future

    def map(self, work: Callable[[int], _T], count: int) -> list[_T]:
        """Return ``[work(0), work(1), …]``, computed by several threads if possible.

        Raises
        ------
        Exception
            What `work` raised; no thread runs `work` any more then.
        """
        numbers = iter(range(count))
        done: dict[int, _T] = {}
        n_helpers = min(self._size, count) - 1
        with self._on_other_processors() if n_helpers > 0 else nullcontext():
            helpers = self._start(lambda: _run_rest(numbers, work, done), n_helpers)
            try:
                _run_rest(numbers, work, done)
            finally:
                # Helpers that have not started would find no work: cancel them.
                started = [helper for helper in helpers if not helper.cancel()]
                errors = [helper.exception() for helper in started]
        for error in errors:
            if error is not None:
                raise error
        return [done[number] for number in range(count)]

    def _start(self, run: Callable[[], None], n_helpers: int) -> list[Future[None]]:
        helpers = (self.submit(run) for _ in range(n_helpers))
        return [helper for helper in helpers if helper is not None]

    @contextmanager
    def _on_other_processors(self) -> Iterator[None]:
        """Exclude the caller's processor from the CPU affinity of the helpers.

        Linux in a virtual machine takes an idle processor for one that the host has
        preempted, and wakes threads on the processor of the thread that wakes them,
        where they wait until it is free: sharing a frame gained nothing there
        (docs/performance.md). On other machines the scheduler would have chosen an idle
        processor anyway. One caller at a time, so that the affinities that it restores
        are the original ones.
        """
        current = _current_processor()
        if current is None or not self._affinity_lock.acquire(blocking=False):
            yield
            return
        try:
            own = threading.current_thread()
            helpers = [each for each in self._members if each is not own]
            original = {thread: _affinity(thread) for thread in helpers}
            for thread, processors in original.items():
                _set_affinity(thread, processors - {current})
            try:
                yield
            finally:
                for thread, processors in original.items():
                    _set_affinity(thread, processors)
        finally:
            self._affinity_lock.release()


def _run_once(run: Callable[[], None], future: Future[None]) -> None:
    """Call `run` unless the future was cancelled, and put its end into the future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        run()
    except BaseException as error:  # noqa: BLE001 - as ThreadPoolExecutor does
        future.set_exception(error)
    else:
        future.set_result(None)


def _run_rest(
    numbers: Iterator[int], work: Callable[[int], _T], done: dict[int, _T]
) -> None:
    for number in numbers:
        done[number] = work(number)


def _affinity(thread: threading.Thread) -> set[int]:
    """Return the processors that a thread may use; empty if they are not known."""
    # After a fork the thread exists in the parent only, and its id is not ours.
    if thread.is_alive() and thread.native_id is not None:
        with suppress(OSError):
            return set(os.sched_getaffinity(thread.native_id))
    return set()


def _set_affinity(thread: threading.Thread, processors: set[int]) -> None:
    if processors and thread.is_alive() and thread.native_id is not None:
        # The operating system may withdraw processors at any time.
        with suppress(OSError):
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
    """Return the processor that runs this thread; None if it is not known."""
    number = -1 if _SCHED_GETCPU is None else _SCHED_GETCPU()
    return number if number >= 0 else None
