"""Interface of a scan's queue for the monitor: durable, compared, judged, lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.locks import Backstop, refuse_own_wait
from scanbus.publisher.queue.scan_state import ScanState
from scanbus.schemas import Event, Verdict
from scanbus.schemas.errors import DeadlineError, ScanStateError

__all__ = ["ScanWatch"]


class ScanWatch:
    """What the monitor and `resync` use of a scan; methods take the scan's lock.

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
    def has_senders(self) -> bool:
        """Whether it was prepared, so that threads send it."""
        return bool(self._state.lanes)

    @property
    def is_lost(self) -> bool:
        """Whether Redis will never have everything."""
        return self._state.is_lost

    @property
    def reserved_bytes(self) -> int:
        """What is reserved on the bus; 0 before it is prepared."""
        return self._state.reservation.reserved_bytes

    @property
    def wanted_bytes(self) -> int:
        """What should be reserved on the bus now."""
        state = self._state
        if state.spool_waker is None:
            used = state.kept_bytes
        else:
            used = sum(lane.sent_bytes for lane in state.lanes.values())
        return state.reservation.wanted_bytes(used, is_fully_sent=state.is_fully_sent)

    def note_reserved(self, reserved_bytes: int) -> None:
        """Note what is reserved on the bus now."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.note_reserved(reserved_bytes)

    @property
    def is_awaited(self) -> bool:
        """Whether a thread of the program waits for room or for progress."""
        return bool(self._state.room or self._state.progress)

    def note_durable(self, lane: str, point: int, *, of: str) -> None:
        """Release the entries of a lane before `point`: the writer has them.

        Parameters
        ----------
        of : str
            Uid of the scan whose cursor that is; the queue may be another scan's now.
        """
        state = self._state
        with Backstop(state.lock), state.lock:
            if of == state.uid and state.lanes[lane].note_durable(point):
                state.notify()
                if state.spool_waker is not None:
                    state.wake_all()  # The room on the bus is shared by all lanes.

    def request_compare(self) -> None:
        """Have every sender compare its lanes with Redis."""
        with Backstop(self._state.lock), self._state.lock:
            for waker in self._state.wakers:
                waker.request_compare()

    def made_lanes(self) -> list[str]:
        """Return the lanes that are on the bus, or were; undeclared ones when sent."""
        with self._state.lock:
            lanes = self._state.lanes.items()
            return [
                name
                for name, lane in lanes
                if lane.description.is_declared or lane.sent_bytes or lane.durable
            ]

    def sent_events(self) -> list[Event]:
        """Return the events that Redis has, or had."""
        with Backstop(self._state.lock), self._state.lock:
            return self._state.events.sent

    def n_events(self) -> int:
        """Return how many events were added."""
        with Backstop(self._state.lock), self._state.lock:
            return self._state.events.count

    def has_handed_over(self, n_events: int) -> bool:
        """Return whether the first events are on the bus, or in the spool."""
        with Backstop(self._state.lock), self._state.lock:
            return self._state.events.n_handed_over >= n_events

    def has_event(self, event: Event) -> bool:
        """Return whether this publisher added this event."""
        with Backstop(self._state.lock), self._state.lock:
            return self._state.events.has(event)

    def resume_after(self, lane: LaneQueue, last_id: bytes) -> int:
        """Queue again the entries of a lane that Redis lacks; return their bytes.

        Only the lane's own sender may call it, and not during a call to Redis.
        """
        with Backstop(self._state.lock), self._state.lock:
            return 0 if self._state.is_released else lane.resume_after(last_id)

    @contextmanager
    def restoring(self) -> Iterator[bool]:
        """Hold the lock for restoring the scan on the bus or releasing its quota.

        Yields
        ------
        bool
            False if the scan was released: there is nothing to restore.
        """
        with self._restoring:
            yield not self._state.is_released

    def mark_lost(self, error: BaseException) -> None:
        """Fail the scan: no more of it is sent."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.fail(error)
            self._state.mark_lost()

    def release(self, verdict: Verdict | None) -> None:
        """Release all entries: there is a final verdict, or no one waits for it."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.release(verdict)

    def reached(self) -> dict[str, int]:
        """Return the number of points of each lane that all its channels have."""
        with Backstop(self._state.lock), self._state.lock:
            return {name: lane.reached for name, lane in self._state.lanes.items()}

    @property
    def kept_bytes(self) -> int:
        """Bytes of the whole scan in memory that are not known to be durable."""
        return self._state.kept_bytes

    def undelivered_points(self) -> tuple[int, int, int]:
        """Return points not durable: in Redis, in the spool only, and nowhere.

        Static arrays are not points of a channel.
        """
        with Backstop(self._state.lock), self._state.lock:
            lanes = self._state.lanes.values()
            places = [each.points_by_place for each in lanes if not each.is_static]
        redis, spool, nowhere = map(sum, zip((0, 0, 0), *places, strict=True))
        return redis, spool, nowhere

    def undelivered_bytes(self) -> tuple[int, int, int]:
        """Return bytes not durable: sent, never sent, and of these never spooled."""
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
        """Wait until a condition is met that the monitor or a sender changes.

        Parameters
        ----------
        is_met, why : callable
            Return whether the condition is met, and why not; called with the lock held.
        timeout_s : float
            Longest wait, in seconds.
        what : str
            The wait, for the message.

        Raises
        ------
        DeadlineError
            If the condition is not met in time.
        ScanStateError
            If the publisher was closed before; the scan's own error if it is lost.
        """
        state = self._state
        refuse_own_wait(state.lock)
        started = monotonic()
        wakeup = state.progress.enter()
        try:
            while True:
                with Backstop(state.lock), state.lock:
                    if is_met():
                        return
                    self._check_awaited()
                    reason = why()
                waited_s = monotonic() - started
                if waited_s >= timeout_s:
                    raise DeadlineError(f"scan {state.uid}: {what}", waited_s, reason)
                wakeup.sleep(min(timeout_s - waited_s, 0.5))
        finally:
            state.progress.leave()

    def _check_awaited(self) -> None:
        """Raise if what the program waits for will never come; the lock is held."""
        state = self._state
        if state.is_lost and state.error is not None:
            raise state.error
        if state.is_released:
            raise ScanStateError(
                f"scan {state.uid}: the publisher was closed before a verdict came"
            )
