"""Backpressure: sends wait while a scan keeps as many bytes as it may."""

from __future__ import annotations

# As a module: a program may patch it by gevent after it imported this.
import time
from collections.abc import Callable, Collection
from time import monotonic

from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.locks import Backstop, is_held, refuse_own_wait
from scanbus.publisher.queue.scan_state import ScanState
from scanbus.schemas import Storage
from scanbus.schemas.errors import DeadlineError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["Backpressure", "fits", "late_counts", "why_no_room"]

log = get_logger()

# Interval between warnings of a send that waits for room.
_LOG_EVERY_S = 5.0
# Adding up the bytes of all lanes and tasks costs more than taking a frame, so this
# share of the free room is granted at once.
_GRANTED_SHARE = 4
# Values of 8 bytes may become entries of 250: small sends count so many times.
_SMALL_BYTES, _SMALL_FACTOR = 4096, 32
# Each small frame that leaves makes room: not each must wake who waits.
_REST_S = 0.001


class Backpressure:
    """Lets sends of one scan wait until there is room for their points.

    Parameters
    ----------
    state : ScanState
        The scan.
    why_full : callable
        Returns why nothing becomes durable, as far as the monitor knows.
    """

    def __init__(self, state: ScanState, why_full: Callable[[], str]) -> None:
        self.lock = state.lock
        self._state = state
        self._why_full = why_full
        self._granted_bytes = 0

    @property
    def is_waiting(self) -> bool:
        """Whether a send waits for room."""
        return bool(self._state.room)

    def admit(self, lane: LaneQueue, need: int) -> None:
        """Wait until `need` more bytes may be kept for a lane; no lock is held.

        Raises
        ------
        DeadlineError
            If there is no room in time.
        ScanStateError
            If the scan is over; the scan's own error if it failed.
        """
        if not self.admits(lane, need):
            self._wait(lane, need)

    def admits(self, lane: LaneQueue, need: int, gathered: int = 0) -> bool:
        """Return whether `need` more bytes may be kept at once; no lock is held.

        Several threads may get the same room at once: a scan then keeps more than it
        may, by at most one send of each.

        Parameters
        ----------
        gathered : int
            Bytes that the caller has been admitted and has not handed over.

        Raises
        ------
        ScanStateError
            If the scan is over; the scan's own error if it failed.
        """
        counted = need if need >= _SMALL_BYTES else need * _SMALL_FACTOR
        if 0 < counted <= self._granted_bytes:
            # Whoever hands points over looks whether the scan is open.
            self._granted_bytes -= counted
            return True
        self._state.check_open()
        # A finaliser inside a call of scanbus cannot wait.
        return is_held(self.lock) or self._has_room(lane, need, gathered)

    def _has_room(self, lane: LaneQueue, need: int, gathered: int = 0) -> bool:
        state = self._state
        with Backstop(state.lock), state.lock:
            limit = state.max_kept_bytes
            kept = state.kept_bytes  # Once: it adds up all that was handed over.
            arriving = kept - state.bytes_in_lanes + gathered
            if not fits(state.lanes.values(), lane, need, limit, arriving):
                return False
            spare = limit - kept - gathered - need
            self._granted_bytes = max(0, spare) // _GRANTED_SHARE
            return True

    def _wait(self, lane: LaneQueue, need: int) -> None:
        state = self._state
        refuse_own_wait()
        started = monotonic()
        next_log_s, said = 1.0, ""
        wakeup = state.room.enter()
        try:
            while not self._has_room(lane, need):
                waited_s = monotonic() - started
                left_s = state.limits.send_deadline_s - waited_s
                if left_s <= 0:
                    what = f"scan {state.uid}: sending {lane.name}"
                    raise DeadlineError(what, waited_s, self._reason(lane))
                # At once if it is another reason: the first is a guess until the writer
                # says what it waits for.
                is_news = said not in {"", self._why_full()}
                if waited_s >= next_log_s or is_news:
                    next_log_s, said = waited_s + _LOG_EVERY_S, self._why_full()
                    self._log_waiting(lane, waited_s)
                wakeup.sleep(min(0.5, left_s))
                time.sleep(_REST_S)
                state.check_open()
        finally:
            state.room.leave()

    def _reason(self, lane: LaneQueue) -> str:
        state = self._state
        if trouble := state.spool_trouble or state.trouble:
            return trouble
        why = why_no_room(state.lanes.values(), lane, self._why_full())
        bound = "quota" if state.spool_waker is None else "memory_bytes_kept"
        return f"{bound} of {state.max_kept_bytes} bytes reached: {why}"

    def _log_waiting(self, lane: LaneQueue, waited_s: float) -> None:
        log.warning(
            LogEvent.WAITING_FOR_ROOM,
            scan=self._state.uid,
            lane=lane.name,
            waited_s=round(waited_s, 1),
            kept_bytes=self._state.kept_bytes,
            reason=self._reason(lane),
        )


def fits(
    lanes: Collection[LaneQueue],
    lane: LaneQueue,
    need: int,
    limit: int,
    arriving: int = 0,
) -> bool:
    """Return whether a scan may keep `need` more bytes, for a point of `lane`.

    Parameters
    ----------
    lanes : collection of LaneQueue
        All lanes of the scan.
    limit : int
        Bytes that it may keep; if it keeps nothing, any point fits.
    arriving : int
        Bytes that were sent and are in no lane yet.
    """
    kept = sum(each.kept_bytes for each in lanes) + arriving
    if kept + need <= limit or not kept:
        return True
    has_frames = lane.description.storage is Storage.FILES
    if not has_frames or arriving or any(each.is_packing for each in lanes):
        return False
    # No compression in progress will make room: frames held in chunks count with their
    # expected compressed size, as in the plan, or they could wait for ever.
    kept -= sum(each.saved_bytes for each in lanes)
    return kept + lane.packed_bytes(need) <= limit


def late_counts(lanes: Collection[LaneQueue]) -> dict[str, int]:
    """Return the number of late points of each channel that has any."""
    return {
        lane.description.channels[0].name: lane.length
        for lane in lanes
        if lane.description.is_late
    }


def why_no_room(lanes: Collection[LaneQueue], lane: LaneQueue, why_full: str) -> str:
    """Return why a point of `lane` has to wait.

    Parameters
    ----------
    why_full : str
        Why nothing becomes durable, as far as the monitor knows.
    """
    if lane.why_incomplete:
        return lane.why_incomplete
    reasons = [why_full]
    late = late_counts(lanes)
    if late:
        counts = ", ".join(f"{count} of {name}" for name, count in late.items())
        reasons.append(f"late points are kept until the scan ends: {counts}")
    return "; ".join(reasons)
