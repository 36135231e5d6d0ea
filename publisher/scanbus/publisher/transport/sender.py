"""Send a scan's entries, each lane in order, also after losses of Redis.

A sender is a thread with its own connection, which does not reconnect by itself: after
a loss the sender connects again, and compares its lanes with Redis before it sends
more. A scan has one for each detector, and one for all small values and the events.
"""

from __future__ import annotations

import threading
from time import monotonic

from scanbus.bus.protocol import EncodedEntry, split_id
from scanbus.bus.store import (
    Backoff,
    Bus,
    NoRoomError,
    VanishedError,
    append_each,
    append_entries,
    append_events,
    end_for_publisher,
    load_record,
    make_lane,
    translated,
)
from scanbus.publisher.ingest.numbered_points import awaits_timeout, flush_overdue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.send_share import SendShare
from scanbus.publisher.queue.value_lane import MAX_BATCH_BYTES
from scanbus.publisher.recovery.closed_scan import find_closed, is_sealed_by_other
from scanbus.publisher.recovery.lost_data import lost_data
from scanbus.publisher.transport.continuation import (
    continue_scan,
    needs_continuation,
)
from scanbus.publisher.transport.redis_link import Link
from scanbus.publisher.transport.reservations import follow_data
from scanbus.publisher.transport.resync import compare_lanes, restore_scan
from scanbus.schemas.errors import (
    BusUnavailableError,
    LaneConflictError,
    NoNumberLeftError,
    SpoolError,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["Sender"]

log = get_logger()

# A chunk that is not full after this time is flushed.
_IDLE_S = 0.2
# After Redis had no room, entries are sent one by one; then batches grow again by this.
_LARGER_BATCH_BYTES = 2**16
# Who closes a scan seals its lanes and ends it within milliseconds.
_CLOSING_S = 5.0
# Lanes with a single entry of at most so many bytes are sent together, so many at most.
_SINGLE_BYTES = 2**14
_MOST_SINGLE = 128
# With more lanes, each sends so few entries one by one: a transaction costs more.
_MANY_LANES = 32
_FEW_ENTRIES = 4


class Sender(threading.Thread):
    """The thread that sends some lanes of a scan.

    Parameters
    ----------
    queue : ScanQueue
        The scan.
    share : SendShare
        The part of it that this thread sends.
    link : Link
        Connection parameters.
    """

    def __init__(
        self,
        queue: ScanQueue,
        share: SendShare,
        link: Link,
    ) -> None:
        super().__init__(name=f"scanbus-sender-{queue.uid[:8]}", daemon=True)
        self._queue = queue
        self._share = share
        self._link = link
        self._client: Bus | None = None
        self._backoff = Backoff()
        self._made: set[str] = set()
        self._sealed_at = 0.0
        self._batch_bytes = MAX_BATCH_BYTES
        # Entries that wait for those of other lanes in this round.
        self._single: list[tuple[LaneQueue, EncodedEntry]] = []

    def run(self) -> None:
        """Send until the scan is released or the publisher stops."""
        try:
            while self._await_work():
                uid = self._queue.uid
                try:
                    self._send_round()
                except LaneConflictError as error:
                    self._continue_or_raise(uid, error)
        except LaneConflictError as error:
            log.error(LogEvent.LANE_CONFLICT, scan=self._queue.uid, reason=str(error))  # noqa: TRY400
            self._give_up(error)
        except Exception as error:
            log.exception(LogEvent.SENDER_FAILED, scan=self._queue.uid)
            self._give_up(error)
        finally:
            self._disconnect()

    def _continue_or_raise(self, uid: str, error: LaneConflictError) -> None:
        """Go on as a new scan, if this one was closed in its publisher's place.

        Raises
        ------
        LaneConflictError
            The error, if it was not; a ScanClosedError, if nothing is left to publish.
        """
        try:
            with translated(self._link.url):
                client = self._connected()
                closed = find_closed(client, self._queue)
                if closed is None and is_sealed_by_other(client, self._queue):
                    self._await_end(client)
                    return
                if closed is not None and needs_continuation(self._queue, closed):
                    continue_scan(client, self._queue, closed)
        except BusUnavailableError as lost:
            self._disconnect()  # The next round meets the conflict again.
            self._pause(lost.reason)
            return
        except (SpoolError, NoNumberLeftError) as none:
            self._pause(str(none))  # As above.
            return
        if uid != self._queue.uid:
            self._made.clear()
            self._share.request_compare()
        elif closed is not None:
            raise closed.error(self._queue) from error
        else:
            raise error

    def _await_end(self, client: Bus) -> None:
        """Wait for the end of a scan that somebody has sealed.

        Whoever it was may have died in between: then the closing is completed.
        """
        now = monotonic()
        self._sealed_at = self._sealed_at or now
        if now - self._sealed_at < _CLOSING_S:
            self._pause("somebody seals its lanes, as if this publisher were gone")
            return
        record = load_record(client, self._queue.announced)
        end_for_publisher(client, record, "closed by somebody who did not end it")

    def _give_up(self, error: Exception) -> None:
        self._share.give_up(error, is_lost=isinstance(error, LaneConflictError))

    # -------------------------------------------------------------- sleep

    def _await_work(self) -> bool:
        """Sleep until there is work; return False when there never will be any."""
        while not self._link.stop.is_set():
            if self._queue.spool is None:
                for lane in self._share.lanes:
                    flush_overdue(self._queue, lane, _IDLE_S)
            has_work = self._share.await_work(self._wait_s)
            if has_work is None:
                return False
            if has_work:
                return True
        return False

    def _wait_s(self) -> float:
        # Bounded even when idle: notifications may be missed at the very end.
        if self._queue.spool is not None:
            return 1.0
        waits = any(awaits_timeout(lane) for lane in self._share.lanes)
        return _IDLE_S if waits else 1.0

    # --------------------------------------------------------------- work

    def _send_round(self) -> None:
        """Send all lanes once; entries that Redis refuses are tried again later."""
        self._single = []
        try:
            with translated(self._link.url):
                client = self._connected()
                self._compare(client)
                for lane in self._share.lanes:
                    self._send_lane(client, lane)
                self._send_single(client)
                if self._share.is_main:
                    self._send_events(client)
        except BusUnavailableError as error:
            self._disconnect()
            self._pause(error.reason)
        except NoRoomError as error:
            # The writer makes room. A batch is accepted as a whole or not at all: there
            # may be room for its first entry; if that ends a segment, there is more.
            self._batch_bytes = 0
            self._pause(error.reason)
        except VanishedError:
            log.warning(LogEvent.LANE_VANISHED, scan=self._queue.uid)
            # All senders: an idle one would notice too late.
            self._queue.watch.request_compare()
        else:
            self._backoff.reset()
            self._batch_bytes = min(
                2 * self._batch_bytes + _LARGER_BATCH_BYTES, MAX_BATCH_BYTES
            )
            self._share.clear_trouble()
            self._sealed_at = 0.0  # The next closing has its own time.

    def _connected(self) -> Bus:
        if self._client is None:
            self._client = self._link.connect()
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
            self._share.request_compare()

    def _compare(self, client: Bus) -> None:
        # Reset before the comparison: a request meanwhile asks for another one.
        if not self._share.take_compare_request():
            return
        try:
            compare_lanes(client, self._queue, self._share.lanes)
            restore_scan(client, self._queue)
        except BaseException:
            self._share.request_compare()
            raise

    def _send_lane(self, client: Bus, lane: LaneQueue) -> None:
        self._share.encode(lane)
        batch = self._share.to_send(lane, self._batch_bytes)
        if not batch:
            return
        if self._queue.spool is not None:
            try:
                batch = [self._loaded(lane, entry) for entry in batch]
            except SpoolError:
                return  # A gap is in its place, and is sent next time.
        if not lane.description.is_declared and lane.name not in self._made:
            make_lane(client, self._queue.uid, lane.name)
            self._made.add(lane.name)
        if len(self._share.lanes) > _MANY_LANES and len(batch) <= _FEW_ENTRIES:
            del batch[1:]  # The others in the next rounds, with those of other lanes.
        if len(batch) == 1 and batch[0].nbytes <= _SINGLE_BYTES:
            self._single.append((lane, batch[0]))
            if len(self._single) >= _MOST_SINGLE:
                self._send_single(client)
            return
        append_entries(client, self._queue.uid, lane.name, batch)
        self._share.note_sent(lane, len(batch))

    def _send_single(self, client: Bus) -> None:
        """Send small entries of many lanes together, one of each lane."""
        single, self._single = self._single, []
        if len(single) == 1:
            ((lane, entry),) = single
            append_entries(client, self._queue.uid, lane.name, [entry])
            self._share.note_sent(lane, 1)
        elif single:
            entries = [(lane.name, entry) for lane, entry in single]
            outcomes = append_each(client, self._queue.uid, entries)
            sent = [
                lane
                for (lane, _), error in zip(single, outcomes, strict=True)
                if error is None
            ]
            for lane in sent:
                self._share.note_sent(lane, 1)
            for error in filter(None, outcomes):
                raise error

    def _loaded(self, lane: LaneQueue, entry: EncodedEntry) -> EncodedEntry:
        """Return an entry with its payload; if it cannot be read, it is lost alone."""
        spool = self._queue.spool
        assert spool is not None
        try:
            return spool.lane(lane.name).load(entry)
        except SpoolError as error:
            first, count = split_id(entry.id)
            lost = lost_data(lane.description, str(error), first, first + count)
            log.error(LogEvent.SPOOL_DAMAGED, scan=self._queue.uid, reason=lost.text)  # noqa: TRY400
            self._share.lose(lane, entry, lost)
            raise

    def _send_events(self, client: Bus) -> None:
        while events := self._share.next_events():
            self._share.note_events_sent(append_events(client, self._queue.uid, events))
        if self._queue.watch.is_fully_sent:
            # At once: the next scan may wait for the room that this one leaves.
            follow_data(client, self._link, self._queue)

    # ------------------------------------------------------------ trouble

    def _pause(self, reason: str) -> None:
        if self._share.note_trouble(reason):
            log.warning(LogEvent.SENDING_PAUSED, scan=self._queue.uid, reason=reason)
        self._link.stop.wait(self._backoff.next_s())
