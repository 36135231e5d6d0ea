"""One announced scan in the service: its attempts, their outcomes, and the verdict.

Each attempt runs in a worker. Any error ends the attempt, is logged once, and is
followed by another attempt. Only a name taken by another file needs an operator.
"""

from __future__ import annotations

import math
import time

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Backoff,
    Bus,
    Lease,
    begin_attempt,
    id_order,
    read_events,
)
from scanbus.schemas import ScanIdentity, Verdict, VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.service.worker_channel import AttemptOrder, Outcome
from scanbus.writer.service.worker_link import RunningAttempt
from scanbus.writer.service.worker_pool import WorkerPool

__all__ = ["ScanTask"]

log = get_logger()

# Number of unexpected errors after which `--once` does not wait for a scan any more.
_MAX_UNEXPECTED = 3
# Number of killed attempts after which entries are first unpacked in a child process.
_MAX_KILLED = 3
# Number of dead workers after which `--once` does not wait: that child did not help.
_MAX_DEATHS = 8
# A scan that takes longer is begun while it sends, whatever else is to be written.
_QUICK_S = 2.0
# Pauses between looks at an ended scan of which something is missing, in seconds.
_FIRST_LOOK_S = 2.0
_LONGEST_LOOK_S = 600.0


class ScanTask:
    """State of one scan in the service, and the attempt that writes it.

    The service owns it and changes it through its methods only. The thread that
    answers a worker sets the verdict and the problem, and finally that none is running.

    Parameters
    ----------
    announcement : str
        Id of the scan's entry in the announcements.
    record : ScanRecord or None
        Record of the scan; None if the announcement could not be parsed.
    problem : str
        Why it could not be parsed.
    later_uid : str
        Uid of a scan of a later protocol: it is waited for, not passed.
    retry_s : float
        Pause after an attempt, in seconds.

    Attributes
    ----------
    interrupted_at : float
        Monotonic time at which this service saw last that its publisher is gone.
    """

    def __init__(
        self,
        announcement: str,
        record: ScanRecord | None,
        problem: str = "",
        *,
        later_uid: str = "",
        retry_s: float = 0.0,
    ) -> None:
        self.announcement = announcement
        self.record = record
        self.problem = problem
        self._later_uid = later_uid
        self._retry_s = retry_s
        self.verdict: Verdict | None = record.final_verdict if record else None
        self._own_verdict: Verdict | None = None
        self._not_before = 0.0
        # An interruption that repeats the last one leaves no trace on the bus.
        self.interrupted_at = math.inf
        self._found_at = time.monotonic()
        # Apart from the attempt, which may end before it is known here.
        self._is_running = False
        self._attempt: RunningAttempt | None = None
        self._last_event = "0-0"
        self._looks = Backoff(_FIRST_LOOK_S, _LONGEST_LOOK_S)
        self._look_at = math.inf
        self._is_stalled = False
        self._reported: set[str] = set()
        self._n_unexpected = self._n_killed = 0
        self._needed_bytes = 0
        self._needs_operator = False

    @property
    def is_running(self) -> bool:
        """Whether an attempt is running."""
        return self._is_running

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do for the scan."""
        if self.record is None and not self._later_uid:
            return True
        return self.verdict is not None and not self.verdict.provisional

    @property
    def given_up(self) -> ScanIdentity | None:
        """The scan, if its final verdict is that it has no files and gets none."""
        judged, record = self.verdict, self.record
        if judged is None or judged.provisional or record is None:
            return None
        is_failed = judged.verdict is VerdictWord.FAILED
        return record.announced if is_failed and not judged.master else None

    @property
    def is_settled(self) -> bool:
        """Whether ``--once`` need not wait for the scan."""
        if self.record is None or self.is_final:
            return True
        return self._needs_operator or self.verdict is not None

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

    @property
    def is_new(self) -> bool:
        """Whether it was found just now: a quick scan ends before it is begun."""
        return time.monotonic() < self._found_at + _QUICK_S

    def announced_again(self, announcement: str) -> None:
        """Use the id of a later announcement; Redis has lost the earlier one."""
        self.announcement = announcement

    def accept_verdict(self) -> None:
        """Accept the final verdict of another writer, if the record has one."""
        judged = self.record.final_verdict if self.record else None
        self.verdict = judged or self.verdict

    def close(self, verdict: Verdict) -> None:
        """Accept the final verdict that somebody else gave."""
        self.verdict = verdict

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

    def can_wait(self, client: Bus) -> bool:
        """Return whether all of the scan is on the bus, so that nobody waits for it."""
        record = self.record
        if record is not None and record.ended is None:
            read_events(client, record)
        return record is None or record.ended is not None

    @property
    def running(self) -> RunningAttempt | None:
        """The attempt that is running, if one is."""
        return self._attempt if self._is_running else None

    def defer(self, wait_s: float) -> None:
        """Start no attempt for `wait_s` seconds."""
        self._not_before = time.monotonic() + wait_s

    def release_content(self) -> None:
        """Release the record of a scan that is final."""
        if self.record is None:
            return
        self.record = self._attempt = None
        self.problem = ""
        self._reported.clear()

    def start(self, client: Bus, lease: Lease, pool: WorkerPool) -> None:
        """Order an attempt from a worker.

        Parameters
        ----------
        lease : Lease
            The acquired lease; released at the end of the attempt.
        pool : WorkerPool
            The workers, at least one of which is ready.

        Raises
        ------
        ValueError
            If the announcement could not be understood.
        """
        record = self.record
        if record is None:
            raise ValueError("a scan that could not be understood cannot be written")

        def make_order(number: int) -> AttemptOrder:
            # Counted until an attempt ends in an orderly way. Durable points do not
            # reset it: other lanes may advance although one entry kills every attempt.
            examines = begin_attempt(client, record.uid) > _MAX_KILLED
            return AttemptOrder(
                number,
                record.announced,
                record.title,
                lease.fence,
                needed_bytes=self._needed_bytes,
                examines=examines,
            )

        self._is_running = True
        try:
            self._attempt = pool.start(lease, self._end, make_order)
        except BaseException:
            self._is_running = False
            self.defer(self._retry_s)
            raise

    def read_news(self, client: Bus) -> bool:
        """Read new events; return whether the last attempt has not seen all of them."""
        if self.record is None:
            return False
        read_events(client, self.record)
        is_news = id_order(self.record.last_id) > id_order(self._last_event)
        self._last_event = self.record.last_id
        return is_news

    @property
    def is_worth_a_look(self) -> bool:
        """Whether what the last attempt missed may have come, without any event."""
        return time.monotonic() >= self._look_at

    def _end(self, outcome: Outcome) -> None:
        """Take over the outcome of the attempt; called once, in any thread."""
        try:
            self._take_over(outcome)
        finally:
            self._is_running = False  # Whatever fails here, another one follows.

    def _take_over(self, outcome: Outcome) -> None:
        self._needed_bytes = outcome.needed_bytes or self._needed_bytes
        self._needs_operator = outcome.needs_operator
        if outcome.verdict is not None:
            if not outcome.verdict.provisional:
                self._own_verdict = outcome.verdict
            elif outcome.met_publisher or self.interrupted_at == math.inf:
                self.interrupted_at = time.monotonic()
            self._last_event = outcome.last_event
            self._look_at = time.monotonic() + self._looks.next_s()
            self.verdict = outcome.verdict
            self.problem = ""
        elif outcome.trace:
            self._report_unforeseen(outcome)
        elif outcome.problem:
            self._report(outcome.problem)
        if outcome.has_died:
            self._n_killed += 1
            self._needs_operator = self._n_killed >= _MAX_DEATHS
        else:
            self.defer(self._retry_s)

    def _report_unforeseen(self, outcome: Outcome) -> None:
        self._n_unexpected += 1
        self._needs_operator = self._n_unexpected >= _MAX_UNEXPECTED
        said = outcome.problem
        # The traceback only once: attempts repeat every few seconds.
        trace = {} if said in self._reported else {"exception": outcome.trace}
        log.error(LogEvent.ATTEMPT_FAILED, scan=self.uid, reason=said, **trace)
        self._report(said)

    @property
    def uid(self) -> str:
        """Uid of the scan; empty if the announcement could not be parsed."""
        return self.record.uid if self.record else self._later_uid

    @property
    def trouble(self) -> str:
        """Sentence about what prevents writing now; empty if nothing does."""
        attempt = self._attempt if self._is_running else None
        # What stopped an attempt before is over once this one makes points durable.
        before = "" if attempt is not None and attempt.has_written else self.problem
        if sentence := self._stalled or before:
            return sentence
        verdict = self.verdict
        if verdict is None or verdict.verdict is not VerdictWord.FAILED:
            return ""
        # Its `prepared` cannot be understood: only a later version or `close` helps.
        return f"scan {self.uid}: {verdict.reason}" if verdict.provisional else ""

    @property
    def _stalled(self) -> str:
        attempt = self._attempt
        return attempt.trouble if attempt is not None and self._is_running else ""

    def warn_if_stalled(self) -> None:
        """Log once that an attempt stalls; a blocked thread cannot log it itself."""
        stalled = self._stalled
        if stalled and not self._is_stalled:
            log.warning(LogEvent.SCAN_STALLED, scan=self.uid, reason=stalled)
        self._is_stalled = bool(stalled)

    def _report(self, problem: str) -> None:
        self.problem = problem
        if problem not in self._reported:
            self._reported.add(problem)
            log.warning(LogEvent.SCAN_PAUSED, scan=self.uid, reason=problem)
