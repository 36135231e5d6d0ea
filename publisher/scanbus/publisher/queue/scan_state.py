"""The shared state of one scan's queue, and each change of it.

Private to this package: the program, the senders, the monitor and the spool writer each
use an interface of it (`ScanQueue`, `SendShare`, `ScanWatch`, `SpoolBacklog`) that
takes the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from scanbus.publisher.buffers.group_buffer import Series
from scanbus.publisher.queue.event_queue import EventQueue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import Verdict
from scanbus.schemas.errors import ScanStateError

__all__ = ["ScanState"]

# Points held for missing ones may take 1/4 of the quota: half of the quota is for open
# segments, and what is left must let the missing point through.
_HELD_SHARE = 4


class ScanState:
    """One scan; callers of its methods and properties hold `lock`.

    Only its own methods change its attributes.

    Attributes
    ----------
    lock : threading.Lock
        Guards this and all lanes; no thread holds it during a call to Redis.
    room, progress : threading.Condition
        Conditions of the lock: notified when there may be more room, and when entries
        or events were sent, spooled or became durable.
    lanes : Mapping
        By name. Replaced, never changed: it can be read without the lock.
    wakers : list of Waker
        One per sender; the first sender also sends events.
    spool_waker : Waker or None
        On which the spool writer sleeps.
    fast_series : dict
        Series to which a program's thread appends plain floats itself.
    """

    def __init__(self, uid: str, limits: SendLimits, *, is_spooled: bool) -> None:
        self.uid = uid
        self.limits = limits
        self.lock = threading.Lock()
        self.room = threading.Condition(self.lock)
        self.progress = threading.Condition(self.lock)
        self.lanes: Mapping[str, LaneQueue] = {}
        self.wakers = [Waker(self.lock)]
        self.spool_waker = Waker(self.lock) if is_spooled else None
        self.events = EventQueue(is_spooled=is_spooled)
        self.fast_series: dict[str, Series] = {}
        self.quota_bytes = self._chunk_bytes = 0
        self.announcement = ""
        self.error: BaseException | None = None
        self.trouble = self.spool_trouble = ""
        self.is_over = self.is_lost = self.is_released = False
        self.verdict: Verdict | None = None

    @property
    def kept_bytes(self) -> int:
        """Bytes of the whole scan in memory that are not known to be durable."""
        return sum(lane.kept_bytes for lane in self.lanes.values())

    @property
    def max_kept_bytes(self) -> int:
        """Most bytes that may be kept in memory."""
        if self.spool_waker is None:
            return self.quota_bytes
        # A chunk that is not full is not spooled: open chunks take half at most.
        return max(self.limits.memory_bytes_kept, 2 * self._chunk_bytes)

    @property
    def max_held_bytes(self) -> int:
        """Most bytes of all points that are held for points before them."""
        return self.max_kept_bytes // _HELD_SHARE

    @property
    def is_fully_sent(self) -> bool:
        """Whether Redis has all entries, all seals and the end."""
        return self.is_over and self.events.are_sent

    @property
    def is_spooled(self) -> bool:
        """Whether the spool has all of the scan, to its end."""
        lanes = self.lanes.values()
        sealed = all(lane.is_sealed and not lane.has_spool_work for lane in lanes)
        return self.is_over and sealed and self.events.next_unspooled is None

    def check_open(self) -> None:
        """Raise the scan's error if it failed, or ScanStateError if it is over."""
        if self.error is not None:
            raise self.error
        if self.is_over:
            raise ScanStateError(f"scan {self.uid} is over: nothing can be sent")

    # -------------------------------------------------------------- transitions

    def set_announcement(self, announcement: str) -> None:
        """Set the id of its announcement on the bus."""
        self.announcement = announcement

    def new_waker(self) -> Waker:
        """Add a sender and return its waker."""
        self.wakers.append(Waker(self.lock))
        return self.wakers[-1]

    def plan(self, quota_bytes: int, chunk_bytes: int) -> None:
        """Set the quota, and the bytes of one chunk of each detector together."""
        self.quota_bytes = quota_bytes
        self._chunk_bytes = chunk_bytes

    def add_lanes(self, lanes: Iterable[LaneQueue]) -> None:
        """Add lanes."""
        self.lanes = {**self.lanes, **{lane.name: lane for lane in lanes}}

    def close(self) -> None:
        """Accept no more points."""
        self.is_over = True
        self.fast_series.clear()
        self.room.notify_all()

    def fail(self, error: BaseException) -> None:
        """Let every further send raise `error`, or the scan's first error."""
        self.error = self.error or error
        self.fast_series.clear()
        self.notify()

    def mark_lost(self) -> None:
        """Record that Redis will never have all of the scan: sending has stopped."""
        self.is_lost = True
        self.wakers[0].wake()

    def note_trouble(self, reason: str) -> bool:
        """Record why nothing can be sent now; return whether sending worked before."""
        is_new, self.trouble = not self.trouble, reason
        return is_new

    def note_spool_trouble(self, reason: str) -> bool:
        """Record why the spool takes nothing now; return whether it did before."""
        is_new, self.spool_trouble = not self.spool_trouble, reason
        return is_new

    def release(self, verdict: Verdict | None) -> None:
        """Release all entries: there is a final verdict, or no one waits for it."""
        self.verdict = verdict
        self.is_released = True
        for lane in self.lanes.values():
            lane.drop()
        self.progress.notify_all()
        self.wake_all()

    def notify(self) -> None:
        """Notify threads that wait for room or for progress."""
        self.room.notify_all()
        self.progress.notify_all()

    def wake_all(self) -> None:
        """Wake all senders and the spool writer."""
        for waker in (*self.wakers, self.spool_waker):
            if waker is not None:
                waker.wake()
