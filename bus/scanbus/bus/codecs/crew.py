"""Several threads at work on one array: a frame is ready as soon as it can be.

Frames that come faster than one thread packs them keep all threads busy one each; what
is done here is for the frame that somebody waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Crew"]

# Fits the cache of a core together with what becomes of it, and takes 0.5 ms or more:
# waking a thread takes a tenth of that.
_PART_BYTES = 1 << 20

_T = TypeVar("_T")


@dataclass(frozen=True)
class Crew:
    """Whoever calls, and threads that help where they have nothing else to do.

    Safe to share between threads, and to call from the helping threads themselves:
    nobody waits for help that has not begun.

    Parameters
    ----------
    pool : Executor
        Has the threads that help.
    size : int
        Threads for one call, the calling one included.
    part_bytes : int
        Unpacked bytes that one thread takes at a time.
    """

    pool: Executor
    size: int
    part_bytes: int = _PART_BYTES

    def map(self, work: Callable[[int], _T], count: int) -> list[_T]:
        """Return ``[work(0), work(1), …]``, by several threads where there are any.

        Raises
        ------
        Exception
            What `work` raised; nobody is at work any more then.
        """
        numbers = iter(range(count))
        done: dict[int, _T] = {}
        helpers = self._called(lambda: _drain(numbers, work, done), count)
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

    def _called(self, drain: Callable[[], None], count: int) -> list[Future[None]]:
        helpers: list[Future[None]] = []
        n_helpers = min(self.size, count) - 1
        # The interpreter may be leaving, and take no more work.
        with suppress(RuntimeError):
            helpers.extend(self.pool.submit(drain) for _ in range(n_helpers))
        return helpers


def _drain(
    numbers: Iterator[int], work: Callable[[int], _T], done: dict[int, _T]
) -> None:
    for number in numbers:
        done[number] = work(number)
