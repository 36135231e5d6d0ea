"""One worker as the service sees it: its attempts, and what it asks for.

A thread of the service answers the worker, with a connection to Redis of its own:
cursors, leases and verdicts change here only. Acknowledgements are collected and sent
together, before anything that was asked for later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from scanbus.bus.store import (
    Bus,
    Lease,
    acknowledge_all,
    connect,
    show_all,
    translated,
)
from scanbus.schemas import Verdict
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.scan.write_authority import LeaseAuthority
from scanbus.writer.service.worker_channel import (
    AttemptOrder,
    Channel,
    Outcome,
    PeerGoneError,
)
from scanbus.writer.settings import WriterSettings

__all__ = ["Progress", "RunningAttempt", "WorkerLink"]

log = get_logger()
Progress = Callable[[str, int, int | None], None]
"""Called with ``(name, done, total or None)``."""


@dataclass
class RunningAttempt:
    """An attempt that a worker was told to make.

    Attributes
    ----------
    link : WorkerLink
        The worker.
    authority : LeaseAuthority
        Authority of the lease, on the connection of the link's thread.
    lease : Lease
        The lease.
    on_end : callable
        Called once with the outcome, by a thread of the service.
    stalled : str
        Sentence about a step that hangs, as the worker said last.
    failure : Exception or None
        Why Redis did not take its acknowledgements; the next call fails with it.
    acknowledged : dict
        Lane to the point that was acknowledged first: what stood there before.
    has_written : bool
        Whether it made points durable that were not.
    """

    link: WorkerLink
    authority: LeaseAuthority
    lease: Lease
    on_end: Callable[[Outcome], None]
    stalled: str = ""
    failure: Exception | None = None
    acknowledged: dict[str, int] = field(default_factory=dict)
    has_written: bool = False

    def note_acknowledged(self, lane: str, point: int) -> None:
        """Note how far a lane is durable; the first point is what it found."""
        self.has_written |= point > self.acknowledged.setdefault(lane, point)

    @property
    def trouble(self) -> str:
        """Sentence about what prevents writing now; empty if nothing does."""
        return self.link.silence or self.stalled


class WorkerLink:
    """The service's end of one worker, and the thread that answers it.

    The service's thread calls its methods; attempts end in the thread of the link, or
    in `abandon`.

    Parameters
    ----------
    channel : Channel
        The service's end.
    settings : WriterSettings
        Sent to the worker.
    progress : callable or None
        Called with ``(channel, points stored, points expected or None)``.
    """

    def __init__(
        self, channel: Channel, settings: WriterSettings, progress: Progress | None
    ) -> None:
        self._channel = channel
        self._settings = settings
        self._progress = progress
        self._client = connect(settings.redis, name="scanbus-worker")
        self._attempts: dict[int, RunningAttempt] = {}
        self._acknowledged: dict[tuple[int, str], int] = {}
        self._shown: dict[tuple[int, str], int] = {}
        # While it answers, or waits for Redis, the worker is not to blame.
        self._waits_since: float | None = time.monotonic()
        self.is_ready = False
        self.pid = 0
        self.problems: list[str] = []
        """Sentences about what it cannot do, other than for one scan."""
        # Daemon: a worker that hangs on its disk, and cannot be killed, holds the
        # sockets open.
        self._thread = threading.Thread(
            target=self._answer, name="scanbus-worker", daemon=True
        )

    @property
    def n_attempts(self) -> int:
        """Number of attempts that have not ended."""
        return len(self._attempts)

    @property
    def is_answering(self) -> bool:
        """Whether messages of the worker may still come."""
        return self._thread.is_alive()

    @property
    def silent_s(self) -> float:
        """How long it is waited for a sign of life, in seconds."""
        since = self._waits_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def silence(self) -> str:
        """Sentence about a worker that is silent for longer than a lease, or empty."""
        silent_s = self.silent_s
        if not self.is_ready or silent_s < self._settings.lease_s:
            return ""
        return f"stalled: worker {self.pid} has been silent for {silent_s:.0f} s so far"

    def open(self) -> None:
        """Send the settings and start to answer."""
        wants = self._progress is not None
        with suppress(PeerGoneError):
            said = self._settings.to_message()
            self._channel.send("configure", 0, said, wants)
        self._thread.start()

    def start(
        self, order: AttemptOrder, lease: Lease, on_end: Callable[[Outcome], None]
    ) -> RunningAttempt:
        """Order an attempt; if the worker is gone, `abandon` ends it."""
        ttl_ms = int(self._settings.lease_s * 1000)
        authority = LeaseAuthority(self._client, lease, ttl_ms)
        attempt = RunningAttempt(self, authority, lease, on_end)
        self._attempts[order.number] = attempt
        with suppress(PeerGoneError):
            self._channel.send("start", order.number, order.to_message())
        return attempt

    def need_masters(self) -> None:
        """Tell the worker that Redis waits for the masters of running scans."""
        with suppress(PeerGoneError):
            self._channel.send("masters", 0)

    def stop(self) -> None:
        """Tell the worker to end its attempts and leave."""
        with suppress(PeerGoneError):
            self._channel.send("stop", 0)

    def abandon(self, problem: str) -> None:
        """End the attempts of a worker that is dead, and close the link.

        Parameters
        ----------
        problem : str
            Sentence for their outcome.
        """
        self._channel.close()
        attempts, self._attempts = self._attempts, {}
        with ExitStack() as each:  # All are ended, whatever fails for one.
            each.callback(self._client.close)
            for attempt in attempts.values():
                outcome = Outcome(problem=problem, has_died=True)
                each.callback(attempt.on_end, outcome)
                each.callback(self._release, attempt.authority.release)

    def _answer(self) -> None:
        try:
            while True:
                messages = self._channel.receive()
                self._waits_since = None
                for message in messages:
                    self._handle(*message)
                self._acknowledge()
                self._waits_since = time.monotonic()
        except PeerGoneError:
            return
        except Exception as error:
            log.exception(
                LogEvent.WORKER_LINK_FAILED, worker=self.pid, reason=str(error)
            )
            self._channel.close()  # The worker leaves, and another one comes.

    def _handle(self, kind: str, number: int, *values: Any) -> None:
        if kind in {"acknowledge", "show"}:
            self._note_points(kind, number, values[0])
            return
        self._acknowledge()
        match kind:
            case "ready":
                (self.pid,) = values
                self.is_ready = True
            case "alive":
                self._note_stalled(dict(values[0]))
                self.problems = values[1]
            case "call":
                self._reply(number, *values)
            case "points":
                if self._progress is not None:
                    self._progress(*values)
            case "log":
                level, event, fields = values
                getattr(log, level)(event, **{**fields, "worker": self.pid})
            case "ended":
                self._end(number, Outcome.from_message(values[0]))

    def _note_points(self, kind: str, number: int, points: dict[str, int]) -> None:
        """Note points, to be sent together with those of other attempts."""
        for lane, point in points.items():
            key = number, lane
            if kind == "show":
                self._shown[key] = point
                continue
            self._attempts[number].note_acknowledged(lane, point)
            self._acknowledged[key] = max(point, self._acknowledged.get(key, 0))

    def _note_stalled(self, stalled: dict[int, str]) -> None:
        for number, attempt in self._attempts.items():
            attempt.stalled = stalled.get(number, "")

    def _acknowledge(self) -> None:
        points, self._acknowledged = self._acknowledged, {}
        self._tell(acknowledge_all, points)
        shown, self._shown = self._shown, {}
        self._tell(show_all, shown)

    def _tell(
        self,
        send: Callable[[Bus, Mapping[tuple[str, str], int]], None],
        points: Mapping[tuple[int, str], int],
    ) -> None:
        if not points:
            return
        try:
            with translated(self._settings.redis):
                send(
                    self._client,
                    {
                        (self._attempts[number].lease.uid, lane): point
                        for (number, lane), point in points.items()
                    },
                )
        except Exception as error:  # noqa: BLE001 - any error ends the attempts alone
            for number, _ in points:
                self._attempts[number].failure = error

    def _reply(self, number: int, call: int, name: str, *values: Any) -> None:
        attempt = self._attempts[number]
        kind = ""
        fields: tuple[Any, ...] = ()
        try:
            with translated(self._settings.redis):
                self._perform(attempt, name, *values)
        except ScanbusError as error:
            kind, fields = type(error).__name__, error.args
        except Exception as error:  # noqa: BLE001 - any error ends the attempt alone
            kind, fields = "unforeseen", (f"{type(error).__name__}: {error}",)
        with suppress(PeerGoneError):
            self._channel.send("reply", call, kind, fields)

    @staticmethod
    def _perform(attempt: RunningAttempt, name: str, *values: Any) -> None:
        if attempt.failure is not None:
            raise attempt.failure
        match name:
            case "check":
                attempt.authority.check()
            case "keep":
                attempt.authority.keep()
            case "announce":
                attempt.authority.announce(Verdict.model_validate_json(values[0]))
            case "shrink":
                attempt.authority.shrink(values[0])
            case "renumber":
                attempt.authority.renumber(*values)
            case _:
                raise ValueError(f"a worker called {name!r}")

    def _end(self, number: int, outcome: Outcome) -> None:
        attempt = self._attempts[number]
        self._release(attempt.authority.give_back)
        del self._attempts[number]
        attempt.on_end(outcome)

    def _release(self, release: Callable[[], None]) -> None:
        try:
            with translated(self._settings.redis):
                release()
        except Exception as error:  # noqa: BLE001 - it expires by itself
            log.warning(LogEvent.LEASE_NOT_GIVEN_BACK, reason=str(error))
