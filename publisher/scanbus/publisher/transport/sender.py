"""Send a scan's entries, each lane in order, whatever happens to Redis.

A sender is a thread with a connection of its own that connects once: after a loss it
connects again and compares before it sends on. There is one for each detector and one
for all small values and the events of a scan.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from time import monotonic

from scanbus.bus.store import (
    KEPT_WHEN_FULL,
    Bus,
    Evictor,
    Freed,
    NoRoomError,
    VanishedError,
    append_entries,
    append_event,
    connect,
    make_lane,
    translated,
)
from scanbus.publisher.ingest.numbered import needs_tending, tend
from scanbus.publisher.queue.lane_queue import (
    LaneQueue,
    LateLaneQueue,
    ValueLaneQueue,
    Waker,
)
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.value_encoder import MAX_BATCH_BYTES, encode_gathered
from scanbus.publisher.recovery.closed_scan import explained
from scanbus.publisher.transport.resync import compare_lane, restore_scan
from scanbus.schemas.errors import BusUnavailableError, LaneConflictError
from scanbus.schemas.logs import get_logger

__all__ = ["FULL", "Link", "Sender"]

log = get_logger()

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 1.0
# A chunk that is not full by then is sent as it is, if nothing else is on its way.
_IDLE_S = 0.2
_FREE_ROOM_EVERY_S = 1.0
# After a refusal entries go one by one, then batches grow again from here.
_LARGER_BATCH_BYTES = 2**16
# How full Redis may stay after room was made.
FULL = 0.85


@dataclass(slots=True)
class Link:
    """How to reach Redis, and when to stop trying.

    Attributes
    ----------
    url : str
        Its address.
    name : str
        Name of the connections.
    maxmemory_bytes : int
        0 where no limit is set; as last seen.
    stop : threading.Event
        Set when the publisher closes for good.
    room : Evictor
        Knows what could be removed where Redis is full.
    """

    url: str
    name: str
    maxmemory_bytes: int
    stop: threading.Event
    room: Evictor = field(default_factory=Evictor)

    def make_room(self, client: Bus) -> Freed:
        """Free memory where Redis refuses data, as the writer would below that."""
        limit = int(self.maxmemory_bytes * FULL)
        if not limit:
            return Freed()
        return self.room.free(client, limit, kept_scans=KEPT_WHEN_FULL)

    def connect(self) -> Bus:
        """Return a client that connects once."""
        return connect(self.url, name=self.name, once=True)


class Sender(threading.Thread):
    """The thread that sends some lanes of a scan.

    Parameters
    ----------
    queue : ScanQueue
        The scan.
    waker : Waker
        Where it sleeps, and its lanes; nobody else sends them.
    link : Link
        How to reach Redis.
    """

    def __init__(
        self,
        queue: ScanQueue,
        waker: Waker,
        link: Link,
    ) -> None:
        super().__init__(name=f"scanbus-sender-{queue.uid[:8]}", daemon=False)
        self._delivery = queue
        self._waker = waker
        self._link = link
        self._is_main = waker is queue.main_waker
        self._client: Bus | None = None
        self._wait_s = _FIRST_WAIT_S
        self._batch_bytes = MAX_BATCH_BYTES
        self._freed_at = 0.0

    def run(self) -> None:
        """Send until the scan is released or the publisher stops."""
        try:
            while self._await_work():
                self._work()
        except LaneConflictError as error:
            why = self._explained(error)
            log.error("lane_conflict", scan=self._delivery.uid, reason=str(why))  # noqa: TRY400
            self._give_up(why)
        except Exception as error:
            log.exception("sender_failed", scan=self._delivery.uid)
            self._give_up(error)
        finally:
            self._disconnect()

    def _explained(self, error: LaneConflictError) -> LaneConflictError:
        try:
            with translated(self._link.url):
                return explained(self._connected(), self._delivery, error)
        except BusUnavailableError:
            return error

    def _give_up(self, error: Exception) -> None:
        self._delivery.fail(error)
        with self._delivery.lock:
            for lane in self._waker.lanes:
                lane.abandoned = True
            conflict = isinstance(error, LaneConflictError)
            self._delivery.is_lost |= conflict or self._is_main
            self._delivery.main_waker.wake()

    # -------------------------------------------------------------- sleep

    def _await_work(self) -> bool:
        """Sleep until there is something to do; False when there never will be."""
        queue = self._delivery
        while not self._link.stop.is_set():
            if queue.spool is None:
                for lane in self._waker.lanes:
                    tend(queue, lane, _IDLE_S)
            with queue.lock:
                if queue.is_released:
                    return False
                if self._has_work():
                    return True
                self._waker.sleep(self._patience_s())
        return False

    def _has_work(self) -> bool:
        return (
            self._waker.must_compare
            or any(self._has_work_for(lane) for lane in self._waker.lanes)
            or (self._is_main and self._delivery.next_event() is not None)
        )

    def _has_work_for(self, lane: LaneQueue) -> bool:
        if self._delivery.spool is None:
            return lane.has_work
        return self._delivery.may_send(lane)

    def _patience_s(self) -> float:
        # Not for ever even when idle: notifications may be missed at the very end.
        if self._delivery.spool is not None:
            return 1.0
        waits = any(needs_tending(lane) for lane in self._waker.lanes)
        return _IDLE_S if waits else 1.0

    # --------------------------------------------------------------- work

    def _work(self) -> None:
        """Do one round of sending; what Redis refuses is tried again later."""
        try:
            with translated(self._link.url):
                client = self._connected()
                self._compare(client)
                for lane in self._waker.lanes:
                    self._send_lane(client, lane)
                if self._is_main:
                    self._send_events(client)
        except BusUnavailableError as error:
            self._disconnect()
            self._pause(error.reason)
        except NoRoomError as error:
            # A batch goes whole or not at all. There may be room for its first entry,
            # which may end a segment, and that is what makes more room.
            self._batch_bytes = 0
            self._make_room()
            self._pause(error.reason)
        except VanishedError:
            log.warning("lane_vanished", scan=self._delivery.uid)
            # Everybody: others may be idle, and would notice too late.
            self._delivery.request_compare()
        else:
            self._wait_s = _FIRST_WAIT_S
            self._batch_bytes = min(
                2 * self._batch_bytes + _LARGER_BATCH_BYTES, MAX_BATCH_BYTES
            )
            self._delivery.trouble = ""

    def _connected(self) -> Bus:
        if self._client is None:
            self._client = self._link.connect()
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
            self._waker.must_compare = True

    def _compare(self, client: Bus) -> None:
        if not self._waker.must_compare:
            return
        # Before, not after: who asks meanwhile asks for another look.
        self._waker.must_compare = False
        try:
            for lane in self._waker.lanes:
                compare_lane(client, self._delivery, lane)
            restore_scan(client, self._delivery)
        except BaseException:
            self._waker.must_compare = True
            raise

    def _send_lane(self, client: Bus, lane: LaneQueue) -> None:
        queue = self._delivery
        spool = queue.spool
        # What was gathered while the last ones were on their way becomes entries now;
        # where there is a spool, who writes it makes them.
        if (
            spool is None
            and isinstance(lane, ValueLaneQueue)
            and not lane.retransmit.has_unsent
        ):
            encode_gathered(queue, lane)
        with queue.lock:
            if queue.is_released:
                return
            if spool is None:
                lane.seal()
            batch = queue.to_send(lane, self._batch_bytes)
        if not batch:
            return
        if spool is not None:
            batch = [spool.lane(lane.name).load(entry) for entry in batch]
        if isinstance(lane, LateLaneQueue) and not lane.is_made:
            make_lane(client, queue.uid, lane.name)
            lane.is_made = True
        append_entries(client, queue.uid, lane.name, batch)
        queue.note_sent(lane, len(batch))

    def _send_events(self, client: Bus) -> None:
        queue = self._delivery
        while True:
            with queue.lock:
                event = queue.next_event()
            if event is None:
                return
            append_event(client, queue.uid, event)
            with queue.lock:
                queue.n_events_sent += 1
                queue.settled.notify_all()

    # ------------------------------------------------------------ trouble

    def _pause(self, reason: str) -> None:
        queue = self._delivery
        if not queue.trouble:
            log.warning("sending_paused", scan=queue.uid, reason=reason)
        queue.trouble = reason
        self._link.stop.wait(self._wait_s)
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    def _make_room(self) -> None:
        """Free memory that is taken by what files have, of any scan."""
        now = monotonic()
        if self._client is None or now - self._freed_at < _FREE_ROOM_EVERY_S:
            return
        try:
            with translated(self._link.url):
                freed = self._link.make_room(self._client)
        except BusUnavailableError:
            self._disconnect()
            return
        # Looking through all scans is much work: not soon again if it was in vain.
        self._freed_at = 0.0 if freed else now
        if freed:
            log.info(
                "room_freed",
                scan=self._delivery.uid,
                entries=freed.entries,
                scans=freed.scans,
            )
