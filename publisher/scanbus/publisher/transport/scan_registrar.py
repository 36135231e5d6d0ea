"""Open and prepare scans: all calls to Redis that must succeed before data are sent.

Runs in the program's own thread, on its own connection: a scan that cannot start raises
an error in the program, instead of a line in a log.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import time as wall_clock
from typing import Final, TypeVar
from weakref import WeakSet

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import HEARTBEAT_TTL_MS
from scanbus.bus.store import (
    Bus,
    OwnProcess,
    ServerReport,
    announce_claimed,
    append_events,
    connect,
    lanes_in_use,
    make_lanes,
    release_quota,
    session_of,
    translated,
    withdraw_scan,
    writers_alive,
)
from scanbus.publisher.declare.arguments import checked
from scanbus.publisher.declare.lane_plan import Declared
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.queue.inbox import Inbox
from scanbus.publisher.queue.locks import is_own_thread
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.spool import ScanSpool
from scanbus.publisher.transport.left_scans import LeftScans
from scanbus.publisher.transport.redis_link import Link
from scanbus.publisher.transport.reserver import Reserver
from scanbus.publisher.transport.resync import ensure_announced
from scanbus.publisher.transport.retry import retry_until_room
from scanbus.publisher.transport.scan_monitor import ScanMonitor
from scanbus.publisher.transport.scan_number import (
    counted_number,
    release_number,
    take_given_number,
)
from scanbus.publisher.transport.sender import Sender
from scanbus.publisher.transport.server_look import ServerLook
from scanbus.publisher.transport.spool_writer import SpoolWriter
from scanbus.publisher.transport.used_lanes import refuse_used_lanes
from scanbus.schemas import (
    Event,
    ScanAnnounced,
    ScanIdentity,
    ScanPrepared,
    ScanStarted,
)
from scanbus.schemas.errors import (
    BusUnavailableError,
    DeadlineError,
    NoWriterError,
    QuotaRefusedError,
    ScanbusError,
    ScanStateError,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["ScanRegistrar"]

log = get_logger()

_T = TypeVar("_T")
# In an identity that is checked before Redis is asked for its session.
_ANY_SESSION = "00000000"
# A loop of quick scans need not ask before each of them which writers are alive.
_WRITERS_AGE_S = 1.0


class ScanRegistrar:
    """Opens and prepares scans; one per publisher.

    Safe to use from several threads.

    Parameters
    ----------
    link : Link
        Connection parameters.
    monitor : ScanMonitor
        Monitors the scans from their announcement on.
    threads : ThreadPool
        Compresses frames.
    inbox : Inbox
        Where the program's threads hand over points.
    process : OwnProcess
        The process of the publisher.
    heartbeat : str
        Text of the first heartbeat.
    assumed_bytes : int
        Assumed memory of Redis, in bytes, if it has no maxmemory.
    limits : SendLimits
        Longest waits and most bytes kept.
    spool : pathlib.Path, optional
        Folder of the local spool.
    """

    def __init__(
        self,
        link: Link,
        monitor: ScanMonitor,
        threads: ThreadPool,
        inbox: Inbox,
        process: OwnProcess,
        *,
        heartbeat: str,
        assumed_bytes: int,
        limits: SendLimits,
        spool: Path | None,
    ) -> None:
        self._link = link
        self._monitor = monitor
        self._threads = threads
        self._inbox = inbox
        self._process = process
        _registrars.add(self)
        self._heartbeat = heartbeat
        self._limits = limits
        self._spool = spool
        self._client = connect(link.url, name=link.name)
        deadline_s = limits.send_deadline_s
        self._reserver = Reserver(self._client, link, monitor, deadline_s)
        self._server = ServerLook(self._client, link, assumed_bytes)
        self._last_numbers: dict[str, int] = {}
        self.senders: list[Sender | SpoolWriter] = []
        self.left_scans: Final = LeftScans(
            self._client,
            link,
            monitor,
            spool,
            heartbeat=heartbeat,
            make_queue=self._new_queue,
            start=self.start,
        )

    def check_server(self) -> ServerReport:
        """Return what the server is and has; see `ServerLook.check`."""
        return self._server.check()

    def open(
        self, options: ScanOptions, note_opened: Callable[[ScanQueue], None]
    ) -> None:
        """Announce a scan.

        Parameters
        ----------
        note_opened : callable
            Gets the queue before it is announced. If this call is interrupted after
            that, the scan may stand on the bus, and must be ended.

        Raises
        ------
        NoWriterError
            If a writer is required and none is alive.
        BusUnavailableError, BusUnsuitableError
            If Redis does not answer, or is too old.
        DeadlineError
            If Redis has no room in time.
        ScanNumberTakenError
            If the program gave a number that another scan has.
        NoNumberLeftError
            If it gave none, and the largest one that is counted is taken.
        SpoolError
            If the scan's folder in the spool cannot be made.
        ScanStateError
            If the publisher is closed, or its threads have ended.
        """
        self._check_threads()
        try:
            self.check_server()
        except BusUnavailableError:
            # An idle connection may have been closed; the second try makes a new one.
            self.check_server()
        self._call("counting writers", lambda: self._check_writers(options))
        identity = self._call("the scan number", lambda: self._identity(options))
        announced = checked(
            ScanAnnounced, time=wall_clock(), scan=identity, title=options.title
        )
        is_given = options.identity["scan_number"] is not None
        try:
            self._open(announced, note_opened, is_given=is_given)
        except Exception:
            lowered = release_number(self._client, self._link.url, identity)
            self._note_lowered(identity, lowered)
            raise

    def _open(
        self,
        announced: ScanAnnounced,
        note_opened: Callable[[ScanQueue], None],
        *,
        is_given: bool,
    ) -> None:
        uid, root = announced.scan.uid, self._spool
        spool = None if root is None else ScanSpool.make(root, uid)
        queue = self._new_queue(announced, secrets.token_bytes(8), spool)
        self._monitor.watch(queue)
        note_opened(queue)
        try:
            self._announce(queue, is_given=is_given)
        except Exception:
            self._monitor.forget(queue)
            if queue.spool is not None:
                queue.spool.remove()
            raise

    def _new_queue(
        self, announced: ScanAnnounced, session: bytes, spool: ScanSpool | None
    ) -> ScanQueue:
        return ScanQueue(
            announced,
            session,
            inbox=self._inbox,
            limits=self._limits,
            threads=self._threads,
            why_full=partial(self._monitor.why_full, announced.scan.uid),
            spool=spool,
        )

    def reopen(
        self, options: ScanOptions, note_opened: Callable[[ScanQueue], None]
    ) -> None:
        """Go on with a scan that a dead publisher left; see `LeftScans.reopen`.

        Other errors are those of `open`.
        """
        self._check_threads()
        try:
            self.check_server()
        except BusUnavailableError:
            self.check_server()
        self.left_scans.reopen(options, note_opened)

    def _check_threads(self) -> None:
        """Refuse to take data that no thread would send."""
        if self._link.stop.is_set():
            raise ScanStateError(
                "the publisher is closed, or its threads have failed (see the log): "
                "make a new one"
            )

    def _announce(self, queue: ScanQueue, *, is_given: bool) -> None:
        announced, uid = queue.announced, queue.uid
        announcement = self._call(
            f"announcing scan {uid}",
            partial(
                announce_claimed,
                self._client,
                announced,
                is_given=is_given,
                publisher=self._heartbeat,
                ttl_ms=HEARTBEAT_TTL_MS,
            ),
        )
        queue.set_announcement(announcement)
        if queue.spool is not None:
            queue.spool.write_identity(announced, queue.announcement, queue.session)
        log.info(LogEvent.SCAN_ANNOUNCED, scan=uid, number=announced.scan.scan_number)

    def _check_writers(self, options: ScanOptions) -> None:
        if options.require_writer or self._monitor.writers_age_s > _WRITERS_AGE_S:
            self._monitor.note_writers(writers_alive(self._client))
        if options.require_writer and not self._monitor.n_writers:
            raise NoWriterError

    def _identity(self, options: ScanOptions) -> ScanIdentity:
        given = dict(options.identity)
        number: int | None = given["scan_number"]
        given["scan_number"] = 1 if number is None else number
        session = given["session"]
        given["session"] = session or _ANY_SESSION
        identity = checked(ScanIdentity, **given)
        if not session:
            session = session_of(self._client, identity)
            identity = identity.model_copy(update={"session": session})
        folder = identity.dataset_folder
        known = self._last_numbers.get(folder, 0)
        if number is None:
            number = counted_number(self._client, folder, identity.uid, known)
        else:
            take_given_number(self._client, identity)
        self._last_numbers[folder] = max(number, known)
        return identity.model_copy(update={"scan_number": number})

    def prepare(
        self,
        queue: ScanQueue,
        options: ScanOptions,
        declared: Sequence[Declared],
        early: Sequence[Event],
    ) -> None:
        """Reserve the quota, make the lanes, and send the events of the start.

        Parameters
        ----------
        early : sequence of Event
            Events that were added before; they are sent after the start.

        Raises
        ------
        QuotaRefusedError
            If the quota can never fit, or is too small for a lane.
        DeadlineError
            If it does not fit beside other scans, or Redis has no room, in time.
        BusUnavailableError
            If Redis does not answer in time.
        LaneConflictError
            If another publisher publishes a scan of this uid.
        SpoolError
            If the events cannot be written to the spool.
        ScanStateError
            If the publisher's threads have ended.
        """
        self._check_threads()
        try:
            prepared = self._reserver.reserve(
                queue.announced.scan,
                options,
                declared,
                spooled=queue.spool is not None,
            )
        except (QuotaRefusedError, DeadlineError) as error:
            self._withdraw(queue, error)
            raise
        budget = self._link.budget_bytes
        started = ScanStarted(time=wall_clock())
        rest = options.left_over(prepared)
        events: list[Event] = [prepared, started, *rest, *early]
        self._check_lanes_unused(queue, prepared)
        begin = partial(
            queue.begin,
            events,
            prepared.lanes,
            quota_bytes=prepared.quota_bytes,
            most_quota_bytes=options.most_quota_bytes(prepared.quota_bytes, budget),
            compression=options.compression,
            statics=options.statics.unsent(events),
        )
        try:
            self._prepare_bus(queue, prepared, events)
            begin()
        except Exception:
            raise
        except BaseException:
            # Redis may have a part of it: the senders compare, and send what it lacks.
            begin()
            queue.watch.request_compare()
            raise

    def _withdraw(self, queue: ScanQueue, error: Exception) -> None:
        """Leave nothing of a scan that cannot start: no number, no announcement."""
        scan = queue.announced.scan
        try:
            with queue.watch.restoring(), translated(self._link.url):
                queue.watch.mark_lost(error)
                self._monitor.forget(queue)
                lowered = withdraw_scan(self._client, scan, queue.announcement, ())
                self._note_lowered(scan, lowered)
        except BusUnavailableError:
            pass  # A gap in the numbers.
        if queue.spool is not None:
            queue.spool.remove()
        log.warning(LogEvent.SCAN_WITHDRAWN, scan=scan.uid, number=scan.scan_number)

    def _note_lowered(self, scan: ScanIdentity, lowered: int | None) -> None:
        if lowered is not None:
            self._last_numbers[scan.dataset_folder] = lowered

    def _prepare_bus(
        self, queue: ScanQueue, prepared: ScanPrepared, events: Sequence[Event]
    ) -> None:
        uid, client = queue.uid, self._client
        what = f"preparing scan {uid}"
        steps: list[Callable[[], object]] = [
            partial(ensure_announced, client, queue),
            partial(make_lanes, client, uid, [lane.name for lane in prepared.lanes]),
            partial(_append_all, client, uid, events[:2]),
        ]
        if queue.spool is not None:
            steps.insert(1, partial(queue.spool.append_events, events))
        try:
            for step in steps:
                self._call(what, step, retry_unavailable=True)
        except ScanbusError:
            with suppress(BusUnavailableError), translated(self._link.url):
                release_quota(client, uid)
            raise

    def _check_lanes_unused(self, queue: ScanQueue, prepared: ScanPrepared) -> None:
        names = [lane.name for lane in prepared.lanes]
        ask = partial(lanes_in_use, self._client, queue.uid, names)
        what = f"preparing scan {queue.uid}"
        refuse_used_lanes(queue, self._call(what, ask, retry_unavailable=True))

    def start(self, queue: ScanQueue) -> None:
        """Have the threads started that send a scan, unless they were.

        Raises
        ------
        RuntimeError, MemoryError
            If the system allows no more threads; the scan has failed then.
        """
        if queue.is_over or is_own_thread(threading.current_thread()):
            queue.inbox.hand_over_start(partial(self._start, queue))
        else:
            queue.inbox.ask(partial(self._start, queue))

    def _start(self, queue: ScanQueue) -> None:
        """Start them; in the worker's thread, which nothing interrupts."""
        if queue.is_started:
            return
        queue.is_started = True
        senders: list[Sender | SpoolWriter] = [
            Sender(queue, share, self._link) for share in queue.shares()
        ]
        if queue.spool is not None and queue.backlog is not None:
            senders.append(SpoolWriter(queue, queue.backlog, queue.spool))
        self.senders = [each for each in self.senders if each.is_alive()]
        for sender in senders:
            try:
                sender.start()
            except (RuntimeError, MemoryError) as error:
                queue.watch.mark_lost(error)
                raise
            self.senders.append(sender)

    def forsake(self) -> None:
        """Refuse every call in a forked process: threads and sockets are its parent's.

        Without a lock: the thread that holds it may exist in the parent only.
        """
        for queue in self._monitor.unreleased:
            queue.forsake(self._process.error)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(
        self, what: str, call: Callable[[], _T], *, retry_unavailable: bool = False
    ) -> _T:
        return retry_until_room(
            call,
            what=what,
            url=self._link.url,
            deadline_s=self._limits.send_deadline_s,
            retry_unavailable=retry_unavailable,
        )


def _append_all(client: Bus, uid: str, events: Sequence[Event]) -> None:
    while events:
        events = events[append_events(client, uid, events) :]


_registrars: WeakSet[ScanRegistrar] = WeakSet()


def _forsake_all() -> None:
    for registrar in tuple(_registrars):
        registrar.forsake()


os.register_at_fork(after_in_child=_forsake_all)
