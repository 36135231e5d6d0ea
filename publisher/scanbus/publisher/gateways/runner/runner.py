"""Run a gateway: receive, make a scan of each series, report, end in order."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from scanbus.publisher.gateways.runner.doing import Doing
from scanbus.publisher.gateways.runner.ended_series import EndedSeries
from scanbus.publisher.gateways.runner.gateway import Gateway, RawMessage, ScanListener
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    Message,
    NoteArrived,
    SeriesDescribed,
    SeriesEnded,
    SeriesStarted,
    ValueArrived,
)
from scanbus.publisher.gateways.runner.presence import Presence
from scanbus.publisher.gateways.runner.receiver import QueueState, Receiver
from scanbus.publisher.gateways.runner.report import GatewayReport, end_text
from scanbus.publisher.gateways.runner.series_counts import SeriesCounts
from scanbus.publisher.gateways.runner.series_scan import SeriesScan
from scanbus.publisher.gateways.runner.series_state import SeriesState
from scanbus.publisher.gateways.runner.settings import GatewaySettings
from scanbus.publisher.gateways.runner.verdicts import Verdicts
from scanbus.publisher.publisher import Publisher
from scanbus.schemas import EndReason
from scanbus.schemas.errors import (
    BusUnavailableError,
    DeadlineError,
    MessageError,
    PublisherAliveError,
    ScanbusError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.systemd import notify

__all__ = ["GatewayRunner"]

log = get_logger()

Progress = Callable[[str, int, int | None], None]
"""Called with ``(name, done, total or None)``."""

_POLL_S = 0.1
_RETRY_S = 1.0
# Heartbeats of a publisher that died on another host have lapsed after this.
_LAPSE_S = 15.0
# Longer than the deadline of a send, and than any step of opening a scan.
_MAX_SILENCE_S = 150.0


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
        self._ended = EndedSeries()
        self._verdicts = Verdicts(self._report, self._note_safe)
        # Of scans whose end the bus, or the spool, does not have.
        self._states: dict[str, SeriesState] = {}
        self._went_on_at = monotonic()
        self._is_receiving = False
        self.doing = Doing("starting")  # Any thread may look.
        self._stopped_by = ""
        self._stop_code = ExitCode.INTERRUPTED
        self._is_over = threading.Event()
        self._receiver = Receiver(
            gateway.open,
            max_bytes=settings.queue_bytes,
            max_messages=settings.queue_messages,
            why_full=lambda: str(self.doing),
            name=f"{gateway.kind} {gateway.address}",
        )
        self._presence = Presence(
            settings.url,
            f"{gateway.kind} {gateway.address}",
            self._status,
            self._goes_on,
        )

    # Any thread may ask these three.
    @property
    def queue(self) -> QueueState:
        """State of the queue."""
        return self._receiver.state

    @property
    def so_far(self) -> GatewayReport:
        """What was done so far."""
        return self._report

    @property
    def totals(self) -> SeriesCounts:
        """What came of all series so far, with the one on the way."""
        now = self._current
        return self._report.totals(None if now is None else now.counts)

    def stop(
        self,
        reason: str = "the gateway was stopped",
        code: ExitCode = ExitCode.INTERRUPTED,
    ) -> None:
        """Receive no more, end the series after what was received, and return.

        Any thread and any signal handler may call it.

        Parameters
        ----------
        code : ExitCode
            Of the report, if a verdict that is waited for has not come.
        """
        if not self._stopped_by:
            self._stopped_by, self._stop_code = reason, code
        self._receiver.request_stop()

    def run(self) -> GatewayReport:
        """Run until `stop`; with `once`, until one series has its verdict.

        If a process before it was killed, the series goes on in the same scan.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer at the start.
        ConfigurationError
            If another gateway receives from the same address.
        ScanbusError
            Why the source cannot be opened, or has failed; `so_far` has what was done.
        """
        settings = self._settings
        settings.prepare()
        with self._presence as presence:
            found = map(SeriesState.from_json, presence.found("on_the_way"))
            self._states = {state.uid: state for state in found if state is not None}
            self._ended = EndedSeries(map(str, presence.found("ended")))
            left = tuple(self._states.values())
            presence.start()
            with Publisher(
                settings.url,
                name=f"gateway {self._gateway.kind}",
                spool=settings.spool,
                close_timeout_s=0.0,
                left_open=list(self._states),
            ) as publisher:
                try:
                    self._receive_all(publisher, left)
                finally:  # Also the end of a scan whose source has failed.
                    self.doing = Doing("waiting until all is on the bus")
                    awaited = settings.once and settings.wait
                    wait = self._verdicts.wait_last
                    if not wait(settings.url, awaited, self._must_stop):
                        self._report.interrupted = self._stop_code
        return self._report

    def _receive_all(self, publisher: Publisher, left: Sequence[SeriesState]) -> None:
        self._receiver.start()
        self._is_receiving = True
        notify("READY=1")
        try:
            for state in left:
                self._go_on(publisher, state)
            if self._current is not None:
                self._is_over.clear()
            self._receive(publisher)
            if not self._is_over.is_set():
                self._receiver.raise_error()
            if self._current is not None:
                self._finish(EndReason.USER_ABORT, self._stopped_by)
        except BaseException as error:
            if self._current is not None:
                self._finish(EndReason.FAILURE, end_text(error))
            raise
        finally:
            self._is_receiving = False
            self._receiver.stop()
            self._receiver.join()
            self._report.queue = self._receiver.state

    # ---------------------------------------------------------------- the bus

    def _status(self) -> dict[str, Any]:
        """Return what the gateway does; the presence's thread may ask."""
        queue, totals = self.queue, self.totals
        return {
            "doing": str(self.doing),
            "frames": totals.frames,
            "missing": totals.missing,
            "refused": self._report.refused,
            "queued_bytes": queue.n_bytes,
            "on_the_way": [each.to_json() for each in tuple(self._states.values())],
            "ended": self._ended.newest(),
        }

    def _goes_on(self) -> bool:
        """Return whether both threads do something, or wait for what may come."""
        silent_s = monotonic() - self._went_on_at, self._receiver.silent_s
        return not self._is_receiving or max(silent_s) < _MAX_SILENCE_S

    def _note_state(self) -> None:
        """Keep what a successor needs to go on with the series."""
        try:
            self._presence.note()
        except BusUnavailableError as error:  # The next heartbeat does it.
            log.warning(LogEvent.BUS_LOST, reason=error.reason)

    def _note_safe(self, uid: str) -> None:
        """Forget a scan that needs nobody who goes on with it."""
        self._states.pop(uid, None)

    def _must_stop(self) -> bool:
        self._went_on_at = monotonic()
        return self._stopped_by != ""

    def _go_on(self, publisher: Publisher, left: SeriesState) -> None:
        """Go on with the series that a killed gateway left, in the same scan."""
        if self._current is not None:
            self._finish(EndReason.FAILURE, f"series {left.series} was on the way, too")
        self.doing = Doing("going on with", f"series {left.series}")
        deadline = monotonic() + _LAPSE_S
        while self._current is None:
            try:
                self._current = self._series_scan(publisher, left)
            except (BusUnavailableError, DeadlineError, PublisherAliveError) as error:
                if isinstance(error, PublisherAliveError) and monotonic() > deadline:
                    self._give_up(left, error)
                    return
                if self._must_stop():
                    return  # Another start goes on with it.
                self._is_over.wait(_RETRY_S)
            except ScanbusError as error:
                self._give_up(left, error)
                return
        self._expected = left.n_frames
        log.warning(
            LogEvent.SERIES_RESTARTED,
            series=left.series,
            scan=left.uid,
            frames=self._current.counts.frames,
        )
        if left.end is None:
            self._tell_opened(self._current)
        else:
            self._finish(*left.end)

    def _give_up(self, left: SeriesState, error: ScanbusError) -> None:
        if not self._verdicts.awaits(left.uid):  # It was ended just now.
            self._note_safe(left.uid)
            if left.end is not None:  # It is on the bus, or in the spool.
                return
        log.error(
            LogEvent.SERIES_NOT_RESTARTED,
            series=left.series,
            scan=left.uid,
            reason=str(error),
        )

    def _series_scan(
        self,
        publisher: Publisher,
        state: SeriesState,
        started: SeriesStarted | None = None,
    ) -> SeriesScan:
        """Begin the scan of a series; without a start, reopen what a dead one left."""
        return SeriesScan(
            publisher,
            self._settings.names,
            started or state.started,
            state,
            kind=self._gateway.kind,
            must_stop=self._must_stop,
            note_state=self._note_state,
            on_unfit=self._verdicts.add,
            is_reopened=started is None,
        )

    # ----------------------------------------------------------------- messages

    def _receive(self, publisher: Publisher) -> None:
        while not self._is_over.is_set() and not self._receiver.is_done:
            self.doing = Doing("waiting for messages")
            self._went_on_at = monotonic()
            raw = self._receiver.take(_POLL_S)
            self._verdicts.look()
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
            case ValueArrived() | NoteArrived():
                if self._current is not None:
                    self._current.take_aside(message)
            case SeriesEnded():
                self._ended.forget("")
                if self._current is not None and self._is_current(message.series):
                    self._current.scan.update(message.metadata)
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
            if self._goes_on_with(current, started):
                return
            if current.series == started.series and not current.counts.frames:
                current.note("the series was announced twice")
                return
            self._end_before(started.series)
            if self._is_over.is_set():
                return
        self._open(publisher, started, is_from_start=True)

    def _goes_on_with(self, current: SeriesScan, started: SeriesStarted) -> bool:
        """Whether a start is that of the series on the way, which a restart found."""
        if started.found_at is not None:
            return current.may_go_on_at(started.found_at)
        is_same = (current.series, current.state.key) == (started.series, started.key)
        if not is_same or not isinstance(self._gateway, ScanListener):
            return False
        current.go_on_with(started)
        self._tell_opened(current)
        return True

    def _tell_opened(self, current: SeriesScan) -> None:
        if isinstance(self._gateway, ScanListener):
            self._gateway.scan_opened(
                current.state.key, current.scan.uid, current.next_number
            )

    def _frame(self, publisher: Publisher, frame: FrameArrived, arrival: float) -> None:
        is_other = self._current is not None and not self._is_current(frame.series)
        if is_other and frame.series not in self._ended:
            self._end_before(frame.series)
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
        about = f"frame {frame.number} of series {current.series}"
        self.doing = Doing("sending", about)
        current.take(frame, arrival)
        if self._progress is not None:
            self._progress("frames", current.counts.frames, self._expected)

    def _open(
        self, publisher: Publisher, started: SeriesStarted, *, is_from_start: bool
    ) -> None:
        """Open a scan, as soon as Redis can take one."""
        self.doing = Doing("asking for a configuration", f"of {started.series}")
        started, note = self._settings.described(started)
        self.doing = Doing("opening a scan", f"for series {started.series}")
        while self._current is None:
            uid = uuid.uuid4().hex
            state = SeriesState.of(uid, started, is_from_start=is_from_start)
            self._states[uid] = state
            try:
                self._presence.note()  # Before anything of the scan is on the bus.
                self._current = self._series_scan(publisher, state, started)
            except BaseException as error:
                self._note_safe(uid)
                is_passing = isinstance(error, BusUnavailableError | DeadlineError)
                if not is_passing or self._must_stop():
                    raise
                self._is_over.wait(_RETRY_S)
        self._ended.forget(started.series, "")
        self._expected = started.n_frames
        self._tell_opened(self._current)
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

    def _refuse(self, reason: str) -> None:
        self._report.note_refused(reason)
        if self._current is None:
            return
        try:
            self._current.refuse(reason)
        except ScanbusError as error:
            self._fail(error)

    # ------------------------------------------------------------------ the end

    def _end_before(self, series: str) -> None:
        text = f"series {series} began; the end of this one did not come"
        self._finish(EndReason.FAILURE, text)

    def _finish(self, reason: EndReason, text: str = "") -> None:
        current = self._current
        assert current is not None
        self._current = None
        current.state.end = reason, text
        self._note_state()  # A successor ends it, if this process is killed meanwhile.
        try:
            current.finish(reason, text)
        except (ScanbusError, ValueError) as error:
            self._report.note_failed(current.scan.uid, error)
        if current.series:
            self._ended.add(current.series)
        self._leave(current)

    def _fail(self, error: Exception) -> None:
        """Give up the scan of a series; what still comes of it opens another one."""
        current = self._current
        assert current is not None
        self._current = None
        self._report.note_failed(current.scan.uid, error)
        current.state.end = EndReason.FAILURE, str(error)
        current.scan.finish(EndReason.FAILURE, str(error))
        is_short_of_room = isinstance(error, BusUnavailableError | DeadlineError)
        if not current.counts.frames and not is_short_of_room:
            # Its next frame would fail as well, also if frames name no series.
            self._ended.add(current.series)
            self._ended.add("")
        self._leave(current)

    def _leave(self, current: SeriesScan) -> None:
        counts, uid = current.counts, current.scan.uid
        self._report.series.append((uid, counts))
        self._verdicts.add(current.scan)
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
