"""How often a scan's cursors and keys are looked at: often only while something moves.

Scans may be open for hours without a point, twenty at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scanbus.bus.store import ExpectedKeys
from scanbus.publisher.queue.scan_queue import ScanQueue

__all__ = ["CursorRhythm", "KeyRhythm", "LaneRhythm"]

_LONGEST_S: Final = 4.0
# Least interval for each lane: reading a cursor takes some 15 us, of which both the
# publisher and Redis have a part.
_LANE_S: Final = 2.5e-4
# Whoever waits for a scan that was sent completely mostly waits for its verdict, which
# needs no cursors.
_SENT_LANE_S: Final = 4 * _LANE_S
_WHOLE_LOOK_EVERY: Final = 4
_WRITERS_EVERY: Final = 4


@dataclass(slots=True)
class _Look:
    """When the cursors of one scan are read next, and what was not durable then.

    They are not looked at before `least`, whatever happens.
    """

    at: float
    least: float
    wait_s: float
    undelivered: tuple[int, int, int]


class CursorRhythm:
    """Decides which scans have their cursors read now.

    At each tick while points are not sent, or a thread waits for them; less and less
    often while nothing changes; never while all points are durable. With many lanes
    only as often as reading them takes a small part of the time.

    Parameters
    ----------
    tick_s : float
        The shortest interval, in seconds.
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._looks: dict[str, _Look] = {}

    def due(self, scans: Sequence[ScanQueue], now: float) -> list[ScanQueue]:
        """Return the scans whose cursors are to be read at this tick."""
        before, self._looks = self._looks, {}
        return [
            queue for queue in scans if self._is_due(queue, before.get(queue.uid), now)
        ]

    def _is_due(self, queue: ScanQueue, look: _Look | None, now: float) -> bool:
        if look is not None and now < look.least:
            self._looks[queue.uid] = look
            return False
        undelivered = queue.watch.undelivered_points()
        if not any(undelivered):
            return False
        is_urgent = queue.watch.is_awaited or any(undelivered[1:])
        if look is None or is_urgent or look.undelivered != undelivered:
            look = _Look(now, now, self._tick_s, undelivered)
        self._looks[queue.uid] = look
        if now < look.at:
            return False
        look.at = now + look.wait_s
        lane_s = _SENT_LANE_S if queue.watch.is_fully_sent else _LANE_S
        look.least = now + lane_s * len(queue.lanes)
        look.wait_s = min(2 * look.wait_s, _LONGEST_S)
        return True


class LaneRhythm:
    """Decides which scans are looked at lane by lane now: those with few always."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def due(self, scans: Sequence[ScanQueue], now: float) -> list[ScanQueue]:
        """Return the scans to be looked at at this tick."""
        before = self._next
        found = [queue for queue in scans if now >= before.get(queue.uid, now)]
        looked = {queue.uid: now + _LANE_S * len(queue.lanes) for queue in found}
        self._next = {
            queue.uid: looked.get(queue.uid, before.get(queue.uid, now))
            for queue in scans
        }
        return found


class KeyRhythm:
    """Decides what is looked at with a heartbeat, beside what is with each."""

    def __init__(self) -> None:
        self._n_looks = 0

    def next_whole(self, scans: Sequence[ExpectedKeys]) -> list[ExpectedKeys]:
        """Return the scans whose keys' content is looked at now: one at most."""
        self._n_looks += 1
        number, rest = divmod(self._n_looks, _WHOLE_LOOK_EVERY)
        return [scans[number % len(scans)]] if scans and not rest else []

    def wants_writers(self, scans: Sequence[ScanQueue]) -> bool:
        """Return whether to look for writers: always while a thread waits for them."""
        is_awaited = any(queue.watch.is_awaited for queue in scans)
        return is_awaited or not self._n_looks % _WRITERS_EVERY
