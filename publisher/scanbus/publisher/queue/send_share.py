"""The share of a scan that one sender sends: entries of its lanes, and events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_state import ScanState
from scanbus.publisher.queue.value_lane import ValueLaneQueue
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import Event, LostData, ScanEnded

__all__ = ["SendShare"]

# Of one command; a program may add them faster than one command each takes.
_MOST_EVENTS = 256


class SendShare:
    """The share of a scan that one sender sends; each method takes the scan's lock.

    Parameters
    ----------
    state : ScanState
        The scan.
    waker : Waker
        The sender's waker; its lanes are those that have this waker.
    """

    def __init__(self, state: ScanState, waker: Waker) -> None:
        self._state = state
        self._waker = waker
        self.is_main = waker is state.main_waker
        self._is_spooled = state.spool_waker is not None
        self._looked_at: Mapping[str, LaneQueue] | None = None
        self._lanes: tuple[LaneQueue, ...] = ()

    @property
    def lanes(self) -> tuple[LaneQueue, ...]:
        """Lanes that only this sender sends; lanes of late points may be added."""
        known = self._state.lanes
        if known is not self._looked_at:  # Replaced when a lane is added.
            waker = self._waker
            self._lanes = tuple(
                each for each in known.values() if each.is_sent_by(waker)
            )
            self._looked_at = known
        return self._lanes

    def await_work(self, timeout_s: Callable[[], float]) -> bool | None:
        """Return whether there is work; sleep once if there is none.

        Parameters
        ----------
        timeout_s : callable
            Returns the longest sleep, in seconds.

        Returns
        -------
        bool or None
            Whether there was work before the sleep; None if there never will be any.
        """
        with self._state.lock:
            if self._state.is_released:
                return None
            return self._waker.sleep_unless(self._has_work, timeout_s())

    def _has_work(self) -> bool:
        if self._waker.must_compare or (self.is_main and self._next_events(1)):
            return True
        if self._is_spooled:
            return any(self._may_send(lane) for lane in self.lanes)
        return any(lane.has_work for lane in self.lanes)

    # ---------------------------------------------------------------- comparing

    def take_compare_request(self) -> bool:
        """Return whether a comparison with Redis was requested, and reset the flag."""
        if not self._waker.must_compare:
            return False
        with self._state.lock:
            return self._waker.take_compare_request()

    def request_compare(self) -> None:
        """Have the sender's next round begin with a comparison with Redis."""
        with self._state.lock:
            self._waker.request_compare()

    # ------------------------------------------------------------------ sending

    def encode(self, lane: LaneQueue) -> None:
        """Make entries of the values buffered while the last ones were being sent.

        With a spool, the spool writer makes them.
        """
        if self._is_spooled or not isinstance(lane, ValueLaneQueue):
            return
        with self._state.lock:
            if lane.next_unsent:
                return
        lane.encode_gathered()

    def to_send(self, lane: LaneQueue, max_bytes: int) -> list[EncodedEntry]:
        """Return the next entries of a lane that fit on the bus."""
        with self._state.lock:
            if self._state.is_released:
                return []
            if not self._is_spooled:
                lane.seal()
            if not self._may_send(lane):
                return []
            return lane.to_send(min(max_bytes, self._bus_room(lane)))

    def _may_send(self, lane: LaneQueue) -> bool:
        """Return whether the next entry fits on the bus, within the quota."""
        entry = lane.next_unsent
        if entry is None:
            return False
        room = self._bus_room(lane)
        return entry.is_seal or room >= min(entry.nbytes, self._state.quota_bytes)

    def _bus_room(self, lane: LaneQueue) -> int:
        """Return how many more bytes may be on the bus without being durable.

        Without a spool, all kept bytes may. Late points always may: the writer reads
        them after everything else has been sent.
        """
        if not self._is_spooled or lane.description.is_late:
            return sys.maxsize
        there = sum(
            each.sent_bytes
            for each in self._state.lanes.values()
            if not each.description.is_late
        )
        return self._state.quota_bytes - there

    def lose(self, lane: LaneQueue, entry: EncodedEntry, lost: LostData) -> None:
        """Send a gap in the place of an entry that cannot be read back."""
        with self._state.lock:
            lane.lose(entry)
            self._state.events.note_lost(lost)

    def note_sent(self, lane: LaneQueue, n_entries: int) -> None:
        """Mark the next entries of a lane as sent."""
        with self._state.lock:
            if self._state.is_released:
                return  # The retransmit buffer was emptied during the call to Redis.
            is_ending = lane.note_sent(n_entries)
            self._state.notify()
            if is_ending:
                self._state.main_waker.wake()

    def next_events(self) -> list[Event]:
        """Return the events that may be sent now; the end only after all seals."""
        with self._state.lock:
            return self._next_events(_MOST_EVENTS)

    def _next_events(self, most: int) -> list[Event]:
        events = self._state.events.unsent(most)
        if all(lane.is_delivered for lane in self._state.lanes.values()):
            return events
        is_early = (isinstance(event, ScanEnded) for event in events)
        return events[: next((n for n, end in enumerate(is_early) if end), None)]

    def note_events_sent(self, n_events: int) -> None:
        """Mark the next events as sent."""
        with self._state.lock:
            self._state.events.note_sent(n_events)
            self._state.progress.notify()

    # ------------------------------------------------------------------ trouble

    def note_trouble(self, reason: str) -> bool:
        """Record why nothing can be sent now; return whether sending worked before."""
        with self._state.lock:
            return self._state.note_trouble(reason)

    def clear_trouble(self) -> None:
        """Record that Redis accepts entries again."""
        if self._state.trouble:
            with self._state.lock:
                self._state.note_trouble("")

    def give_up(self, error: Exception, *, is_lost: bool) -> None:
        """Fail the scan: these lanes are not sent, and no thread waits for them.

        Parameters
        ----------
        is_lost : bool
            The end of the scan can no longer be sent.
        """
        with self._state.lock:
            self._state.fail(error)
            for lane in self.lanes:
                lane.abandon()
            if is_lost or self.is_main:
                self._state.mark_lost()
            self._state.main_waker.wake()
