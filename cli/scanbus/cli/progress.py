"""Progress of long work: bars on a terminal, now and then a line elsewhere.

Whoever works is given a plain callable, ``progress(name, done, total)``, and knows
nothing of terminals; `total` is None where it is not known.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from scanbus.cli.output import stderr

__all__ = ["LineProgress", "Report", "shown_progress"]

Report = Callable[[str, int, int | None], None]
"""``progress(name, done, total)``: how far the work of that name is."""

# Seldom enough for a log file, often enough to see that it moves.
LINE_PERIOD_S = 5.0


class LineProgress:
    """Progress as lines, at most one per period and name, and one at the end.

    Safe to share between threads.

    Parameters
    ----------
    write : callable
        Takes one line without its end.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._said_at: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Take note of how far the work of that name is."""
        with self._lock:
            now = self._clock()
            is_over = total is not None and done >= total
            if (
                not is_over
                and now - self._said_at.setdefault(name, now) < LINE_PERIOD_S
            ):
                return
            if self._said_at.get(name) == float("inf"):
                return  # The end was said already.
            self._said_at[name] = float("inf") if is_over else now
            of_total = "" if total is None else f" of {total}"
            self._write(f"{name}: {done}{of_total}")


class _BarProgress:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)


@contextmanager
def shown_progress(*, quiet: bool = False) -> Iterator[Report]:
    """Show progress on stderr while the block runs; yields the callable to report to.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    """
    if quiet:
        yield lambda *_: None
    elif not sys.stderr.isatty():
        yield LineProgress(lambda line: print(line, file=sys.stderr, flush=True))
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=stderr()) as bars:
            yield _BarProgress(bars)
