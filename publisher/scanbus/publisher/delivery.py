"""What one scan still has to bring to the bus, shared by all threads that help.

The program's threads put values and frames in, encoders pack frames, senders send, the
keeper reports what is durable. All of that meets here under one lock, which nobody
holds while talking to Redis. What is kept never exceeds the scan's quota: whoever
sends waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from time import monotonic
from time import time as wall_clock
from typing import Any

import numpy.typing as npt
import structlog

from scanbus.publisher.chunking import Piece
from scanbus.publisher.freezing import freeze_gap, freeze_piece
from scanbus.publisher.gathering import Run, Series
from scanbus.publisher.outgoing import FrameLane, Slot, ValueLane, Waker
from scanbus.schemas import (
    Event,
    LaneDescription,
    ScanAnnounced,
    ScanEnded,
    Storage,
    Verdict,
)
from scanbus.schemas.errors import DeadlineError, ScanStateError

__all__ = ["Delivery"]

log = structlog.get_logger()

# How often somebody who waits for room says why.
_SAY_EVERY_S = 5.0
# Looking at everything that is kept costs too much for every single value.
_LOOK_EVERY_POINTS = 256


class Delivery:
    """One scan on its way to the bus.

    Parameters
    ----------
    announced : ScanAnnounced
        The scan.
    session : bytes
        Names this publisher in the headers of entries.
    quota_bytes : int
        Bound of what is kept.
    send_deadline_s : float
        How long a send waits for room.
    pool : Executor
        Packs frames.
    why_full : callable
        Returns why nothing becomes durable, for messages.
    """

    def __init__(
        self,
        announced: ScanAnnounced,
        session: bytes,
        *,
        send_deadline_s: float,
        pool: Executor,
        why_full: Callable[[], str],
    ) -> None:
        self.announced = announced
        self.announcement = ""
        self.session = session
        self.quota_bytes = 0
        self.lock = threading.Lock()
        self.restoring = threading.Lock()
        self.room = threading.Condition(self.lock)
        self.settled = threading.Condition(self.lock)
        self.lanes: dict[str, ValueLane | FrameLane] = {}
        self.series: dict[str, Series] = {}
        self.main_waker = Waker(self.lock)
        self.wakers: list[Waker] = [self.main_waker]
        self.events: list[Event] = []
        self.n_events_sent = 0
        self.error: BaseException | None = None
        self.is_lost = False
        self.n_waiting = 0
        self.trouble = ""
        self.is_over = False
        self.is_released = False
        self.verdict: Verdict | None = None
        self._send_deadline_s = send_deadline_s
        self._pool = pool
        self.why_full = why_full

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self.announced.scan.uid

    @property
    def kept_bytes(self) -> int:
        """Bytes of the whole scan that are not known to be durable."""
        return sum(lane.kept_bytes for lane in self.lanes.values())

    def prepare(
        self,
        lanes: tuple[LaneDescription, ...],
        quota_bytes: int,
        compression: float,
    ) -> None:
        """Take the lanes as they were planned."""
        with self.lock:
            self.quota_bytes = quota_bytes
            for description in lanes:
                if description.storage is Storage.FILES:
                    waker = Waker(self.lock)
                    self.wakers.append(waker)
                    frames = FrameLane(description, self.session, compression)
                    frames.waker = waker
                    self.lanes[description.name] = frames
                else:
                    values = ValueLane(description, self.session)
                    values.waker = self.main_waker
                    self.lanes[description.name] = values

    # ------------------------------------------------------------ values

    def advance(self, lane: ValueLane) -> None:
        """Look after single values: complete points, memory, room."""
        with self.lock:
            buffer = lane.buffer
            if buffer.advance(wall_clock()):
                lane.wake()
                if buffer.complete % _LOOK_EVERY_POINTS:
                    return
            buffer.compact()
            self._wait_for_room(lane, 0)

    def put_values(
        self,
        lane: ValueLane,
        name: str,
        run: Run,
        run_bytes: int,
        times: tuple[float, float] | None,
    ) -> None:
        """Take checked values of one channel; wait until there is room for them.

        Raises
        ------
        DeadlineError
            If there is no room for too long.
        """
        with self.lock:
            self._wait_for_room(lane, run_bytes)
            lane.buffer.append(name, run, times)
            if lane.buffer.advance(wall_clock()):
                lane.wake()

    # ------------------------------------------------------------ frames

    def put_frames(
        self, lane: FrameLane, frames: npt.NDArray[Any], times: list[float]
    ) -> None:
        """Copy checked frames, one after the other, and have them packed.

        Raises
        ------
        DeadlineError
            If there is no room for too long; the frames before it are taken.
        """
        frame_bytes = lane.description.point_bytes
        with lane.feeding:
            for frame, time in zip(frames, times, strict=True):
                self._reserve(lane, frame_bytes)
                self._pack(lane, lane.chunks.push(frame, time))

    def put_packed(
        self, lane: FrameLane, frames: list[bytes], times: list[float]
    ) -> None:
        """Take frames that are packed already."""
        with lane.feeding:
            for frame, time in zip(frames, times, strict=True):
                self._reserve(lane, len(frame))
                self._pack(lane, lane.chunks.push_packed(frame, time))

    def skip_frames(self, lane: FrameLane, count: int) -> None:
        """Say that the next frames will never come."""
        with lane.feeding:
            self._reserve(lane, 0)
            for piece in lane.chunks.skip(count, wall_clock()):
                self._pack(lane, piece)

    def flush_held(self, lane: FrameLane, patience_s: float) -> None:
        """Send a chunk that has not become full in time, for those who look live."""
        if not lane.chunks.held or monotonic() - lane.held_since < patience_s:
            return
        if lane.feeding.acquire(blocking=False):
            try:
                self._pack(lane, lane.chunks.cut())
            finally:
                lane.feeding.release()

    def _reserve(self, lane: FrameLane, raw_bytes: int) -> None:
        with self.lock:
            self._wait_for_room(lane, raw_bytes)
            lane.raw_bytes += raw_bytes
            if not lane.chunks.held:
                lane.held_since = monotonic()
                if lane.description.points_per_chunk > 1:
                    lane.wake()  # It has to look at the clock from now on.

    def _pack(self, lane: FrameLane, piece: Piece | None) -> None:
        if piece is None:
            return
        slot = Slot(piece)
        with self.lock:
            lane.slots.append(slot)
        try:
            self._pool.submit(self._freeze, lane, slot)
        except RuntimeError:  # The interpreter is leaving and takes no more work.
            self._freeze(lane, slot)

    def _freeze(self, lane: FrameLane, slot: Slot) -> None:
        piece = slot.piece
        try:
            frozen = freeze_piece(lane.description, piece, self.session)
        except Exception as error:  # noqa: BLE001 - nobody looks at a pool's errors
            self.fail(error)
            frozen = freeze_gap(piece.first, piece.count, piece.times, self.session)
        with self.lock:
            slot.frozen = frozen
            while lane.slots and lane.slots[0].frozen is not None:
                done = lane.slots.popleft()
                assert done.frozen is not None
                lane.note_packed(done.piece, done.frozen)
                lane.outbox.put(done.frozen)
            lane.wake()
            self.room.notify_all()

    # -------------------------------------------------------------- room

    def _wait_for_room(self, lane: ValueLane | FrameLane, need: int) -> None:
        """Wait until `need` more bytes may be kept; the lock is held."""
        started = said = 0.0
        while True:
            self._check_open()
            if self._fits(lane, need):
                return
            now = monotonic()
            started = started or now
            left = started + self._send_deadline_s - now
            if left <= 0:
                what = f"scan {self.uid}: sending {lane.name}"
                raise DeadlineError(what, now - started, self._reason(lane))
            if now - said >= _SAY_EVERY_S and now - started > 1.0:
                said = now
                self._say_waiting(lane, now - started)
            self.n_waiting += 1
            self.room.wait(min(0.5, left))
            self.n_waiting -= 1

    def _check_open(self) -> None:
        if self.error is not None:
            raise self.error
        if self.is_over:
            raise ScanStateError(f"scan {self.uid} is over: nothing can be sent")

    def _fits(self, lane: ValueLane | FrameLane, need: int) -> bool:
        kept = self.kept_bytes
        if kept + need <= self.quota_bytes or not kept:
            return True
        if not isinstance(lane, FrameLane):
            return False
        frame_lanes = [
            each for each in self.lanes.values() if isinstance(each, FrameLane)
        ]
        if any(each.slots for each in frame_lanes):
            return False
        # Nothing is being packed that would make room: what is held in chunks counts
        # as what it will be, as the plan counted it, else it could wait for ever.
        for each in frame_lanes:
            kept -= int(each.raw_bytes * (1 - 1 / each.compression))
        return kept + need / lane.compression <= self.quota_bytes

    def _reason(self, lane: ValueLane | FrameLane) -> str:
        if self.trouble:
            return self.trouble
        if isinstance(lane, ValueLane):
            ahead, behind, points = lane.buffer.laggard()
            if points and not lane.buffer.has_complete:
                return (
                    f"quota of {self.quota_bytes} bytes reached: {ahead} is {points} "
                    f"points ahead of {behind} in its group"
                )
        why = self.why_full()
        if isinstance(lane, FrameLane) and lane.misjudged:
            why = f"{why}; {lane.misjudged}"
        return f"quota of {self.quota_bytes} bytes reached: {why}"

    def _say_waiting(self, lane: ValueLane | FrameLane, waited_s: float) -> None:
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
            self.main_waker.wake()

    def next_event(self) -> Event | None:
        """Return the event that may be sent now; the end only after all seals."""
        if self.n_events_sent == len(self.events):
            return None
        event = self.events[self.n_events_sent]
        delivered = all(lane.is_delivered for lane in self.lanes.values())
        return None if isinstance(event, ScanEnded) and not delivered else event

    @property
    def is_said(self) -> bool:
        """Whether Redis has everything: all entries, all seals and the end."""
        return self.is_over and self.n_events_sent == len(self.events)

    def end_lanes(self) -> None:
        """Take nothing more; let all lanes run out and be sealed."""
        with self.lock:
            self.is_over = True
            self.series.clear()
            self.room.notify_all()
        for lane in self.lanes.values():
            if isinstance(lane, FrameLane):
                with lane.feeding:
                    self._pack(lane, lane.chunks.end())
        with self.lock:
            for lane in self.lanes.values():
                if isinstance(lane, ValueLane):
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

    def note_sent(self, lane: ValueLane | FrameLane, n_entries: int) -> None:
        """Take note that Redis stored the next entries of a lane."""
        with self.lock:
            if self.is_released:
                return  # The outbox is empty, whatever was on its way.
            lane.outbox.sent(n_entries)
            self.room.notify_all()
            if lane.ending:
                self.main_waker.wake()

    def note_durable(self, lane: str, point: int) -> None:
        """Forget what the writer has."""
        with self.lock:
            outbox = self.lanes[lane].outbox
            if point > outbox.durable:
                outbox.durable_up_to(point)
                self.room.notify_all()
                self.settled.notify_all()

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
                lane.outbox.drop()
            self.settled.notify_all()
            for waker in self.wakers:
                waker.wake()
