"""What becomes of a scan's data: durable, compared, judged, or given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_state import ScanState
from scanbus.schemas import Event, Verdict
from scanbus.schemas.errors import DeadlineError, ScanStateError

__all__ = ["ScanWatch"]


class ScanWatch:
    """What the monitor, and who restores a scan, see of it; takes the scan's lock.

    Parameters
    ----------
    state : ScanState
        The scan.
    """

    def __init__(self, state: ScanState) -> None:
        self._state = state
        self._restoring = threading.Lock()

    @property
    def is_fully_sent(self) -> bool:
        """Whether Redis has everything: all entries, all seals and the end."""
        return self._state.is_fully_sent

    @property
    def is_lost(self) -> bool:
        """Whether Redis will never have everything."""
        return self._state.is_lost

    def note_durable(self, lane: str, point: int) -> None:
        """Forget what the writer has."""
        state = self._state
        with state.lock:
            if state.lanes[lane].note_durable(point):
                state.notify()
                if state.spool_waker is not None:
                    state.wake_all()  # There is room on the bus, for all lanes.

    def request_compare(self) -> None:
        """Have every sender compare its lanes with what Redis holds."""
        with self._state.lock:
            for waker in self._state.wakers:
                waker.request_compare()

    def sent_events(self) -> list[Event]:
        """Return the events that Redis has, or had."""
        with self._state.lock:
            return self._state.events.sent

    def has_event(self, event: Event) -> bool:
        """Whether this event was said here."""
        with self._state.lock:
            return self._state.events.has(event)

    def resume_after(self, lane: LaneQueue, last_id: bytes) -> int:
        """Arrange to send again what Redis lacks of a lane; return how many bytes.

        Only the lane's own sender may call it, with nothing on its way.
        """
        with self._state.lock:
            return 0 if self._state.is_released else lane.resume_after(last_id)

    @contextmanager
    def restoring(self) -> Iterator[bool]:
        """Be the only one who puts the scan back, or takes its quota away, meanwhile.

        Yields
        ------
        bool
            False if there is nothing left to put back.
        """
        with self._restoring:
            yield not self._state.is_released

    def mark_lost(self, error: BaseException) -> None:
        """Let the scan fail: nobody sends any more of it."""
        with self._state.lock:
            self._state.fail(error)
            self._state.mark_lost()

    def release(self, verdict: Verdict | None) -> None:
        """Forget everything: the writer has judged, or nobody waits any more."""
        with self._state.lock:
            self._state.release(verdict)

    def reached(self) -> dict[str, int]:
        """Return the points of each lane so far, of its last channel to have them."""
        with self._state.lock:
            return {name: lane.reached for name, lane in self._state.lanes.items()}

    @property
    def kept_bytes(self) -> int:
        """Bytes of the whole scan in memory that are not known to be durable."""
        return self._state.kept_bytes

    def undelivered_bytes(self) -> tuple[int, int, int]:
        """Return the bytes that Redis alone has, never had, and the spool never had."""
        lanes = self._state.lanes.values()
        unspooled = sum(lane.unspooled_bytes for lane in lanes)
        unsent = sum(lane.unsent_bytes for lane in lanes) + unspooled
        return sum(lane.sent_bytes for lane in lanes), unsent, unspooled

    def wait_until(
        self,
        is_met: Callable[[], bool],
        timeout_s: float,
        *,
        what: str,
        why: Callable[[], str],
    ) -> None:
        """Wait for something that the monitor or a sender reports.

        Parameters
        ----------
        is_met, why : callable
            Whether it is so, and why it is not; called with the lock held.

        Raises
        ------
        DeadlineError
            If it is not so in time.
        ScanStateError
            If nobody waits for it any more.
        """
        state = self._state
        started = monotonic()
        with state.lock:
            while not is_met():
                if state.is_lost and state.error is not None:
                    raise state.error
                if state.is_released:
                    raise ScanStateError(
                        f"scan {state.uid}: the publisher was closed before a verdict "
                        "came"
                    )
                waited_s = monotonic() - started
                if waited_s >= timeout_s:
                    raise DeadlineError(f"scan {state.uid}: {what}", waited_s, why())
                state.progress.wait(min(timeout_s - waited_s, 0.5))
