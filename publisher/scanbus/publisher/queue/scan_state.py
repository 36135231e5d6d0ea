"""The shared state of one scan's queue, and each change of it.

Private to this package: the program, the senders, the monitor and the spool writer each
use an interface of it (`ScanQueue`, `SendShare`, `ScanWatch`, `SpoolBacklog`) that
takes the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from scanbus.publisher.buffers.group_buffer import Series
from scanbus.publisher.queue.event_queue import EventQueue
from scanbus.publisher.queue.inbox import Inbox
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.locks import Waiters
from scanbus.publisher.queue.reservation import Reservation
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.queue.tasks import Task
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import Verdict
from scanbus.schemas.errors import ScanStateError

__all__ = ["ScanState"]

# Points held for missing ones may take 1/4 of the quota: half of the quota is for open
# segments, and what is left must let the missing point through.
_HELD_SHARE = 4


class ScanState:
    """One scan; callers of its methods and properties hold `lock`.

    Attributes
    ----------
    lock : ScanLock
        Guards this and all lanes; no thread holds it during a call to Redis.
    room, progress : Waiters
        Threads of the program: notified when there may be more room, and when entries
        or events were sent, spooled or became durable.
    inbox : Inbox
        What the program's threads handed over.
    spool_waker : Waker or None
        On which the spool writer sleeps.
    events : EventQueue
        What was said of the scan.
    reservation : Reservation
        What is reserved on the bus.
    """

    def __init__(
        self, uid: str, limits: SendLimits, inbox: Inbox, *, is_spooled: bool
    ) -> None:
        self.uid = uid
        self.limits: Final = limits
        self.inbox: Final = inbox
        self.lock: Final = threading.RLock()
        self.room: Final = Waiters()
        self.progress: Final = Waiters()
        self._lanes: Mapping[str, LaneQueue] = {}
        self._wakers = [Waker(self.lock)]
        self.spool_waker: Final = Waker(self.lock) if is_spooled else None
        self.events: Final = EventQueue(is_spooled=is_spooled)
        self._fast_series: dict[str, Series] = {}
        self.reservation = Reservation()
        self._chunk_bytes = 0
        self._announcement = ""
        self._error: BaseException | None = None
        self._trouble = self._spool_trouble = ""
        self._end: Task | None = None
        self._is_closed = self._is_lost = self._is_released = False
        self._verdict: Verdict | None = None

    @property
    def lanes(self) -> Mapping[str, LaneQueue]:
        """Its lanes by name, in a table that never changes: another replaces it."""
        return self._lanes

    @property
    def wakers(self) -> tuple[Waker, ...]:
        """One per sender; the first sender also sends events."""
        return tuple(self._wakers)

    @property
    def main_waker(self) -> Waker:
        """On which the sender of events and small values sleeps."""
        return self._wakers[0]

    @property
    def fast_series(self) -> Mapping[str, Series]:
        """Series to which a program's thread appends plain floats itself.

        This very table is emptied when the scan is over.
        """
        return self._fast_series

    @property
    def quota_bytes(self) -> int:
        """Most bytes that may be on the bus and in no file; 0 before it is prepared."""
        return self.reservation.quota_bytes

    @property
    def announcement(self) -> str:
        """Id of its announcement; empty before that."""
        return self._announcement

    @property
    def error(self) -> BaseException | None:
        """What it failed for first."""
        return self._error

    @property
    def trouble(self) -> str:
        """Why nothing can be sent now; empty if it can."""
        return self._trouble

    @property
    def spool_trouble(self) -> str:
        """Why the spool takes nothing now; empty if it does."""
        return self._spool_trouble

    @property
    def is_over(self) -> bool:
        """Whether the program ended it, or can end it no more: no points are taken."""
        return self._end is not None or self._is_closed

    @property
    def end(self) -> Task | None:
        """The task that ends it, once the program has ended it."""
        return self._end

    @property
    def is_closed(self) -> bool:
        """Whether its end was carried out: what came before it is in the lanes."""
        return self._is_closed

    @property
    def is_lost(self) -> bool:
        """Whether Redis will never have all of it."""
        return self._is_lost

    @property
    def is_released(self) -> bool:
        """Whether its entries were released."""
        return self._is_released

    @property
    def verdict(self) -> Verdict | None:
        """Its final verdict."""
        return self._verdict

    @property
    def kept_bytes(self) -> int:
        """Bytes of the whole scan in memory that are not known to be durable."""
        return self.bytes_in_lanes + self.inbox.pending_bytes(self)

    @property
    def bytes_in_lanes(self) -> int:
        """Bytes of them that are in lanes, not only handed over."""
        return sum(lane.kept_bytes for lane in self._lanes.values())

    @property
    def max_kept_bytes(self) -> int:
        """Most bytes that may be kept in memory."""
        if self.spool_waker is None:
            return self.reservation.quota_bytes
        # A chunk that is not full is not spooled: open chunks take half at most.
        return max(self.limits.memory_bytes_kept, 2 * self._chunk_bytes)

    @property
    def max_held_bytes(self) -> int:
        """Most bytes of all points that are held for points before them."""
        return self.max_kept_bytes // _HELD_SHARE

    @property
    def is_fully_sent(self) -> bool:
        """Whether Redis has all entries, all seals and the end."""
        return self._is_closed and self.events.are_sent

    def check_open(self) -> None:
        """Raise the scan's error if it failed, or ScanStateError if it is over."""
        if self._error is not None:
            raise self._error
        if self._end is not None or self._is_closed:
            raise ScanStateError(f"scan {self.uid} is over: nothing can be sent")

    # -------------------------------------------------------------- transitions

    def set_announcement(self, announcement: str) -> None:
        """Set the id of its announcement on the bus."""
        self._announcement = announcement

    def begin_again(self, uid: str, begins: Mapping[str, int]) -> None:
        """Be another scan, whose lanes begin at these points."""
        self.uid = uid
        self._announcement = ""
        for name, lane in self._lanes.items():
            lane.begin_again(begins.get(name, 0))
        self.notify()

    def new_waker(self) -> Waker:
        """Add a sender and return its waker."""
        self._wakers.append(Waker(self.lock))
        return self._wakers[-1]

    def plan(self, reservation: Reservation, chunk_bytes: int) -> None:
        """Set what is reserved, and the bytes of a chunk of each detector together."""
        self.reservation = reservation
        self._chunk_bytes = chunk_bytes

    def note_reserved(self, reserved_bytes: int) -> None:
        """Note what is reserved now; there may be more room."""
        if self.reservation.note(reserved_bytes):
            self.notify()
            self.wake_all()

    def offer_fast(self, series: Mapping[str, Series]) -> None:
        """Have plain floats of these channels appended without the lock."""
        self._fast_series.update(series)

    def withdraw_fast(self, channels: Iterable[str]) -> None:
        """Have points of these channels take the long way from now on."""
        for channel in channels:
            self._fast_series.pop(channel, None)

    def add_lanes(self, lanes: Iterable[LaneQueue]) -> None:
        """Add lanes."""
        self._lanes = {**self._lanes, **{lane.name: lane for lane in lanes}}

    def set_end(self, end: Task) -> None:
        """Take no more points, in one step; `end` is handed over next."""
        self._end = end
        self._fast_series.clear()

    def close(self) -> None:
        """Refuse tasks that come from now on: what came before is in the lanes."""
        self._is_closed = True
        self._fast_series.clear()
        self.room.notify()

    def fail(self, error: BaseException) -> None:
        """Let every further send raise `error`, or the scan's first error."""
        self._error = self._error or error
        self._fast_series.clear()
        self.notify()

    def forsake(self, error: BaseException) -> None:
        """Refuse every call in a forked process; no lock: its thread is not here."""
        self._error = error
        self._fast_series.clear()

    def fail_with(self, error: BaseException) -> None:
        """Let every further send raise `error`; takes the lock."""
        with self.lock:
            self.fail(error)

    def note_room(self) -> None:
        """Wake the threads of the program that wait for room; needs no lock."""
        self.room.notify()

    def mark_lost(self) -> None:
        """Record that Redis will never have all of the scan: sending has stopped."""
        self._is_lost = True
        self._wakers[0].wake()

    def note_trouble(self, reason: str) -> bool:
        """Record why nothing can be sent now; return whether sending worked before."""
        is_new, self._trouble = not self._trouble, reason
        return is_new

    def note_spool_trouble(self, reason: str) -> bool:
        """Record why the spool takes nothing now; return whether it did before."""
        is_new, self._spool_trouble = not self._spool_trouble, reason
        return is_new

    def release(self, verdict: Verdict | None) -> None:
        """Release all entries: there is a final verdict, or no one waits for it."""
        self._verdict = verdict
        self._is_released = True
        for lane in self._lanes.values():
            lane.drop()
        self.progress.notify()
        self.wake_all()

    def notify(self) -> None:
        """Notify threads that wait for room or for progress."""
        self.room.notify()
        self.progress.notify()

    def wake_all(self) -> None:
        """Wake all senders and the spool writer."""
        for waker in (*self._wakers, self.spool_waker):
            if waker is not None:
                waker.wake()
