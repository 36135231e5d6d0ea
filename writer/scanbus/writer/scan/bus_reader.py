"""Read a scan's lanes and events; wait longer and longer while nothing comes.

Many scans are open for hours without a point. Whatever arrives ends a wait at once, so
its length only limits how soon an order to stop is seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from scanbus.bus.protocol import Arrival, Kind, LaneReader, ScanRecord
from scanbus.bus.store import (
    Bus,
    read_events,
    read_lanes,
    wait_for_any,
    wait_for_events,
)
from scanbus.writer.scan.pace import Pace
from scanbus.writer.steps import waiting

__all__ = ["BusReader"]

# An idle scan waits for so many times `poll_s` at most, and polls its events, whose
# arrival ends a wait, so many times less often than a busy one.
_LONGEST_WAIT = 12
_IDLE_POLLS = 100
# After so many waits without news, the first of which are short, it is idle.
_AWAKE_WAITS = 4
_SHORTEST_S = 0.02


class BusReader:
    """What comes from the bus for one scan; one scan writer owns it.

    Parameters
    ----------
    client : Bus
        A connection used by this attempt only.
    record : ScanRecord
        The scan; new events are folded into it.
    pace : Pace
        Intervals and sizes.
    """

    def __init__(self, client: Bus, record: ScanRecord, pace: Pace) -> None:
        self._client = client
        self._record = record
        self._pace = pace
        self._next_poll = 0.0
        # How often in a row nothing came.
        self._n_empty = 0
        self.wake_at: float | None = None
        """Monotonic time at which a wait ends at the latest, whatever comes."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing came for so long that its waits are long."""
        return self._n_empty > _AWAKE_WAITS

    def read(
        self, readers: Sequence[LaneReader]
    ) -> list[tuple[LaneReader, list[Arrival]]]:
        """Return new arrivals of some lanes; wait if there are none."""
        found = []
        if not self._n_empty:
            read_bytes = self._pace.read_bytes
            with waiting():
                found = read_lanes(
                    self._client, readers, max_bytes=read_bytes, block_ms=0
                )
        if not found:
            wait_ms = self._wait_ms(2.0)
            with waiting():
                found, has_events = wait_for_any(
                    self._client, readers, self._record, wait_ms
                )
            self._note(is_news=bool(found) or has_events, has_events=has_events)
        if any(arrival.kind is Kind.SEAL for _, part in found for arrival in part):
            self._next_poll = 0.0  # The end of the scan follows the last seal.
        return found

    def wait_for_events(self) -> None:
        """Wait for events only."""
        with waiting():
            found = wait_for_events(self._client, [self._record], self._wait_ms(0.25))
        self._note(is_news=bool(found), has_events=bool(found))

    def poll_events(self) -> bool:
        """Read and fold new events, if that is due; return whether there were any."""
        now = time.monotonic()
        if now < self._next_poll:
            return False
        times = _IDLE_POLLS if self._n_empty else 1
        self._next_poll = now + times * self._pace.poll_s
        with waiting():
            return read_events(self._client, self._record)

    def _wait_ms(self, first: float) -> int:
        """Return the length of the next wait; the first lasts `first` times poll_s."""
        times = min(first * 2.0 ** min(self._n_empty, 8), _LONGEST_WAIT)
        wait_s = self._pace.poll_s * times
        if self.wake_at is not None:
            wait_s = min(wait_s, max(_SHORTEST_S, self.wake_at - time.monotonic()))
        return max(1, int(wait_s * 1000))

    def _note(self, *, is_news: bool, has_events: bool) -> None:
        self._n_empty = 0 if is_news else self._n_empty + 1
        if has_events:
            self._next_poll = 0.0
