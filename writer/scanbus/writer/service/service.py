"""The writer service: finds announced scans, writes them concurrently, stops cleanly.

Its position in the announcements passes only scans with a final verdict, so scans that
started while no writer was running are found. Each scan is a :class:`ScanTask`. Files
are written by workers, processes that are replaced when they die.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from collections.abc import Callable
from importlib.metadata import version

from scanbus.bus.protocol import (
    HEARTBEATS_TO_LAPSE,
    ScanRecord,
)
from scanbus.bus.store import (
    Bus,
    LoopGuard,
    acquire_lease,
    announcements,
    beat_writer,
    connect,
    describe_server,
    id_order,
    load_announced,
    load_record,
    move_position,
    publisher_is_alive,
    read_events,
    read_final_verdict,
    read_position,
    remove_lapsed_writers,
    remove_traces,
    remove_writer,
    translated,
    wait_for_announcement,
    was_forgotten,
)
from scanbus.schemas import ScanAnnounced, Verdict, VerdictWord
from scanbus.schemas.errors import BusUnavailableError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.systemd import notify
from scanbus.writer.scan.disk_space import FreeSpace
from scanbus.writer.service.bus_memory import BusMemory
from scanbus.writer.service.file_systems import FileSystems
from scanbus.writer.service.interrupted import close_if_overdue
from scanbus.writer.service.lease_renewal import renew_stale
from scanbus.writer.service.metrics import Metrics, NoMetrics, make_metrics
from scanbus.writer.service.numbering import NumberDesk
from scanbus.writer.service.ownership import Ownership
from scanbus.writer.service.reservations import Reservations
from scanbus.writer.service.scan_task import ScanTask
from scanbus.writer.service.worker_link import Progress
from scanbus.writer.service.worker_pool import Launch, WorkerPool, launch_process
from scanbus.writer.settings import WriterSettings

__all__ = ["WriterService"]

log = get_logger()

# Each scan that is written takes threads and memory, so each worker writes so many of a
# backlog at once, in their order; scans that go on sending do not wait for it.
_MOST_AT_ONCE = 16
# Interval of looks for reservations without publisher; each reads such scans' events.
_RESERVATIONS_S = 5.0


class WriterService:
    """Writes all scans of one bus below one root.

    Parameters
    ----------
    settings : WriterSettings
        Settings of this process.
    progress : callable or None
        Called with ``(channel, points stored, points expected or None)``.
    launch : callable
        Starts a worker: in a process of its own, or for tests in a thread.
    """

    def __init__(
        self,
        settings: WriterSettings,
        progress: Progress | None = None,
        *,
        launch: Launch = launch_process,
    ) -> None:
        self._settings = settings
        self._pool = WorkerPool(settings, progress, launch)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._client = self._connect()
        self._guard = LoopGuard("writer", settings.redis)
        self._wait_guard = LoopGuard("writer", settings.redis)
        self._tasks: dict[str, ScanTask] = {}
        self._announced_again: dict[str, ScanAnnounced] = {}
        self._worst_exit_code = ExitCode.COMPLETE
        self._seen = self._position = "0-0"
        self._may_be_announced = True
        # Not a threading.Event: a signal handler that sets one deadlocks if it has
        # interrupted the thread that holds the event's lock.
        self._is_stopping = False
        self._due: dict[str, float] = {}
        self._is_server_checked = False
        self._free = FreeSpace(settings.root)
        self._file_systems = FileSystems(settings.root, settings.allowed_roots)
        self._ownership = Ownership(settings, self.name)
        self._numbers = NumberDesk(settings)
        self._memory = BusMemory(settings)
        self._reservations = Reservations()
        self._metrics: Metrics = NoMetrics()

    @property
    def stalled(self) -> list[str]:
        """Sentences about the scans whose attempts are still running."""
        return [
            task.trouble or f"scan {task.uid} does not stop"
            for task in self._tasks.values()
            if task.is_running
        ]

    def stop(self) -> None:
        """Request a stop; successors finish open scans. Safe in a signal handler."""
        self._is_stopping = True

    def run(self, *, once: bool) -> ExitCode:
        """Write scans until stopped, or until every announced one has a verdict.

        Returns
        -------
        ExitCode
            With `once` the worst exit code of all scans, else ``COMPLETE``.

        Raises
        ------
        BusUnavailableError, BusUnsuitableError
            If the bus cannot be used at the start; later the service waits for it.
        NoRootError, RootConflictError, RootUnusableError
            If the root was never made one, the bus has another one, or files cannot be
            written below it.
        ConfigurationError
            If the metrics port cannot be used.
        WorkerFailedError
            If the worker processes cannot start.
        """
        # First of all: what is no root is not written to.
        self._file_systems.begin()
        self._pool.open()
        try:
            self._start_up()
        except BaseException:
            self._pool.kill()
            raise
        try:
            while not self._is_stopping:
                is_up = self._run_round()
                if once and is_up and all(t.is_settled for t in self._tasks.values()):
                    break
                self._wait_for_next_round(is_up=is_up)
        finally:
            self._shut_down()
        codes = (task.exit_code for task in self._tasks.values())
        return max([self._worst_exit_code, *codes]) if once else ExitCode.COMPLETE

    def _start_up(self) -> None:
        """Check everything that the service needs, while the workers start."""
        with translated(self._settings.redis):
            self._check_server()
            self._memory.refuse_small(self._client)
            self._ownership.begin(self._client, lambda: self._is_stopping)
        self._numbers.open()
        self._metrics = make_metrics(self._settings.metrics_port)
        self._pool.wait_ready()
        log.info(
            LogEvent.WRITER_STARTED,
            writer=self.name,
            root=str(self._settings.root),
            workers=self._pool.pids,
        )
        notify("READY=1")

    def _run_round(self) -> bool:
        """Run all periodic tasks once; return False if Redis is unavailable.

        An error of one task is logged once and does not keep the others from running:
        heartbeat and leases must be renewed whatever is wrong with a single scan.
        """
        try:
            with self._guard.attempt("look after the workers"):
                self._pool.look_after()
            with self._guard.attempt("check the server"):
                self._check_server()
            for name, task in self._periodic_tasks():
                with self._guard.attempt(name):
                    task()
        except BusUnavailableError as error:
            if self._is_server_checked:
                log.warning(LogEvent.BUS_LOST, reason=str(error))
            self._is_server_checked = False
            self._client.close()
            self._client = self._connect()
            return False
        return self._is_server_checked

    def _periodic_tasks(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        urgent = (
            ("send the heartbeat", self._send_heartbeat),
            ("renew leases", self._renew_leases),
        )
        if not self._is_server_checked:
            return urgent  # What Redis holds is not known yet.
        return (
            *urgent,
            ("answer requests", self._take_requests),
            ("find scans", self._discover),
            ("restore verdicts", self._restore_verdicts),
            ("resume interrupted scans", self._resume_interrupted),
            ("start attempts", self._start_attempts),
            ("move the position", self._move_position),
            ("follow reservations", self._follow_reservations),
            ("free memory of Redis", self._evict),
        )

    def _connect(self) -> Bus:
        # once: no reconnection between two commands, as Redis may have lost data.
        return connect(self._settings.redis, name="scanbus-writer", once=True)

    def _wait_for_next_round(self, *, is_up: bool) -> None:
        """Wait until the next round is due, or until a scan is announced."""
        wait_s = self._settings.poll_s / 2
        self._may_be_announced = True
        # While a task fails, there may be announcements that are not taken: no wait.
        if is_up and not self._guard.is_failing:
            try:
                with self._wait_guard.attempt("wait for announcements"):
                    seen, wait_ms = self._seen, int(wait_s * 1000)
                    self._may_be_announced = wait_for_announcement(
                        self._client, seen, wait_ms, requests_after=self._numbers.seen
                    )
                    return
            except BusUnavailableError as error:
                log.debug(LogEvent.WAIT_CUT_SHORT, reason=str(error))
        time.sleep(wait_s)

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    def _check_server(self) -> None:
        """Check Redis at the start and after every loss of the connection."""
        if self._is_server_checked:
            return
        report = describe_server(self._client, self._settings.redis)
        for warning in report.warnings:
            log.warning(LogEvent.BUS_WARNING, problem=warning)
        remove_lapsed_writers(self._client)
        self._ownership.restore(self._client)
        # It may have come back empty: everything is announced again then.
        self._seen = self._position = read_position(self._client)
        self._may_be_announced = True
        self._numbers.seen = "0-0"
        self._is_server_checked = True

    def _send_heartbeat(self) -> None:
        every_s = self._settings.heartbeat_s
        if not self._is_due("beat", every_s):
            return
        notify("WATCHDOG=1")
        self._ownership.restore(self._client)
        self._file_systems.look()
        unfinished = [task for task in self._tasks.values() if not task.is_final]
        for task in unfinished:
            task.warn_if_stalled()
        self._metrics.state(
            unfinished=len(unfinished),
            in_trouble=sum(1 for task in unfinished if task.trouble),
            free_bytes=self._free.measure(),
        )
        paused = {task.uid: task.trouble for task in unfinished if task.trouble}
        info = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "root": str(self._settings.root),
            "root_id": self._ownership.root_id,
            "beats": self._ownership.n_beats,
            "version": version("scanbus"),
            "answers_requests": True,
            "scans": len(unfinished),
            "problems": [
                *self._pool.problems,
                *self._ownership.problems,
                *paused.values(),
                *self._file_systems.problems,
            ],
            # By scan: its publisher quotes it to whoever waits.
            "paused": paused,
        }
        ttl_ms = int(HEARTBEATS_TO_LAPSE * every_s * 1000)
        beat_writer(self._client, self.name, info, ttl_ms)

    def _renew_leases(self) -> None:
        """Renew the leases of running attempts, which may wait for a slow disk."""
        if self._is_due("renew", self._settings.lease_s / 8):
            running = (task.running for task in self._tasks.values())
            attempts = [each for each in running if each is not None]
            renew_stale(self._client, attempts, self._guard)

    def _take_requests(self) -> None:
        if self._may_be_announced:
            self._numbers.take_new(self._client)

    def _discover(self) -> None:
        if not self._may_be_announced:
            return  # A wait that ended without one leaves nothing to read.
        for line in announcements(self._client, self._seen):
            self._seen = line.id
            if line.document is None:
                log.error(LogEvent.BAD_ANNOUNCEMENT, id=line.id, reason=line.problem)
                later = line.later_uid
                key = later or line.id
                self._tasks[key] = ScanTask(
                    line.id, None, line.problem, later_uid=later
                )
                continue
            uid = line.document.scan.uid
            if uid in self._tasks:
                self._tasks[uid].announced_again(line.id)
                self._announced_again[uid] = line.document
                continue
            record = load_announced(self._client, line.id, line.document)
            if record is None:
                continue
            retry_s = self._settings.retry_s
            self._tasks[uid] = ScanTask(line.id, record, retry_s=retry_s)

    def _restore_verdicts(self) -> None:
        """Reopen scans announced again whose verdicts Redis has lost."""
        for uid, document in tuple(self._announced_again.items()):
            task = self._tasks[uid]
            if task.is_running or task.verdict is None:
                continue  # Its current or next attempt publishes the verdict.
            del self._announced_again[uid]
            record = load_record(self._client, document)
            said = record.final_verdict if task.is_final else record.verdict
            if said is None:
                task.reopen(record)

    def _resume_interrupted(self) -> None:
        """Resume interrupted scans that ended or whose publisher came back."""
        if not self._is_due("interrupted", self._settings.heartbeat_s / 2):
            return
        for task in self._tasks.values():
            if task.is_running or task.is_final:
                continue
            if task.record is None:
                with self._guard.attempt("look for news", task.uid):
                    self._look_if_closed(task)
                continue
            if task.verdict is None:
                continue
            with self._guard.attempt("look for news", task.uid):
                self._resume_if_news(task, task.record)

    def _look_if_closed(self, task: ScanTask) -> None:
        """End the wait for a later version of scanbus if the scan was closed."""
        verdict = read_final_verdict(self._client, task.uid)
        if verdict is not None or self._is_removed(task):
            task.close(verdict or Verdict(uid=task.uid, verdict=VerdictWord.FAILED))

    def _resume_if_news(self, task: ScanTask, record: ScanRecord) -> None:
        is_news = task.read_news(self._client)
        if record.final_verdict is not None:
            task.accept_verdict()
        elif publisher_is_alive(self._client, task.uid):
            task.interrupted_at = math.inf
            task.resume()
        elif (
            (record.ended and (is_news or task.is_worth_a_look))
            or self._is_removed(task)
        ) or close_if_overdue(self._client, task, self._settings, self.name):
            task.resume()

    def _start_attempts(self) -> None:
        tasks = tuple(self._tasks.values())
        n_free = _MOST_AT_ONCE * self._settings.workers
        n_free -= sum(task.is_running and not task.trouble for task in tasks)
        for task in tasks:
            if task.record is None or not task.is_due or self._is_stopping:
                continue
            if not self._pool.is_ready:
                return  # Their leases are free for another writer meanwhile.
            with self._guard.attempt("start an attempt", task.uid):
                if n_free > 0 or not (task.is_new or task.can_wait(self._client)):
                    self._start_attempt(task, task.record)
                    n_free -= 1

    def _start_attempt(self, task: ScanTask, record: ScanRecord) -> None:
        lease_ms = int(self._settings.lease_s * 1000)
        lease = acquire_lease(self._client, task.uid, self.name, lease_ms)
        if lease is None:
            self._follow_other_writer(task)
        elif self._is_removed(task):
            # Another writer finished it and it was removed from Redis. With the
            # lease held, no other process removes its traces now.
            remove_traces(self._client, lease, record)
            self._announced_again.pop(task.uid, None)
            self._drop(task.uid)
        else:
            # The attempt asks for the id of the bus: not only with the next heartbeat.
            self._ownership.restore(self._client)
            task.start(self._client, lease, self._pool)

    def _is_removed(self, task: ScanTask) -> bool:
        return was_forgotten(self._client, task.announcement, task.uid)

    def _follow_other_writer(self, task: ScanTask) -> None:
        """Read the verdict of a scan that another writer has the lease of."""
        task.defer(self._settings.poll_s)
        if task.record is not None:
            read_events(self._client, task.record)
            task.accept_verdict()

    def _move_position(self) -> None:
        """Advance the position up to the first scan that is not final.

        Also count new verdicts, and release the contents of final scans.
        """
        before = self._position
        is_first = True
        for key, task in sorted(
            self._tasks.items(), key=lambda each: id_order(each[1].announcement)
        ):
            # A scan announced again may have to be judged again: do not pass it yet.
            if not task.is_final or task.is_running or key in self._announced_again:
                is_first = False
                continue
            if task.given_up is not None:
                self._numbers.note_given_up(task.given_up)
            judged = task.take_own_verdict()
            if judged is not None:
                self._metrics.judged(judged)
            if is_first:
                self._position = max(self._position, task.announcement, key=id_order)
                self._worst_exit_code = max(self._worst_exit_code, task.exit_code)
                self._drop(key)
            else:
                # The position cannot pass it while an earlier scan is interrupted;
                # thousands of scans may wait like this.
                task.release_content()
        if self._position != before:
            move_position(self._client, self._position)

    def _drop(self, uid: str) -> None:
        del self._tasks[uid]
        self._guard.forget(uid)

    def _follow_reservations(self) -> None:
        if self._is_due("reservations", _RESERVATIONS_S):
            records = {
                uid: task.record
                for uid, task in self._tasks.items()
                if task.record is not None and not task.is_final
            }
            self._reservations.follow(self._client, records)

    def _evict(self) -> None:
        if self._is_due("room", self._settings.poll_s) and self._memory.free(
            self._client
        ):
            self._pool.need_masters()

    def _shut_down(self) -> None:
        notify("STOPPING=1")
        self._is_stopping = True
        self._pool.stop(time.monotonic() + self._settings.stop_s)
        stalled = self.stalled
        self._pool.kill()
        try:
            with self._guard.attempt("leave"):
                self._move_position()
                remove_writer(self._client, self.name)
        except BusUnavailableError as error:
            log.warning(LogEvent.BUS_LOST, reason=str(error))
        self._numbers.close()
        self._ownership.end()
        self._client.close()
        self._metrics.close()
        log.info(LogEvent.WRITER_LEFT, writer=self.name, stalled=stalled)
