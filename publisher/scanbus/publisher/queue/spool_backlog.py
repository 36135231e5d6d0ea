"""Entries and events of a scan that must be spooled before they are sent."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_state import ScanState
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import Event

__all__ = ["SpoolBacklog"]


class SpoolBacklog:
    """Entries and events not in the spool yet; each method takes the scan's lock.

    One thread, the spool writer, uses it.

    Parameters
    ----------
    state : ScanState
        The scan.
    waker : Waker
        On which that thread sleeps.
    """

    def __init__(self, state: ScanState, waker: Waker) -> None:
        self._state = state
        self._waker = waker

    def encode(self, lane: LaneQueue, *, is_due: bool) -> None:
        """Make entries of buffered values if due, or if the sender has none left."""
        if not isinstance(lane, ValueLaneQueue):
            return
        with self._state.lock:
            if lane.next_unsent and not is_due:
                return
        lane.encode_gathered()

    def seal(self, lane: LaneQueue) -> None:
        """Add the seal of a lane if only that is missing."""
        with self._state.lock:
            lane.seal()

    def next_entry(self, lane: LaneQueue) -> EncodedEntry | None:
        """Return the entry of a lane to be written now."""
        with self._state.lock:
            return None if self._state.is_released else lane.next_unspooled

    def note_entry(self, lane: LaneQueue) -> None:
        """Mark the next entry of a lane as spooled, so that it is sent."""
        state = self._state
        with state.lock:
            if not state.is_released:
                lane.note_spooled(state.max_kept_bytes // (2 * len(state.lanes)))
                state.notify()

    def next_event(self) -> Event | None:
        """Return the event to be written now."""
        with self._state.lock:
            return self._state.events.next_unspooled

    def note_event(self) -> None:
        """Mark the next event as spooled, so that it is sent."""
        with self._state.lock:
            self._state.events.note_spooled()
            self._state.main_waker.wake()
            self._state.progress.notify()

    def first_kept(self, lane: LaneQueue) -> int:
        """Return the first point of a lane that must stay in the spool."""
        with self._state.lock:
            return lane.first_kept

    def await_work(self, timeout_s: Callable[[], float]) -> bool:
        """Sleep until there may be something to write.

        Parameters
        ----------
        timeout_s : callable
            Returns the longest sleep, in seconds.

        Returns
        -------
        bool
            False, at once, while values are buffered: each one would end the sleep.
        """
        with self._state.lock:
            if self._state.is_released or self._has_work():
                return True
            if self._is_gathering():
                return False
            self._waker.sleep_unless(self._has_any_work, timeout_s())
            return True

    def _has_work(self) -> bool:
        lanes = self._state.lanes.values()
        has_event = self._state.events.next_unspooled is not None
        return has_event or any(lane.has_spool_work for lane in lanes)

    def _has_any_work(self) -> bool:
        return self._has_work() or self._is_gathering()

    def _is_done(self) -> bool:
        """Whether the spool has all of the scan, to its end."""
        state = self._state
        is_sealed = all(lane.is_sealed for lane in state.lanes.values())
        return state.is_closed and is_sealed and not self._has_work()

    def _is_gathering(self) -> bool:
        return any(
            isinstance(lane, ValueLaneQueue) and lane.has_complete
            for lane in self._state.lanes.values()
        )

    def note_trouble(self, reason: str) -> bool:
        """Record why the disk takes nothing now; return whether it did before."""
        with self._state.lock:
            return self._state.note_spool_trouble(reason)

    def clear_trouble(self) -> None:
        """Record that the disk accepts data again."""
        with self._state.lock:
            self._state.note_spool_trouble("")

    def finish(self, timeout_s: float) -> None:
        """Wait until the spool has all of the scan, at most `timeout_s`."""
        state, deadline = self._state, monotonic() + timeout_s
        wakeup = state.progress.enter()
        while (left_s := deadline - monotonic()) > 0:
            with state.lock:
                if self._is_done():
                    break
            wakeup.sleep(min(left_s, 0.5))
        state.progress.leave()
