"""Show progress of long tasks: bars on a terminal, a line every few seconds elsewhere.

A task gets a plain callable, ``progress(name, done, total)``, and does not depend on
terminals; `total` is None if it is not known.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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
"""``progress(name, done, total)``: `done` of `total` items of the task `name`."""

# Rare enough for a log file, frequent enough to show that it advances.
LINE_PERIOD_S = 5.0


class LineProgress:
    """Progress as lines, at most one per period and name, and one at the end.

    Safe to share between threads.

    Parameters
    ----------
    write : callable
        Writes one line, given without a line break.
    clock : callable
        Returns the time of a monotonic clock, in seconds.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._written_at: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Write a line if one is due for the task `name`."""
        with self._lock:
            now = self._clock()
            is_over = total is not None and done >= total
            if (
                not is_over
                and now - self._written_at.setdefault(name, now) < LINE_PERIOD_S
            ):
                return
            if self._written_at.get(name) == float("inf"):
                return  # The last line was written already.
            self._written_at[name] = float("inf") if is_over else now
            of_total = "" if total is None else f" of {total}"
            self._write(f"{name}: {done}{of_total}")


def _write_line(line: str) -> None:
    # The work goes on where nobody can see it: on a full disk, say.
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class _BarProgress:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total)
        with suppress(OSError):
            self._bars.update(self._tasks[name], completed=done, total=total)


@contextmanager
def shown_progress(*, quiet: bool = False) -> Iterator[Report]:
    """Show progress on stderr while the block runs; yield the callable that reports it.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    """
    if quiet:
        yield lambda *_: None
    elif not sys.stderr.isatty():
        yield LineProgress(_write_line)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=stderr()) as bars:
            yield _BarProgress(bars)
