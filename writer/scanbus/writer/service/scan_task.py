"""One announced scan in the service: its attempts, their errors, and the verdict.

Each attempt runs in a separate thread. Any error ends the attempt, is logged once, and
is followed by another attempt. Only a name taken by another file needs an operator.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import Bus, Lease, connect, read_events, translated
from scanbus.schemas import Verdict
from scanbus.schemas.errors import (
    BusUnavailableError,
    LeaseLostError,
    NameTakenError,
    ScanbusError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.scan.commit_queue import Stopped
from scanbus.writer.scan.disk_space import errno_of, is_full, storage_sentence
from scanbus.writer.scan.entry_sandbox import Sandbox
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.scan.write_authority import LeaseAuthority
from scanbus.writer.settings import WriterSettings
from scanbus.writer.steps import Steps

__all__ = ["Progress", "ScanTask"]

log = get_logger()
Progress = Callable[[str, int, int | None], None]
"""Called with ``(name, done, total or None)``."""

# Number of unexpected errors after which `--once` does not wait for a scan any more.
_MAX_UNEXPECTED = 3
# Number of killed attempts after which entries are first unpacked in a child process.
_MAX_KILLED = 3


class ScanTask:
    """State of one scan in the service, and the thread that writes it.

    The service owns it and changes it through its methods only. The thread of an
    attempt sets the verdict and the problem, and finally clears the thread.

    Parameters
    ----------
    announcement : str
        Id of the scan's entry in the announcements.
    record : ScanRecord or None
        Record of the scan; None if the announcement could not be parsed.
    problem : str
        Why it could not be parsed.
    make_writer : callable
        Creates the scan writer of each attempt.
    """

    def __init__(
        self,
        announcement: str,
        record: ScanRecord | None,
        problem: str = "",
        *,
        make_writer: type[ScanWriter] = ScanWriter,
    ) -> None:
        self.announcement = announcement
        self.record = record
        self.problem = problem
        self._make_writer = make_writer
        self.verdict: Verdict | None = record.final_verdict if record else None
        self._own_verdict: Verdict | None = None
        self._authority: LeaseAuthority | None = None
        self._not_before = 0.0
        self._thread: threading.Thread | None = None
        self._writer: ScanWriter | None = None
        self._steps = Steps()
        self._is_stalled = False
        self._reported: set[str] = set()
        self._n_unexpected = 0
        self._needed_bytes = 0
        self._needs_operator = False

    @property
    def is_running(self) -> bool:
        """Whether an attempt is running."""
        return self._thread is not None

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do for the scan."""
        if self.record is None:
            return True
        return self.verdict is not None and not self.verdict.provisional

    @property
    def is_settled(self) -> bool:
        """Whether ``--once`` need not wait for the scan."""
        return self.is_final or self._needs_operator or self.verdict is not None

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the verdict; ``FAILED`` if the scan cannot be written."""
        if self.verdict is not None:
            return self.verdict.verdict.exit_code
        return ExitCode.FAILED if self.problem else ExitCode.COMPLETE

    @property
    def is_due(self) -> bool:
        """Whether the next attempt may start now."""
        idle = not self.is_running and self.record is not None and self.verdict is None
        return idle and time.monotonic() >= self._not_before

    def announced_again(self, announcement: str) -> None:
        """Use the id of a later announcement; Redis has lost the earlier one."""
        self.announcement = announcement

    def accept_verdict(self) -> None:
        """Accept the final verdict of another writer, if the record has one."""
        judged = self.record.final_verdict if self.record else None
        self.verdict = judged or self.verdict

    def take_own_verdict(self) -> Verdict | None:
        """Return the final verdict if this process gave it; on later calls None."""
        judged, self._own_verdict = self._own_verdict, None
        return judged

    def resume(self) -> None:
        """Continue a scan that was interrupted."""
        self.verdict = None

    def reopen(self, record: ScanRecord) -> None:
        """Continue with a new record, because Redis has lost the verdict."""
        self.record = record
        self.verdict = None

    def renew_lease(self, client: Bus) -> None:
        """Renew the lease of the running attempt, which may wait for a slow disk."""
        authority = self._authority  # The attempt's thread may reset it meanwhile.
        if authority is not None:
            authority.renew(client)

    def defer(self, wait_s: float) -> None:
        """Start no attempt for `wait_s` seconds."""
        self._not_before = time.monotonic() + wait_s

    def release_content(self) -> None:
        """Release the record and the writer of a scan that is final."""
        if self.record is None:
            return
        self.record = self._writer = None
        self.problem = ""
        self._steps = Steps()
        self._reported.clear()

    def start(
        self,
        lease: Lease,
        settings: WriterSettings,
        must_stop: Callable[[], bool],
        progress: Progress,
    ) -> None:
        """Start an attempt in a new thread.

        Parameters
        ----------
        lease : Lease
            The acquired lease; released at the end of the attempt.
        must_stop : callable
            Called often; the attempt ends when it returns True.
        progress : callable
            Called with ``(channel, points stored, points expected or None)``.

        Raises
        ------
        RuntimeError
            If the system allows no more threads; try again later.
        """
        thread = threading.Thread(
            target=self._attempt,
            args=(lease, settings, must_stop, progress),
            name=f"scan-{lease.uid[:8]}",
        )
        self._thread = thread
        try:
            thread.start()
        except BaseException:
            self._thread = None
            self.defer(settings.retry_s)
            raise

    def join(self, timeout_s: float) -> None:
        """Wait for the running attempt, if there is one, for at most `timeout_s`."""
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, timeout_s))

    def _attempt(
        self,
        lease: Lease,
        settings: WriterSettings,
        must_stop: Callable[[], bool],
        progress: Progress,
    ) -> None:
        try:
            with self._errors_reported(settings):
                verdict = self._write(lease, settings, must_stop, progress)
                if not verdict.provisional:
                    self._own_verdict = verdict
                self.verdict = verdict
                self.problem = ""
        finally:
            self.defer(settings.retry_s)
            self._authority = None
            self._thread = None

    def _write(
        self,
        lease: Lease,
        settings: WriterSettings,
        must_stop: Callable[[], bool],
        progress: Progress,
    ) -> Verdict:
        if self.record is None:
            raise ValueError("a scan that could not be understood cannot be written")
        # Read again from the start: Redis may have lost earlier events.
        self.record = ScanRecord(self.record.identity, self.record.title)
        client = connect(settings.redis, name="scanbus-scan")
        self._authority = LeaseAuthority(client, lease, int(settings.lease_s * 1000))
        returned = _returning_lease(self._authority, settings.redis)
        with translated(settings.redis), client, returned, ExitStack() as stack:
            sandbox = None
            if self._authority.begin() > _MAX_KILLED:
                log.warning(LogEvent.EXAMINING_ENTRIES, scan=self.uid)
                sandbox = Sandbox()
                stack.callback(sandbox.close)
            read_events(client, self.record)
            judged = self.record.final_verdict
            if judged is not None:
                return judged  # Given by another writer, just before this lease.
            self._steps = Steps(settings.slow_s)
            with self._steps.phase("look", settings.root):
                self._writer = self._make_writer(
                    client,
                    self.record,
                    settings.root,
                    self._authority,
                    pace=_pace(settings),
                    is_stopped=must_stop,
                    on_points=progress,
                    sandbox=sandbox,
                    steps=self._steps,
                )
            return self._writer.run()

    @contextmanager
    def _errors_reported(self, settings: WriterSettings) -> Iterator[None]:
        """Report the error that ended an attempt; the scan stays open."""
        try:
            yield
        except Stopped:
            pass
        except OSError as error:
            self._report_storage(error, settings)
        except (LeaseLostError, BusUnavailableError) as error:
            self._report(str(error))
        except ScanbusError as error:
            self._needs_operator = isinstance(error, NameTakenError)
            if is_full(error):
                self._report_storage(error, settings)
            else:
                self._report(f"paused: {error}")
        except Exception as error:
            if errno_of(error) is not None:  # HDF5 gives some only in the text.
                self._report_storage(error, settings)
                return
            self._n_unexpected += 1
            self._needs_operator = self._n_unexpected >= _MAX_UNEXPECTED
            said = f"{type(error).__name__}: {error}"
            # The traceback only once: attempts repeat every few seconds.
            trace = error if said not in self._reported else None
            log.error(  # noqa: TRY400
                LogEvent.ATTEMPT_FAILED, scan=self.uid, reason=said, exc_info=trace
            )
            self._report(said)

    @property
    def uid(self) -> str:
        """Uid of the scan; empty if the announcement could not be parsed."""
        return self.record.uid if self.record else ""

    @property
    def trouble(self) -> str:
        """Sentence about what prevents writing now; empty if nothing does."""
        return self._steps.stalled() or self.problem

    def warn_if_stalled(self) -> None:
        """Log a stalled step once; a blocked thread cannot log it itself."""
        stalled = self._steps.stalled()
        if stalled and not self._is_stalled:
            log.warning(LogEvent.SCAN_STALLED, scan=self.uid, reason=stalled)
        self._is_stalled = bool(stalled)

    def _report_storage(self, error: BaseException, settings: WriterSettings) -> None:
        # An attempt that failed early has no estimate: keep that of the one before.
        needed = self._writer.bytes_needed if self._writer else 0
        self._needed_bytes = needed or self._needed_bytes
        with self._steps.phase("space", settings.root):
            sentence = storage_sentence(error, settings.root, self._needed_bytes)
        self._report(sentence)

    def _report(self, problem: str) -> None:
        self.problem = problem
        if problem not in self._reported:
            self._reported.add(problem)
            log.warning(LogEvent.SCAN_PAUSED, scan=self.uid, reason=problem)


def _pace(settings: WriterSettings) -> Pace:
    return Pace(
        flush_s=settings.flush_s,
        least_free_bytes=settings.least_free_bytes,
        low_water_bytes=settings.low_water_bytes,
        poll_s=settings.poll_s,
        master_s=settings.master_s,
        check_s=settings.lease_s / 4,
        read_bytes=settings.read_bytes,
    )


@contextmanager
def _returning_lease(authority: LeaseAuthority, url: str) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            with translated(url):
                authority.give_back()
        except BusUnavailableError as error:
            log.warning(LogEvent.LEASE_NOT_GIVEN_BACK, reason=str(error))
