"""What one scan still has to bring to the bus, shared by all threads that help.

The program's threads put values and frames in, encoders pack frames, senders send, the
monitor reports what is durable. All of that meets here under one lock, which nobody
holds while talking to Redis. What is kept never exceeds the scan's quota: whoever
sends waits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from time import time as wall_clock

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.buffers.group_buffer import Series
from scanbus.publisher.queue.backpressure import fits, late_counts, why_no_room
from scanbus.publisher.queue.encoder_pool import EncoderPool
from scanbus.publisher.queue.lane_queue import (
    FrameLaneQueue,
    LaneQueue,
    LateLaneQueue,
    ValueLaneQueue,
    Waker,
)
from scanbus.publisher.spool import ScanSpool
from scanbus.schemas import (
    Event,
    LaneDescription,
    ScanAnnounced,
    ScanEnded,
    Storage,
    Verdict,
)
from scanbus.schemas.errors import DeadlineError, ScanStateError
from scanbus.schemas.logs import get_logger

__all__ = ["Limits", "ScanQueue"]

log = get_logger()

# How often somebody who waits for room says why.
_SAY_EVERY_S = 5.0
# Adding up what all lanes keep costs more than taking a few values: that much of the
# room that is left is given out at once. Values of 8 bytes may become entries of 250.
_GRANTED_SHARE = 32
# What may wait for points before it, as a share of the quota: half of that is for open
# segments, and the rest must let the point through that they wait for.
_HELD_SHARE = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much a publisher is patient.

    Attributes
    ----------
    send_deadline_s : float
        How long a send waits for room.
    reorder_window : int
        How many points ahead of the next one of its lane a point may come.
    reorder_s : float
        How long it waits for those before it.
    memory_bytes_kept : int
        Bytes of a scan that stay in memory where there is a spool; more is read back.
    spool_sync_s : float
        How often the spool is brought to the disk.
    """

    send_deadline_s: float = 60.0
    reorder_window: int = 64
    reorder_s: float = 5.0
    memory_bytes_kept: int = 256 * 2**20
    spool_sync_s: float = 0.5


class ScanQueue:
    """One scan on its way to the bus.

    Parameters
    ----------
    announced : ScanAnnounced
        The scan.
    session : bytes
        Names this publisher in the headers of entries.
    limits : Limits
        How patient it is.
    threads : ThreadPool
        Packs frames.
    why_full : callable
        Returns why nothing becomes durable, for messages.
    spool : ScanSpool, optional
        Where everything is written before it is sent.
    """

    def __init__(
        self,
        announced: ScanAnnounced,
        session: bytes,
        *,
        limits: Limits,
        threads: ThreadPool,
        why_full: Callable[[], str],
        spool: ScanSpool | None = None,
    ) -> None:
        self.announced = announced
        self.announcement = ""
        self.session = session
        self.quota_bytes = 0
        self.lock = threading.Lock()
        self.restoring = threading.Lock()
        self.room = threading.Condition(self.lock)
        self.settled = threading.Condition(self.lock)
        self.lanes: dict[str, LaneQueue] = {}
        self.series: dict[str, Series] = {}
        self.main_waker = Waker(self.lock)
        self.wakers: list[Waker] = [self.main_waker]
        self.events: list[Event] = []
        self.n_events_sent = 0
        self.n_events_spooled = 0
        self.error: BaseException | None = None
        self.is_lost = False
        self.n_waiting = 0
        self.trouble = ""
        self.is_over = False
        self.is_released = False
        self.verdict: Verdict | None = None
        self.limits = limits
        self.spool = spool
        self.spool_waker = None if spool is None else Waker(self.lock)
        self.spool_trouble = ""
        self._chunk_bytes = 0
        self._granted_bytes = 0
        self.encoders = EncoderPool(threads, self.room, session, self.fail)
        self.why_full = why_full

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self.announced.scan.uid

    @property
    def kept_bytes(self) -> int:
        """Bytes of the whole scan in memory that are not known to be durable."""
        return sum(lane.kept_bytes for lane in self.lanes.values())

    @property
    def most_held_bytes(self) -> int:
        """Bytes of all points together that may wait for points before them."""
        return self.most_kept_bytes // _HELD_SHARE

    @property
    def most_kept_bytes(self) -> int:
        """Bytes that may be kept in memory."""
        if self.spool is None:
            return self.quota_bytes
        # A chunk that is not full cannot go to the disk: open ones take half at most.
        return max(self.limits.memory_bytes_kept, 2 * self._chunk_bytes)

    @property
    def late(self) -> dict[str, int]:
        """How many points of which channel came too late."""
        return late_counts(self.lanes.values())

    def prepare(
        self,
        lanes: tuple[LaneDescription, ...],
        quota_bytes: int,
        compression: float,
    ) -> None:
        """Take the lanes as they were planned."""
        with self.lock:
            self.quota_bytes = quota_bytes
            self._chunk_bytes = sum(
                lane.points_per_chunk * lane.point_bytes
                for lane in lanes
                if lane.storage is Storage.FILES
            )
            for description in lanes:
                lane: LaneQueue
                if description.storage is Storage.FILES:
                    waker = Waker(self.lock)
                    self.wakers.append(waker)
                    lane = FrameLaneQueue(description, self.session, waker, compression)
                else:
                    lane = ValueLaneQueue(description, self.session, self.main_waker)
                self.adopt(lane)

    def take_over(self, lanes: Iterable[LaneDescription], quota_bytes: int) -> None:
        """Take the lanes of a scan to which nothing is added any more."""
        with self.lock:
            self.quota_bytes = quota_bytes
            self.is_over = True
            for description in lanes:
                waker = self.main_waker
                if description.storage is Storage.FILES and not description.is_late:
                    waker = Waker(self.lock)
                    self.wakers.append(waker)
                kind = LateLaneQueue if description.is_late else LaneQueue
                self.adopt(kind(description, self.session, waker))

    def adopt(self, lane: LaneQueue) -> None:
        """Take one more lane; the lock is held."""
        if self.spool_waker is not None:
            lane.spool_to(self.spool_waker)
        # Others look through all lanes, without the lock: another dict.
        self.lanes = {**self.lanes, lane.name: lane}

    # -------------------------------------------------------------- room

    def wait_for_room(self, lane: LaneQueue, need: int) -> None:
        """Wait until `need` more bytes may be kept; the lock is held."""
        self._check_open()
        if 0 < need <= self._granted_bytes:
            self._granted_bytes -= need
            return
        started = said = 0.0
        while True:
            self._check_open()
            if fits(self.lanes.values(), lane, need, self.most_kept_bytes):
                self._grant(need)
                return
            now = monotonic()
            started = started or now
            left = started + self.limits.send_deadline_s - now
            if left <= 0:
                what = f"scan {self.uid}: sending {lane.name}"
                raise DeadlineError(what, now - started, self._reason(lane))
            if now - said >= _SAY_EVERY_S and now - started > 1.0:
                said = now
                self._say_waiting(lane, now - started)
            self.n_waiting += 1
            self.room.wait(min(0.5, left))
            self.n_waiting -= 1

    def _grant(self, need: int) -> None:
        """Let some of the room that there is be taken without looking at all lanes."""
        spare = self.most_kept_bytes - self.kept_bytes - need
        self._granted_bytes = max(0, spare) // _GRANTED_SHARE

    def _check_open(self) -> None:
        if self.error is not None:
            raise self.error
        if self.is_over:
            raise ScanStateError(f"scan {self.uid} is over: nothing can be sent")

    def _reason(self, lane: LaneQueue) -> str:
        trouble = self.spool_trouble or self.trouble
        if trouble:
            return trouble
        why = why_no_room(self.lanes.values(), lane, self.why_full())
        bound = "quota" if self.spool is None else "memory_bytes_kept"
        return f"{bound} of {self.most_kept_bytes} bytes reached: {why}"

    def _say_waiting(self, lane: LaneQueue, waited_s: float) -> None:
        log.warning(
            "waiting_for_room",
            scan=self.uid,
            lane=lane.name,
            waited_s=round(waited_s, 1),
            kept_bytes=self.kept_bytes,
            reason=self._reason(lane),
        )

    # ------------------------------------------------------------- state

    def add_event(self, event: Event) -> None:
        """Have an event sent after those before it."""
        with self.lock:
            self.events.append(event)
            (self.spool_waker or self.main_waker).wake()

    def next_event(self) -> Event | None:
        """Return the event that may be sent now; the end only after all seals."""
        ready = len(self.events) if self.spool is None else self.n_events_spooled
        if self.n_events_sent >= ready:
            return None
        event = self.events[self.n_events_sent]
        delivered = all(lane.is_delivered for lane in self.lanes.values())
        return None if isinstance(event, ScanEnded) and not delivered else event

    @property
    def is_said(self) -> bool:
        """Whether Redis has everything: all entries, all seals and the end."""
        return self.is_over and self.n_events_sent == len(self.events)

    def close_entrance(self) -> None:
        """Take nothing more."""
        with self.lock:
            self.is_over = True
            self.series.clear()
            self.room.notify_all()

    def end_lanes(self) -> None:
        """Let all lanes run out and be sealed."""
        for lane in self.lanes.values():
            if isinstance(lane, FrameLaneQueue):
                with lane.feeding:
                    self.encoders.end(lane)
        with self.lock:
            for lane in self.lanes.values():
                if isinstance(lane, ValueLaneQueue):
                    lane.buffer.end(wall_clock())
                lane.ending = True
                lane.wake()

    def fail(self, error: BaseException) -> None:
        """Let every further send raise `error`."""
        with self.lock:
            self.error = self.error or error
            self.series.clear()
            self.room.notify_all()
            self.settled.notify_all()

    def note_sent(self, lane: LaneQueue, n_entries: int) -> None:
        """Take note that Redis stored the next entries of a lane."""
        with self.lock:
            if self.is_released:
                return  # The retransmit buffer is empty, whatever was on its way.
            lane.retransmit.sent(n_entries)
            self.room.notify_all()
            self.settled.notify_all()
            if lane.ending:
                self.main_waker.wake()

    def note_durable(self, lane: str, point: int) -> None:
        """Forget what the writer has."""
        with self.lock:
            retransmit = self.lanes[lane].retransmit
            if point > retransmit.durable:
                retransmit.durable_up_to(point)
                self.room.notify_all()
                self.settled.notify_all()
                if self.spool is not None:
                    # There is room on the bus, for all lanes of the scan.
                    for waker in self.wakers:
                        waker.wake()

    def request_compare(self) -> None:
        """Have every sender compare its lanes with what Redis holds."""
        with self.lock:
            for waker in self.wakers:
                waker.must_compare = True
                waker.wake()

    def release(self, verdict: Verdict | None) -> None:
        """Forget everything: the writer has judged, or nobody waits any more."""
        with self.lock:
            self.verdict = verdict
            self.is_released = True
            for lane in self.lanes.values():
                lane.drop()
            self.settled.notify_all()
            for waker in (*self.wakers, self.spool_waker):
                if waker is not None:
                    waker.wake()

    # ------------------------------------------------------------- spool

    @property
    def has_unspooled_events(self) -> bool:
        """Whether an event waits to be written to the spool."""
        return self.n_events_spooled < len(self.events)

    @property
    def has_unspooled(self) -> bool:
        """Whether anything that could be waits to be written to the spool."""
        return self.has_unspooled_events or any(
            lane.unspooled or lane.can_seal for lane in self.lanes.values()
        )

    @property
    def is_spooled(self) -> bool:
        """Whether the spool has all of the scan, to its end."""
        sealed = all(lane.retransmit.sealed for lane in self.lanes.values())
        return self.is_over and sealed and not self.has_unspooled

    @property
    def sent_bytes(self) -> int:
        """Bytes that Redis has and no file yet."""
        return sum(lane.retransmit.sent_bytes for lane in self.lanes.values())

    @property
    def unsent_bytes(self) -> int:
        """Bytes of entries that Redis has not."""
        unsent = sum(lane.retransmit.unsent_bytes for lane in self.lanes.values())
        return unsent + self.unspooled_bytes

    @property
    def unspooled_bytes(self) -> int:
        """Bytes that the spool, where there is one, has not."""
        return sum(lane.unspooled_bytes for lane in self.lanes.values())

    def note_spooled(self, lane: LaneQueue) -> None:
        """Have the next entry of a lane sent, now that the spool has it."""
        with self.lock:
            if self.is_released:
                return
            most = self.most_kept_bytes // (2 * len(self.lanes))
            lane.note_spooled(keep_payload=lane.retransmit.memory_bytes < most)
            self.room.notify_all()
            self.settled.notify_all()

    def note_event_spooled(self) -> None:
        """Have the next event sent, now that the spool has it."""
        with self.lock:
            self.n_events_spooled += 1
            self.main_waker.wake()
            self.settled.notify_all()

    def may_send(self, lane: LaneQueue) -> bool:
        """Whether the next entry fits on the bus beside what is not durable there."""
        entry = lane.retransmit.next_unsent
        if entry is None:
            return False
        room = self._bus_room(lane)
        return entry.is_seal or room >= min(entry.nbytes, self.quota_bytes)

    def to_send(self, lane: LaneQueue, max_bytes: int) -> list[EncodedEntry]:
        """Return the next entries of a lane that fit on the bus; the lock is held."""
        if not self.may_send(lane):
            return []
        return lane.retransmit.to_send(min(max_bytes, self._bus_room(lane)))

    def _bus_room(self, lane: LaneQueue) -> int:
        """Return how many more bytes may stand on the bus without being durable.

        Without a spool, all that is kept may. Late points always may: the writer takes
        them when all else has been sent.
        """
        if self.spool is None or lane.description.is_late:
            return sys.maxsize
        there = sum(
            each.retransmit.sent_bytes
            for each in self.lanes.values()
            if not each.description.is_late
        )
        return self.quota_bytes - there
