"""Run a gateway: receive, make a scan of each series, report, end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from scanbus.bus.store import open_bus, writers_alive
from scanbus.publisher.gateways.runner.gateway import (
    Gateway,
    RawMessage,
    ScanListener,
)
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    Message,
    NoteArrived,
    SeriesDescribed,
    SeriesEnded,
    SeriesStarted,
    ValueArrived,
)
from scanbus.publisher.gateways.runner.receiver import QueueState, Receiver
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.publisher.gateways.runner.series_scan import (
    ScanNames,
    SeriesCounts,
    SeriesScan,
)
from scanbus.publisher.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import EndReason, Verdict
from scanbus.schemas.errors import (
    BusUnavailableError,
    ConfigurationError,
    DeadlineError,
    MessageError,
    ScanbusError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["GatewayReport", "GatewayRunner", "GatewaySettings", "stopped_by_signals"]

log = get_logger()

Progress = Callable[[str, int, int | None], None]
"""Called with ``(name, done, total or None)``."""

_POLL_S = 0.1
_RETRY_S = 1.0
_VERDICT_TIMEOUT_S = 3600.0
# A sender of rubbish must not fill the log.
_LOGGED_REFUSALS = 10
# Frames of a series whose end was received are refused, not a new scan.
_MAX_ENDED = 1000


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How a gateway runs.

    Parameters
    ----------
    url : str
        Address of Redis.
    names : ScanNames
        Names of the scans.
    once : bool
        End after one series, when its verdict is known.
    wait : bool
        With `once`, wait for the verdict if a writer is alive.
    spool : pathlib.Path, optional
        Folder of the publisher's spool.
    queue_bytes, queue_messages : int
        Bounds of the queue between receiver and publisher.
    describe : callable, optional
        Returns what is known elsewhere of a series whose start was missed, or did not
        describe the detector; raises ConfigurationError if it is not to be had.
    """

    url: str
    names: ScanNames
    once: bool = False
    wait: bool = True
    spool: Path | None = None
    queue_bytes: int = 512 * 2**20
    queue_messages: int = 10_000
    describe: Callable[[SeriesStarted], SeriesStarted] | None = None


@dataclass(slots=True)
class GatewayReport:
    """What a gateway did.

    Attributes
    ----------
    series : list of tuple
        Uid and counts of each series.
    verdicts : dict
        Final verdicts by uid, as far as they are known.
    refused : int
        Messages that could not be used.
    failed : dict
        Why scans failed, by uid.
    queue : QueueState
        The queue at the end.
    """

    series: list[tuple[str, SeriesCounts]] = field(
        default_factory=list[tuple[str, SeriesCounts]]
    )
    verdicts: dict[str, Verdict] = field(default_factory=dict[str, Verdict])
    refused: int = 0
    failed: dict[str, str] = field(default_factory=dict[str, str])
    queue: QueueState = field(default_factory=lambda: QueueState(0, 0, 0, 0.0))

    @property
    def exit_code(self) -> ExitCode:
        """The worst of the verdicts, and of what was refused or failed."""
        codes = [each.verdict.exit_code for each in self.verdicts.values()]
        codes.append(ExitCode.PARTIAL if self.refused else ExitCode.COMPLETE)
        codes.append(ExitCode.FAILED if self.failed else ExitCode.COMPLETE)
        return max(codes)


class GatewayRunner:
    """Runs one gateway, in the thread that calls `run`.

    Parameters
    ----------
    gateway : Gateway
        Connects and translates.
    settings : GatewaySettings
        How it runs.
    progress : callable, optional
        Called with ``("frames", sent, expected or None)``.
    """

    def __init__(
        self,
        gateway: Gateway,
        settings: GatewaySettings,
        progress: Progress | None = None,
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._progress = progress
        self._report = GatewayReport()
        self._current: SeriesScan | None = None
        self._expected: int | None = None
        self._ended: dict[str, None] = {}
        self._unjudged: dict[str, Scan] = {}
        self._doing = "starting"
        self._stopped_by = ""
        self._is_over = threading.Event()
        self._receiver = Receiver(
            gateway.open,
            max_bytes=settings.queue_bytes,
            max_messages=settings.queue_messages,
            why_full=lambda: self._doing,
        )

    @property
    def queue(self) -> QueueState:
        """State of the queue; any thread may ask."""
        return self._receiver.state

    @property
    def so_far(self) -> GatewayReport:
        """What was done so far; any thread may look."""
        return self._report

    @property
    def totals(self) -> SeriesCounts:
        """What came of all series so far, with the one on the way."""
        total = SeriesCounts()
        current = self._current
        every = [counts for _, counts in tuple(self._report.series)]
        for each in [*every, *([] if current is None else [current.counts])]:
            total.add(each)
        return total

    def stop(self, reason: str = "the gateway was stopped") -> None:
        """Receive no more, end the series after what was received, and return.

        Any thread and any signal handler may call it.
        """
        self._stopped_by = self._stopped_by or reason
        self._receiver.request_stop()

    def run(self) -> GatewayReport:
        """Run until `stop`; with `once`, until one series has its verdict.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer at the start.
        ScanbusError
            Why the source cannot be opened.
        """
        settings = self._settings
        with Publisher(
            settings.url,
            name=f"gateway {self._gateway.kind}",
            spool=settings.spool,
            close_timeout_s=0.0,
        ) as publisher:
            self._receiver.start()
            try:
                self._receive(publisher)
                if self._current is not None:
                    self._finish(EndReason.USER_ABORT, self._stopped_by)
            except BaseException:
                if self._current is not None:
                    self._finish(EndReason.FAILURE, "the gateway failed")
                raise
            finally:
                self._receiver.stop()
                self._receiver.join()
                self._report.queue = self._receiver.state
            self._last_verdicts()
        return self._report

    # ----------------------------------------------------------------- messages

    def _receive(self, publisher: Publisher) -> None:
        while not self._is_over.is_set() and not self._receiver.is_done:
            self._doing = "waiting for messages"
            raw = self._receiver.take(_POLL_S)
            self._look_for_verdicts()
            if raw is not None:
                self._take(publisher, raw)

    def _take(self, publisher: Publisher, raw: RawMessage) -> None:
        try:
            message = self._gateway.decode(raw.content)
            self._dispatch(publisher, message, raw.arrival)
        except MessageError as error:
            self._refuse(str(error))
        except (ScanbusError, ValueError) as error:
            if self._current is None:
                raise  # No scan can be opened: names or the server are wrong.
            self._fail(error)

    def _dispatch(self, publisher: Publisher, message: Message, arrival: float) -> None:
        match message:
            case SeriesStarted():
                self._start(publisher, message)
            case FrameArrived():
                self._frame(publisher, message, arrival)
            case SeriesDescribed():
                self._describe(message)
            case ValueArrived():
                if self._current is not None:
                    self._current.take_value(message)
            case NoteArrived():
                log.warning(LogEvent.SENDER_NOTE, text=message.text)
                if self._current is not None:
                    self._current.note(message.text)
            case SeriesEnded():
                self._ended.pop("", None)
                if self._current is not None and self._is_current(message.series):
                    self._finish(EndReason.SUCCESS)

    def _is_current(self, series: str) -> bool:
        """Whether it is the series on the way; one without name may be any."""
        if self._current is None:
            return False
        return series == self._current.series or "" in {series, self._current.series}

    def _describe(self, described: SeriesDescribed) -> None:
        if not described.fields:
            return
        if self._current is None or not self._is_current(described.series):
            name = described.series
            raise MessageError(f"description of series {name}", "it has not begun")
        self._current.describe(described)

    def _start(self, publisher: Publisher, started: SeriesStarted) -> None:
        current = self._current
        if current is not None:
            if current.series == started.series and not current.counts.frames:
                current.note("the series was announced twice")
                return
            text = f"series {started.series} began; the end of this one did not come"
            self._finish(EndReason.FAILURE, text)
            if self._is_over.is_set():
                return
        self._open(publisher, started, is_from_start=True)

    def _frame(self, publisher: Publisher, frame: FrameArrived, arrival: float) -> None:
        if self._current is not None and not self._is_current(frame.series):
            text = f"series {frame.series} began; the end of this one did not come"
            if frame.series not in self._ended:
                self._finish(EndReason.FAILURE, text)
        if self._is_over.is_set():
            return
        if self._current is None or not self._is_current(frame.series):
            if frame.series in self._ended:
                raise MessageError(
                    f"frame {frame.number}", f"series {frame.series or '?'} is over"
                )
            self._open(publisher, SeriesStarted(frame.series), is_from_start=False)
        current = self._current
        if current is None:
            return
        self._doing = f"sending frame {frame.number} of series {current.series}"
        current.take(frame, arrival)
        if self._progress is not None:
            self._progress("frames", current.counts.frames, self._expected)

    def _open(
        self, publisher: Publisher, started: SeriesStarted, *, is_from_start: bool
    ) -> None:
        """Open a scan, as soon as Redis can take one."""
        started, note = self._described(started)
        self._doing = f"opening a scan for series {started.series}"
        while self._current is None:
            try:
                self._current = SeriesScan(
                    publisher,
                    self._settings.names,
                    started,
                    kind=self._gateway.kind,
                    is_from_start=is_from_start,
                    must_stop=lambda: bool(self._stopped_by),
                )
            except (BusUnavailableError, DeadlineError):
                if self._stopped_by:
                    raise
                self._is_over.wait(_RETRY_S)
        for name in (started.series, ""):
            self._ended.pop(name, None)
        self._expected = started.n_frames
        if isinstance(self._gateway, ScanListener):
            uid = self._current.scan.uid
            self._gateway.scan_opened(started.key, uid, started.first_number or 0)
        if not is_from_start:
            self._current.note("the start of the series was not received")
        if note:
            self._current.note(note)
        log.info(
            LogEvent.SERIES_STARTED,
            series=started.series,
            scan=self._current.scan.uid,
            frames=started.n_frames,
        )

    def _described(self, started: SeriesStarted) -> tuple[SeriesStarted, str]:
        """Return a series with what its start left out, and a note on that."""
        describe = self._settings.describe
        if describe is None or started.fields:
            return started, ""
        self._doing = f"asking for the configuration of series {started.series}"
        try:
            return describe(started), "the configuration was read from the detector"
        except ConfigurationError as error:
            return started, str(error)

    def _refuse(self, reason: str) -> None:
        self._report.refused += 1
        if self._report.refused <= _LOGGED_REFUSALS:
            log.warning(LogEvent.MESSAGE_REFUSED, reason=reason)
        if self._current is None:
            return
        try:
            self._current.refuse(reason)
        except ScanbusError as error:
            self._fail(error)

    # ------------------------------------------------------------------ the end

    def _finish(self, reason: EndReason, text: str = "") -> None:
        current = self._current
        assert current is not None
        self._current = None
        try:
            current.finish(reason, text)
        except (ScanbusError, ValueError) as error:
            self._note_failed(current.scan.uid, error)
        if current.series:
            self._note_over(current.series)
        self._leave(current)

    def _note_over(self, series: str) -> None:
        self._ended[series] = None
        if len(self._ended) > _MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def _fail(self, error: Exception) -> None:
        """Give up the scan of a series; what still comes of it opens another one."""
        current = self._current
        assert current is not None
        self._current = None
        self._note_failed(current.scan.uid, error)
        current.scan.finish(EndReason.FAILURE, str(error))
        is_short_of_room = isinstance(error, BusUnavailableError | DeadlineError)
        if not current.counts.frames and not is_short_of_room:
            # Its next frame would fail as well, also if frames name no series.
            self._note_over(current.series)
            self._note_over("")
        self._leave(current)

    def _note_failed(self, uid: str, error: Exception) -> None:
        if uid not in self._report.failed:
            self._report.failed[uid] = str(error)
            log.error(LogEvent.SERIES_FAILED, scan=uid, reason=str(error))

    def _leave(self, current: SeriesScan) -> None:
        counts, uid = current.counts, current.scan.uid
        self._report.series.append((uid, counts))
        self._unjudged[uid] = current.scan
        log.info(
            LogEvent.SERIES_ENDED,
            series=current.series,
            scan=uid,
            frames=counts.frames,
            missing=counts.missing,
            repeated=counts.repeated,
            refused=counts.refused,
        )
        if self._settings.once:
            self._is_over.set()

    # ----------------------------------------------------------------- verdicts

    def _look_for_verdicts(self) -> None:
        for uid, scan in tuple(self._unjudged.items()):
            self._wait_for(uid, scan, 0.0)

    def _wait_for(self, uid: str, scan: Scan, timeout_s: float) -> None:
        try:
            verdict = scan.verdict(timeout_s)
        except DeadlineError:
            return
        except ScanbusError as error:  # It failed, perhaps after its end.
            self._note_failed(uid, error)
        else:
            self._report.verdicts[uid] = verdict
        del self._unjudged[uid]

    def _last_verdicts(self) -> None:
        """Wait until all is on the bus; with `once`, for the verdict."""
        settings = self._settings
        self._doing = "waiting until all is on the bus"
        wait_sent(settings.url, list(self._unjudged))
        with open_bus(settings.url, name="scanbus-gateway") as client:
            is_judged = settings.once and settings.wait and bool(writers_alive(client))
        deadline = monotonic() + _VERDICT_TIMEOUT_S
        for uid, scan in tuple(self._unjudged.items()):
            if is_judged:
                self._wait_for(uid, scan, max(0.0, deadline - monotonic()))


@contextmanager
def stopped_by_signals(runner: GatewayRunner) -> Iterator[None]:
    """Have SIGTERM and Ctrl-C stop a gateway in order; Ctrl-C again interrupts."""

    def stop(number: int, _frame: FrameType | None) -> None:
        runner.stop(f"the gateway was stopped by {signal.Signals(number).name}")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before: Mapping[int, Any] = {
        number: signal.signal(number, stop)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
