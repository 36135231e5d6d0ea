"""The writer as a service: finds scans, writes several at once, leaves cleanly.

Its position in the announcements passes only scans with a final verdict, so what began
while no writer ran is found. Each scan is written by a thread of its own; whatever goes
wrong there ends that attempt, is said, and is tried again.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import redis
import structlog

from scanbus.bus import leases, registry, room
from scanbus.bus.connection import Bus, connect, describe_server, translated
from scanbus.bus.registry import ScanRecord
from scanbus.schemas import Verdict
from scanbus.schemas.errors import (
    BusUnavailableError,
    LeaseLostError,
    NameTakenError,
    ScanbusError,
)
from scanbus.writer.custody import LeaseCustody
from scanbus.writer.numbering import raise_numbers
from scanbus.writer.paths import check_root
from scanbus.writer.scan_writer import Pace, ScanWriter, Stopped
from scanbus.writer.settings import WriterSettings
from scanbus.writer.systemd import notify

__all__ = ["Progress", "WriterService", "run_writer"]

log = structlog.get_logger("scanbus.writer")
Progress = Callable[[str, int, int | None], None]
"""Told ``(name, done, total or None)``."""


# Attempts that may end in a way that nobody foresaw before `--once` gives up on a scan.
_MAX_UNEXPECTED = 3


@dataclass(slots=True)
class _Scan:
    """What the service knows of one announced scan."""

    announcement: str
    record: ScanRecord | None
    thread: threading.Thread | None = None
    verdict: Verdict | None = None
    problem: str = ""
    is_blocked: bool = False
    n_unexpected: int = 0
    not_before: float = 0.0
    pauses: list[str] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do for it."""
        if self.record is None:
            return True
        return self.verdict is not None and not self.verdict.provisional

    @property
    def has_verdict(self) -> bool:
        """Whether ``--once`` need not wait for it."""
        return self.is_final or self.is_blocked or self.verdict is not None


class WriterService:
    """All scans of a bus, on their way below one root.

    Parameters
    ----------
    settings : WriterSettings
        Of this process.
    progress : callable
        Told what was written.
    """

    def __init__(
        self, settings: WriterSettings, progress: Progress = lambda *_: None
    ) -> None:
        self._settings = settings
        self._progress = progress
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._client = connect(settings.redis, name="scanbus-writer")
        self._scans: dict[str, _Scan] = {}
        self._seen = "0-0"
        self._position = "0-0"
        self._stop = threading.Event()
        self._next_beat = self._next_trim = 0.0
        self._memory_bytes = settings.memory_bytes
        self._run_id = ""

    def stop(self) -> None:
        """Leave soon; successors finish what is open."""
        self._stop.set()

    def run(self, *, once: bool) -> int:
        """Write scans until stopped, or until every announced one has a verdict.

        Returns
        -------
        int
            With `once`: 0 complete, 2 partial, 3 failed, the worst of all scans;
            else 0.

        Raises
        ------
        BusUnavailableError, BusUnsuitableError
            If the bus cannot be used at the start; later the service waits for it.
        RootUnusableError
            If the root cannot be written.
        """
        check_root(self._settings.root)
        self._look_at_server()
        raise_numbers(self._client, self._settings.root)
        log.info("writer_started", writer=self.name, root=str(self._settings.root))
        notify("READY=1")
        try:
            while not self._stop.is_set():
                self._turn()
                if once and all(scan.has_verdict for scan in self._scans.values()):
                    break
                self._stop.wait(self._settings.poll_s / 2)
        finally:
            self._leave()
        return self._exit_code() if once else 0

    def _turn(self) -> None:
        """One round of everything that the service does itself."""
        try:
            with translated(self._settings.redis):
                self._look_at_server()
                self._beat()
                self._discover()
                self._look_after_interrupted()
                self._start_attempts()
                self._move_position()
                self._free_room()
        except BusUnavailableError as error:
            log.warning("bus_unavailable", reason=str(error))
            self._run_id = ""
            self._stop.wait(self._settings.retry_s / 4)

    def _look_at_server(self) -> None:
        """Look at Redis at the start and after every loss of it."""
        if self._run_id:
            return
        report = describe_server(self._client, self._settings.redis)
        self._run_id = report.run_id
        self._memory_bytes = report.maxmemory_bytes or self._settings.memory_bytes
        for warning in report.warnings:
            log.warning("redis_warning", text=warning)
        # It may have come back empty: everything is announced again then.
        self._position = registry.read_position(self._client)
        self._seen = self._position

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + self._settings.heartbeat_s
        notify("WATCHDOG=1")
        open_scans = [s for s in self._scans.values() if not s.is_final]
        info = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "root": str(self._settings.root),
            "version": version("scanbus"),
            "scans": len(open_scans),
            "problems": [scan.problem for scan in open_scans if scan.problem],
        }
        ttl_ms = int(5 * self._settings.heartbeat_s * 1000)
        registry.beat_writer(self._client, self.name, info, ttl_ms)

    def _discover(self) -> None:
        for line in registry.announcements(self._client, self._seen):
            self._seen = line.id
            if line.document is None:
                log.error("bad_announcement", id=line.id, reason=line.problem)
                self._scans[line.id] = _Scan(line.id, None, problem=line.problem)
                continue
            uid = line.document.scan.uid
            if uid in self._scans:
                self._scans[uid].announcement = line.id
                continue
            record = registry.load_record(self._client, line.document)
            self._scans[uid] = _Scan(line.id, record)
            if record.verdict is not None and not record.verdict.provisional:
                self._scans[uid].verdict = record.verdict

    def _look_after_interrupted(self) -> None:
        """Resume scans whose publisher came back or whose end somebody else wrote."""
        for scan in self._scans.values():
            if scan.record is None or scan.thread or scan.is_final or not scan.verdict:
                continue
            registry.read_events(self._client, scan.record)
            judged = scan.record.verdict
            if judged is not None and not judged.provisional:
                scan.verdict = judged
            elif scan.record.ended or registry.publisher_is_alive(
                self._client, scan.record.uid
            ):
                scan.verdict = None

    def _start_attempts(self) -> None:
        now = time.monotonic()
        for scan in self._scans.values():
            if scan.record is None or scan.thread or scan.verdict:
                continue
            if now < scan.not_before or self._stop.is_set():
                continue
            lease = leases.acquire(
                self._client, scan.record.uid, self.name, self._lease_ms
            )
            if lease is None:
                self._look_at_other_writer(scan)
                continue
            scan.thread = threading.Thread(
                target=self._attempt, args=(scan, lease), name=f"scan-{lease.uid[:8]}"
            )
            scan.thread.start()

    def _look_at_other_writer(self, scan: _Scan) -> None:
        """Take note of the verdict of a scan that another writer has."""
        scan.not_before = time.monotonic() + self._settings.poll_s
        if scan.record is not None:
            registry.read_events(self._client, scan.record)
            scan.verdict = scan.record.verdict

    @property
    def _lease_ms(self) -> int:
        return int(self._settings.lease_s * 1000)

    def _attempt(self, scan: _Scan, lease: leases.Lease) -> None:
        """Try to write one scan; the body of its thread."""
        try:
            with self._handled(scan):
                scan.verdict = self._write(scan, lease)
                scan.problem = ""
        finally:
            scan.not_before = time.monotonic() + self._settings.retry_s
            scan.thread = None

    def _write(self, scan: _Scan, lease: leases.Lease) -> Verdict:
        assert scan.record is not None  # noqa: S101  (only such scans are attempted)
        settings = self._settings
        client = connect(settings.redis, name="scanbus-scan")
        custody = LeaseCustody(client, lease, self._lease_ms)
        pace = Pace(
            flush_s=settings.flush_s,
            poll_s=settings.poll_s,
            master_s=settings.master_s,
            check_s=settings.lease_s / 4,
            read_bytes=settings.read_bytes,
        )
        with translated(settings.redis), client, _given_back(custody):
            record = ScanRecord(scan.record.identity, scan.record.title)
            scan.record = record
            registry.read_events(client, record)
            return ScanWriter(
                client,
                record,
                settings.root,
                custody,
                pace=pace,
                is_stopped=self._stop.is_set,
                on_points=self._progress,
            ).run()

    @contextmanager
    def _handled(self, scan: _Scan) -> Iterator[None]:
        """Say what ended an attempt; the scan stays open and is tried again."""
        try:
            yield
            return
        except Stopped:
            return
        except OSError as error:
            scan.problem = _storage_sentence(error, self._settings)
        except (LeaseLostError, BusUnavailableError) as error:
            scan.problem = str(error)
        except ScanbusError as error:
            scan.problem = f"paused: {error}"
            # Nobody but a human can free a name.
            scan.is_blocked = isinstance(error, NameTakenError)
        except Exception as error:
            scan.problem = f"{type(error).__name__}: {error}"
            scan.n_unexpected += 1
            scan.is_blocked = scan.n_unexpected >= _MAX_UNEXPECTED
            log.exception("attempt_failed", scan=_uid(scan))
        if scan.problem not in scan.pauses:
            scan.pauses.append(scan.problem)
            log.warning("scan_paused", scan=_uid(scan), reason=scan.problem)

    def _move_position(self) -> None:
        for scan in sorted(self._scans.values(), key=lambda s: _order(s.announcement)):
            if not scan.is_final or scan.thread:
                break
            scan.record = None  # Masks and the like are not needed any more.
            if _order(scan.announcement) > _order(self._position):
                self._position = scan.announcement
                registry.move_position(self._client, self._position)

    def _free_room(self) -> None:
        """Trim acknowledged data above the watermark."""
        now = time.monotonic()
        if now < self._next_trim:
            return
        self._next_trim = now + self._settings.poll_s
        budget = room.budget_bytes(self._memory_bytes)
        limit = int(budget * self._settings.watermark)
        if room.used_memory(self._client) > limit:
            room.free_room(self._client, limit)

    def _leave(self) -> None:
        notify("STOPPING=1")
        self._stop.set()
        deadline = time.monotonic() + self._settings.stop_s
        for scan in self._scans.values():
            thread = scan.thread
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        try:
            with translated(self._settings.redis):
                self._move_position()
                registry.forget_writer(self._client, self.name)
        except BusUnavailableError as error:
            log.warning("bus_unavailable", reason=str(error))
        self._client.close()
        log.info("writer_left", writer=self.name)

    def _exit_code(self) -> int:
        codes = [0]
        for scan in self._scans.values():
            if scan.verdict is not None:
                codes.append(scan.verdict.verdict.exit_code)
            elif scan.problem:
                codes.append(3)
        return max(codes)


@contextmanager
def _given_back(custody: LeaseCustody) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            custody.give_back()
        except redis.exceptions.RedisError as error:
            log.warning("lease_not_given_back", reason=str(error))


def _storage_sentence(error: OSError, settings: WriterSettings) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(settings.root).free
        return f"paused: no space on {settings.root} ({free / 1e9:.1f} GB free)"
    return f"paused: cannot write below {settings.root}: {error}"


def _order(stream_id: str) -> tuple[int, int]:
    first, _, second = stream_id.partition("-")
    return int(first), int(second)


def _uid(scan: _Scan) -> str:
    return scan.record.uid if scan.record else ""


def run_writer(
    settings: WriterSettings, *, once: bool = False, progress: Progress | None = None
) -> int:
    """Run the writer in this process until it is asked to leave; return its exit code.

    SIGTERM and SIGINT make it leave within ``stop_s``; a successor finishes.

    Raises
    ------
    BusUnavailableError, BusUnsuitableError, RootUnusableError
        If it cannot start.
    """
    service = WriterService(settings, progress or (lambda *_: None))

    def leave(*_: Any) -> None:
        service.stop()

    before = {sign: signal.signal(sign, leave) for sign in _SIGNALS}
    try:
        return service.run(once=once)
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
