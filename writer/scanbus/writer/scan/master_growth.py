"""When the master of a running scan is written again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["MasterGrowth"]

# A master is written at most for so small a share of the time: one in so many.
_SHARE: Final = 20
# While Redis waits for room, as points are trimmed only when a master shows them.
_SHARE_IN_NEED: Final = 4
# The first one, of a scan that nobody sees yet.
_FIRST_S: Final = 2.0


class MasterGrowth:
    """Decides when the master of a running scan is written again.

    So often that it is never older than `every_s`, or 20 times what the last one cost,
    whichever is more; only if there is something new.

    Parameters
    ----------
    every_s : float
        Age up to which a master is good enough.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._begun = time.monotonic() + min(every_s, _FIRST_S) - every_s
        self._cost_s = 0.0
        self.has_news = False
        """Whether there is something that no master shows."""
        self.is_needed = False
        """Whether Redis waits for room."""

    @property
    def due_at(self) -> float | None:
        """Monotonic time at which the next one is due; None without news."""
        if not self.has_news:
            return None
        if self.is_needed:
            return self._begun + _SHARE_IN_NEED * self._cost_s
        return self._begun + max(
            # Its points are those of its beginning.
            self._every_s - 2 * self._cost_s,
            _SHARE * self._cost_s,
        )

    @property
    def is_due(self) -> bool:
        """Whether the next one is due."""
        due_at = self.due_at
        return due_at is not None and time.monotonic() >= due_at

    def begin(self) -> None:
        """Note that what is known now will be in the next one."""
        self._begun = time.monotonic()
        self.has_news = self.is_needed = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Measure what it costs to write one."""
        started = time.monotonic()
        yield
        self._cost_s = time.monotonic() - started
