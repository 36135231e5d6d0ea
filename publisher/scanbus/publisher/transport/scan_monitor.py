"""Monitor all scans of a publisher: durable points, heartbeats, verdicts.

One thread with its own connection, so that a slow lane does not delay it. It also shuts
down the publisher's threads: when the publisher closes, or when the program ends
without closing it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from scanbus.bus.protocol import HEARTBEAT_S, HEARTBEAT_TTL_MS, ScanRecord
from scanbus.bus.store import (
    Backoff,
    Bus,
    LoopGuard,
    beat_publisher,
    beat_publishers,
    end_publisher_beat,
    has_keys,
    load_record,
    missing_keys,
    ping,
    read_cursors,
    read_events,
    release_quota,
    translated,
    wait_for_events,
    why_held,
    why_paused,
    writers_alive,
)
from scanbus.publisher.queue.locks import is_own_thread
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.recovery.closed_scan import closed_by_verdict
from scanbus.publisher.transport.continuation import continue_scan
from scanbus.publisher.transport.redis_link import Link
from scanbus.publisher.transport.reservations import ReservationFollower
from scanbus.publisher.transport.resync import expected_keys, restore_scan
from scanbus.publisher.transport.watch_rhythm import CursorRhythm, KeyRhythm
from scanbus.schemas.errors import BusUnavailableError, ScanStateError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["ScanMonitor"]

log = get_logger()

_TICK_S = 0.05
_FAST_TICK_S = 0.01
# What the publisher said itself need not be read again.
_OF_THE_WRITER = (b"renumbered", b"judged")
# Verdicts are noticed when they arrive; this interval is for a Redis that lost some.
_VERDICT_POLL_S = 1.0


class ScanMonitor(threading.Thread):
    """The thread that monitors the scans of one publisher.

    Parameters
    ----------
    link : Link
        Connection parameters.
    publisher : str
        Text of the heartbeat.
    on_exit : callable
        Called once when the program ends without closing the publisher.
    on_end : callable
        Called last, with the scans that have no verdict by then.
    """

    def __init__(
        self,
        link: Link,
        publisher: str,
        *,
        on_exit: Callable[[], None],
        on_end: Callable[[list[ScanQueue]], None],
    ) -> None:
        super().__init__(name="scanbus-monitor", daemon=True)
        self._link = link
        self._publisher = publisher
        self._on_exit = on_exit
        self._on_end = on_end
        # Without a lock: each use of it is one step.
        # By their id: a scan that was closed goes on with another uid.
        self._scans: dict[int, ScanQueue] = {}
        self._records: dict[str, ScanRecord] = {}
        self._tick = threading.Event()
        self._close_at: float | None = None
        self._is_hurried = False
        self._client: Bus | None = None
        self._guard = LoopGuard("monitor", link.url)
        self._was_lost = False
        self._was_refused = False
        self._heartbeat_at = -HEARTBEAT_S
        self._verdict_poll_at = 0.0
        self._lost_keys: dict[str, list[str]] = {}
        self._cursor_rhythm = CursorRhythm(_TICK_S)
        self._reservations = ReservationFollower(link)
        self._key_rhythm = KeyRhythm()
        self._news: set[str] = set()
        self._wait_s = _TICK_S
        self._backoff = Backoff(2 * _TICK_S)
        self._writers: Mapping[str, dict[str, Any]] = {}
        self._writers_at = -math.inf
        self._failure = ""

    # ----------------------------------------------------- for other threads

    def watch(self, queue: ScanQueue) -> None:
        """Monitor one more scan, until it is released."""
        self._scans[id(queue)] = queue

    def forget(self, queue: ScanQueue) -> None:
        """Do not monitor a scan that was not announced."""
        self._scans.pop(id(queue), None)
        queue.watch.release(None)

    @property
    def n_writers(self) -> int:
        """Number of writers that are alive, when last looked for."""
        return len(self._writers)

    def note_writers(self, writers: Mapping[str, dict[str, Any]]) -> None:
        """Note which writers are alive, and what they say."""
        self._writers, self._writers_at = writers, monotonic()

    @property
    def writers_age_s(self) -> float:
        """How long ago was looked which writers are alive, in seconds."""
        return monotonic() - self._writers_at

    def why_full(self, uid: str) -> str:
        """Return why nothing of a scan becomes durable, in the words of its writer."""
        if not self._writers:
            return "no writer alive"
        return why_paused(self._writers, uid) or "writer is behind"

    def why_held(self) -> str:
        """Return why scans keep what they have reserved, as the writers say."""
        if not self._writers:
            return "no writer alive"
        return why_held(self._writers) or "the writer has not written them yet"

    @property
    def unreleased(self) -> list[ScanQueue]:
        """The scans that are not released."""
        return list(self._scans.values())

    def close_within(self, timeout_s: float) -> None:
        """End when all scans are released, at the latest after `timeout_s`."""
        self._close_at = monotonic() + timeout_s
        self._tick.set()

    @property
    def failure(self) -> str:
        """What ended it although the publisher was not closed; empty if nothing did."""
        return self._failure

    @property
    def is_hurried(self) -> bool:
        """Whether the program does not want to wait for anything."""
        return self._is_hurried

    def leave_at_once(self) -> None:
        """End now, and wait for nothing."""
        self._is_hurried = True
        self.close_within(0)

    # ------------------------------------------------------------------ run

    def run(self) -> None:
        """Monitor the scans until the publisher is closed."""
        try:
            while not self._is_done():
                with self._guard.attempt("monitor"):
                    self._poll()
                with self._guard.attempt("wait"):
                    self._wait()
        except BaseException as error:
            log.exception(LogEvent.MONITOR_FAILED)
            why = f"the publisher's monitor has failed: {type(error).__name__} {error}"
            self._failure = why
            for queue in self.unreleased:
                queue.fail(ScanStateError(why))
        finally:
            try:
                self._on_end(self.unreleased)
            finally:
                self._link.stop.set()  # No scan is opened any more.
                self._disconnect()

    def _is_done(self) -> bool:
        if self._close_at is None:
            if _has_program_ended():
                # Without closing the publisher; the interpreter waits for the worker,
                # which ends after this thread.
                with self._guard.attempt("end the scans"):
                    self._on_exit()
            return False
        return not self.unreleased or monotonic() >= self._close_at

    def _poll(self) -> None:
        scans = self.unreleased
        if not scans:
            return
        try:
            with translated(self._link.url):
                client = self._connected(scans)
            for what, look in (
                ("send heartbeats", self._send_heartbeats),
                ("read cursors", self._note_cursors),
                ("follow reservations", self._follow_reservations),
                ("look for verdicts", self._poll_verdicts),
            ):
                # One that Redis refuses does not keep the others from running.
                with self._guard.attempt(what):
                    look(client, scans)
        except BusUnavailableError as error:
            self._disconnect()
            if not self._was_lost:
                log.warning(LogEvent.BUS_LOST, reason=error.reason)
            self._was_lost = True
            self._wait_s = self._backoff.next_s()
        else:
            self._note_success(scans)

    def _note_success(self, scans: list[ScanQueue]) -> None:
        if self._guard.is_failing:
            self._was_refused = True
            self._wait_s = self._backoff.next_s()
            return
        if self._was_refused:
            # Nobody knows what happened to Redis meanwhile.
            self._was_refused = False
            for queue in scans:
                queue.watch.request_compare()
        self._backoff.reset()
        self._wait_s = _FAST_TICK_S if self._needs_fast_ticks(scans) else _TICK_S

    def _needs_fast_ticks(self, scans: list[ScanQueue]) -> bool:
        """Return whether a send waits for room, or a verdict is due soon."""
        return any(
            queue.has_blocked_send or (queue.is_over and queue.uid not in self._records)
            for queue in scans
        )

    def _wait(self) -> None:
        """Wait until the next poll; shorter if an event of a scan arrives."""
        if self._client is not None and self._records and not self._was_refused:
            try:
                with translated(self._link.url):
                    records, wait_ms = self._records.values(), int(self._wait_s * 1000)
                    self._news |= wait_for_events(self._client, records, wait_ms)
            except BusUnavailableError as error:
                log.debug(LogEvent.WAIT_CUT_SHORT, reason=error.reason)
            else:
                return
        self._tick.wait(self._wait_s)
        self._tick.clear()

    def _connected(self, scans: list[ScanQueue]) -> Bus:
        if self._client is not None:
            return self._client
        client = self._link.connect()
        ping(client)
        self._client = client
        if self._was_lost:
            log.warning(LogEvent.BUS_RESTORED)
            self._was_lost = False
        # With every new connection, also the first: idle lanes would never notice that
        # Redis came back without them.
        for queue in scans:
            queue.watch.request_compare()
        # At once: heartbeats may have expired while Redis was unavailable.
        self._heartbeat_at = -HEARTBEAT_S
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _note_cursors(self, client: Bus, scans: list[ScanQueue]) -> None:
        due = self._cursor_rhythm.due(scans, monotonic())
        lanes = [(queue, lane) for queue in due for lane in list(queue.lanes)]
        pairs = [(queue.uid, lane) for queue, lane in lanes]
        points = read_cursors(client, pairs)
        for (queue, lane), (uid, _), point in zip(lanes, pairs, points, strict=True):
            queue.watch.note_durable(lane, point, of=uid)

    def _follow_reservations(self, client: Bus, scans: list[ScanQueue]) -> None:
        for queue in self._reservations.due(scans):
            with self._guard.attempt("follow its reservation", queue.uid):
                self._reservations.follow(client, queue)

    def _send_heartbeats(self, client: Bus, scans: list[ScanQueue]) -> None:
        now = monotonic()
        if now - self._heartbeat_at < HEARTBEAT_S:
            return
        self._heartbeat_at = now
        with self._guard.attempt("send heartbeats"):
            by_uid = {queue.uid: queue for queue in scans}
            for uid in beat_publishers(client, list(by_uid), HEARTBEAT_TTL_MS):
                self._put_back_heartbeat(client, by_uid[uid])
        if self._key_rhythm.wants_writers(scans):
            with self._guard.attempt("look for writers"):
                self.note_writers(writers_alive(client))
        with self._guard.attempt("look for lost keys"):
            self._look_for_losses(client, scans)

    def _look_for_losses(self, client: Bus, scans: list[ScanQueue]) -> None:
        """Have senders put back what vanished while the connection stayed open."""
        watched = [queue for queue in scans if not queue.watch.is_lost]
        found = [(queue, expected_keys(queue)) for queue in watched]
        # One that continues a closed scan is announced by its sender.
        by_uid = {keys.uid: queue for queue, keys in found if keys}
        wanted = expected = [keys for _, keys in found if keys]
        before = self._lost_keys
        is_each_there = not before and has_keys(client, expected)
        suspects = self._key_rhythm.next_whole(expected)
        if is_each_there:
            wanted = suspects
        self._lost_keys = missing_keys(client, wanted, is_each_there=is_each_there)
        for uid, keys in self._lost_keys.items():
            if before.get(uid) != keys:
                log.warning(LogEvent.KEYS_LOST, scan=uid, keys=keys)
            with self._guard.attempt("put back its keys", uid):
                self._restore(client, by_uid[uid])

    def _restore(self, client: Bus, queue: ScanQueue) -> None:
        if queue.watch.has_senders:
            queue.watch.request_compare()
        else:
            restore_scan(client, queue)

    def _put_back_heartbeat(self, client: Bus, queue: ScanQueue) -> None:
        if queue.watch.has_senders:
            self._beat(client, queue)
            return
        with queue.watch.restoring() as is_needed:
            if is_needed:  # Not withdrawn meanwhile.
                self._beat(client, queue)

    def _beat(self, client: Bus, queue: ScanQueue) -> None:
        if not beat_publisher(client, queue.uid, self._publisher, HEARTBEAT_TTL_MS):
            # It expired, or Redis was emptied while the connection stayed open.
            queue.watch.request_compare()

    def _poll_verdicts(self, client: Bus, scans: list[ScanQueue]) -> None:
        now = monotonic()
        is_round = now >= self._verdict_poll_at
        if is_round:
            self._verdict_poll_at = now + _VERDICT_POLL_S
        for uid in self._records.keys() - {queue.uid for queue in scans}:
            del self._records[uid]
        for queue in scans:
            with self._guard.attempt("look for its verdict", queue.uid):
                self._poll_verdict(client, queue, is_round=is_round)
        self._news.clear()

    def _poll_verdict(self, client: Bus, queue: ScanQueue, *, is_round: bool) -> None:
        if not queue.is_over:
            if is_round and queue.has_blocked_send:
                self._continue_if_judged(client, queue)
            return
        is_sent = queue.watch.is_fully_sent or queue.watch.is_lost
        if not is_sent:
            # Redis may have lost events that were read, and is asked for all again. A
            # writer with the whole scan on its disk has judged it before all is sent
            # again: it takes no more, so the rest would wait for ever.
            self._records.pop(queue.uid, None)
        is_known = queue.uid in self._records and queue.uid not in self._news
        is_news = is_sent and not is_known
        if (is_news or is_round) and self._release_if_judged(client, queue):
            # Not while a sender restores the scan: it would reserve the quota
            # again, and nobody would release it.
            with queue.watch.restoring():
                release_quota(client, queue.uid)
                if not queue.watch.is_lost:
                    end_publisher_beat(client, queue.uid)
            self._remove(queue)
        elif queue.watch.is_lost:
            self._remove(queue)

    def _continue_if_judged(self, client: Bus, queue: ScanQueue) -> None:
        """Let a scan go on as another if it was closed, and Redis has lost how.

        Nothing of it becomes durable any more, so a send would wait in vain.
        """
        announced = queue.announced
        verdict = load_record(client, announced).final_verdict
        if verdict is None:
            return
        closed = closed_by_verdict(queue, announced.scan.uid, verdict)
        if closed is not None:
            continue_scan(client, queue, closed)

    def _release_if_judged(self, client: Bus, queue: ScanQueue) -> bool:
        announced = queue.announced
        uid = announced.scan.uid  # A sender may let the queue go on as another scan.
        record = self._records.setdefault(
            uid, ScanRecord(announced.scan, announced.title)
        )
        read_events(client, record, only=_OF_THE_WRITER)
        verdict = record.final_verdict
        if verdict is None:
            return False
        if record.renumbered is not None:
            log.warning(
                LogEvent.SCAN_RENUMBERED,
                scan=uid,
                number=record.identity.scan_number,
                reason=record.renumbered.text,
            )
        if not queue.watch.is_lost:
            closed = closed_by_verdict(queue, uid, verdict)
            if closed is not None:
                continue_scan(client, queue, closed)
                return False
        queue.watch.release(None if queue.watch.is_lost else verdict)
        return True

    def _remove(self, queue: ScanQueue) -> None:
        self._scans.pop(id(queue), None)
        self._records.pop(queue.uid, None)
        self._guard.forget(queue.uid)
        if not queue.is_released:
            queue.watch.release(None)


def _has_program_ended() -> bool:
    """Return whether the program has no thread any more that could send points."""
    return not threading.main_thread().is_alive() and all(
        thread.daemon or is_own_thread(thread) or not thread.is_alive()
        for thread in threading.enumerate()
    )
