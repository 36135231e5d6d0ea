"""The workers of the service: started, watched, replaced, and told what to write.

A worker that dies is replaced at once; after several short lives, after a pause. It is
the process that ends, never the service.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Protocol

from scanbus.bus.store import Backoff, Lease
from scanbus.schemas.errors import WorkerFailedError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.service.worker_channel import AttemptOrder, Channel, Outcome
from scanbus.writer.service.worker_link import Progress, RunningAttempt, WorkerLink
from scanbus.writer.settings import WriterSettings
from scanbus.writer.steps import FAILPOINTS_VARIABLE
from scanbus.writer.storage.file_system import LOCKING_VARIABLE

if TYPE_CHECKING:
    from scanbus.writer.scan.scan_writer import ScanWriter

__all__ = ["Host", "Launch", "WorkerPool", "launch_process", "launch_thread"]

log = get_logger()
_MODULE = "scanbus.writer.service.worker"
# A worker that lived for so long did not die of its start.
_SHORT_LIFE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
# One that was ready died of a scan, which others must not wait for.
_LONGEST_PAUSE_READY_S = 1.0
_START_S = 60.0
_MOST_FAILED_STARTS = 3
_POLL_S = 0.01
# After it was killed: longer only if it waits for a disk that does not answer.
_REAP_S = 0.5


class Host(Protocol):
    """What a worker runs in: a process of its own, or a thread."""

    def end(self) -> str | None:
        """Return how it ended, e.g. ``SIGSEGV``; None while it runs."""

    def kill(self) -> None:
        """End it without its consent, if that is possible."""


Launch = Callable[[Connection, bool], Host]
"""Starts a worker at its end of a pipe; called with it, and whether it is the first."""


class _ProcessHost:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def end(self) -> str | None:
        code = self._process.poll()
        if code is None or code >= 0:
            return None if code is None else f"exit code {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def kill(self) -> None:
        self._process.kill()


class _ThreadHost:
    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def end(self) -> str | None:
        return None if self._thread.is_alive() else "end of its thread"

    def kill(self) -> None:
        """Do nothing: threads cannot be killed."""


def launch_process(connection: Connection, is_first: bool) -> Host:
    """Start a worker in a process of its own, which lives as long as this thread.

    It finds the same modules as this process, and writes to the same stderr.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # File systems may refuse locks, whatever the service was told.
        LOCKING_VARIABLE: "FALSE",
    }
    if FAILPOINTS_VARIABLE in environment and not is_first:
        # A trap is for the first one: each successor would meet it again.
        environment[FAILPOINTS_VARIABLE] = ""
    descriptor = connection.fileno()
    # -P: nothing is imported from the current folder.
    command = [sys.executable, "-P", "-m", _MODULE, str(descriptor), str(os.getpid())]
    with _signals_held():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            env=environment,
        )
    connection.close()
    return _ProcessHost(process)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let a child start with SIGINT and SIGTERM blocked: it obeys the service alone.

    Ctrl-C of a terminal and systemd reach all processes of the group.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def launch_thread(make_writer: type[ScanWriter]) -> Launch:
    """Return a function that starts workers in threads: for other scan writers.

    What they crash is this process.
    """
    # Here only: no HDF5 in a service with processes.
    from scanbus.writer.service.worker import Worker  # noqa: PLC0415
    from scanbus.writer.service.worker_channel import PeerGoneError  # noqa: PLC0415

    def run(channel: Channel) -> None:
        with suppress(PeerGoneError):
            Worker(channel, make_writer).run()
        channel.close()

    def launch(connection: Connection, _: bool) -> Host:
        thread = threading.Thread(target=run, args=(Channel(connection),), daemon=True)
        thread.start()
        return _ThreadHost(thread)

    return launch


@dataclass
class _Place:
    """The place of one worker, whoever has it now."""

    link: WorkerLink | None = None
    host: Host | None = None
    started_at: float = 0.0
    not_before: float = 0.0
    last_end: str = ""
    is_killed: bool = False
    backoff: Backoff = field(
        default_factory=lambda: Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    )


class WorkerPool:
    """A fixed number of workers. The service's thread owns it and calls it.

    Parameters
    ----------
    settings : WriterSettings
        Number of workers, and what they are told.
    progress : callable or None
        Called with ``(channel, points stored, points expected or None)``.
    launch : callable
        Starts a worker.
    """

    def __init__(
        self,
        settings: WriterSettings,
        progress: Progress | None = None,
        launch: Launch = launch_process,
    ) -> None:
        self._settings = settings
        self._progress = progress
        self._launch = launch
        self._places = [_Place() for _ in range(settings.workers)]
        self._n_launched = 0
        self._n_ordered = 0

    @property
    def is_ready(self) -> bool:
        """Whether an attempt may be ordered."""
        return self._least_busy() is not None

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        links = [place.link for place in self._places]
        return [link.pid for link in links if link is not None and link.is_ready]

    @property
    def problems(self) -> list[str]:
        """Sentences about workers that die, cannot be killed, or cannot list scans."""
        found = []
        for place in self._places:
            wait_s = place.not_before - time.monotonic()
            if place.link is None and wait_s > 0:
                found.append(
                    f"a worker ended soon after its start ({place.last_end}); another "
                    f"one starts in {wait_s:.0f} s"
                )
            if place.link is not None and place.is_killed:
                found.append(f"worker {place.link.pid} was killed and waits for a disk")
            if place.link is not None:
                found += place.link.problems
        return found

    def open(self) -> None:
        """Start the workers; they are ready some tenths of a second later."""
        for place in self._places:
            self._fill(place)

    def wait_ready(self) -> None:
        """Wait until the first worker is ready.

        Raises
        ------
        WorkerFailedError
            If workers end before they are ready, or take too long.
        """
        deadline = time.monotonic() + _START_S
        while not self.is_ready:
            self.look_after()
            ends = [place.last_end for place in self._places if place.last_end]
            n_failed = self._n_launched - len(self._places)
            if n_failed >= _MOST_FAILED_STARTS:
                raise WorkerFailedError(ends[-1])
            if time.monotonic() > deadline:
                raise WorkerFailedError(f"not ready after {_START_S:.0f} s")
            time.sleep(_POLL_S)

    def look_after(self) -> None:
        """Replace workers that died, and kill those that are silent for too long."""
        for place in self._places:
            self._bury(place)
            if place.link is None and time.monotonic() >= place.not_before:
                self._fill(place)
            self._kill_silent(place)

    def start(
        self,
        lease: Lease,
        on_end: Callable[[Outcome], None],
        make_order: Callable[[int], AttemptOrder],
    ) -> RunningAttempt:
        """Order an attempt from the least busy worker.

        Parameters
        ----------
        lease : Lease
            The scan's; released at the end of the attempt.
        on_end : callable
            Called once with the outcome, by any thread.
        make_order : callable
            Returns the order with the number that it is given.

        Raises
        ------
        WorkerFailedError
            If no worker is ready: see `is_ready`.
        """
        link = self._least_busy()
        if link is None:
            raise WorkerFailedError("none is ready")
        self._n_ordered += 1
        return link.start(make_order(self._n_ordered), lease, on_end)

    def need_masters(self) -> None:
        """Have the masters of running scans written: Redis waits for room."""
        for place in self._places:
            if place.link is not None:
                place.link.need_masters()

    def stop(self, deadline: float) -> None:
        """Have all workers end their attempts and leave; return at the deadline."""
        for place in self._places:
            if place.link is not None:
                place.link.stop()
                # One that is ready lists scans in the masters above them, then leaves.
                if not (place.link.is_ready or place.link.n_attempts):
                    self._kill(place)
        self._wait_for_ends(deadline)

    def kill(self) -> None:
        """Kill the workers that still run, and wait for their end unless they hang."""
        for place in self._places:
            self._kill(place)
        self._wait_for_ends(time.monotonic() + _REAP_S)

    def _wait_for_ends(self, deadline: float) -> None:
        while True:
            for place in self._places:
                self._bury(place)
            if not any(place.link for place in self._places):
                return
            if time.monotonic() >= deadline:
                return
            time.sleep(_POLL_S)

    def _least_busy(self) -> WorkerLink | None:
        links = [place.link for place in self._places if not place.is_killed]
        ready = [one for one in links if one and one.is_ready and not one.silence]
        return min(ready, key=lambda one: one.n_attempts, default=None)

    def _fill(self, place: _Place) -> None:
        ours, theirs = Pipe()
        link = WorkerLink(Channel(ours), self._settings, self._progress)
        is_first = self._n_launched < len(self._places)
        self._n_launched += 1
        place.started_at = time.monotonic()
        try:
            link.open()
            place.host = self._launch(theirs, is_first)
        except (OSError, RuntimeError, MemoryError) as error:  # no process, no thread
            theirs.close()
            link.abandon("")
            self._note_end(place, str(error), _LONGEST_PAUSE_S)
            return
        place.link = link

    def _bury(self, place: _Place) -> None:
        """End the attempts of a worker that is dead, once its last words are read."""
        if place.link is None or place.host is None:
            return
        end = place.host.end()
        if end is None or place.link.is_answering:
            return
        link, place.link, place.host = place.link, None, None
        n_attempts = link.n_attempts
        if n_attempts or not (place.is_killed or end == "exit code 0"):
            log.error(
                LogEvent.WORKER_DIED, worker=link.pid, how=end, attempts=n_attempts
            )
        link.abandon(f"paused: its worker process ended ({end}); it begins again")
        longest_s = _LONGEST_PAUSE_READY_S if link.is_ready else _LONGEST_PAUSE_S
        self._note_end(place, end, longest_s)

    def _note_end(self, place: _Place, end: str, longest_s: float) -> None:
        now = time.monotonic()
        if now - place.started_at > _SHORT_LIFE_S:
            place.backoff.reset()
        is_first, pause_s = place.backoff.is_first, place.backoff.next_s()
        place.last_end = end
        place.not_before = now if is_first else now + min(pause_s, longest_s)
        place.is_killed = False

    def _kill_silent(self, place: _Place) -> None:
        link = place.link
        if link is None or place.host is None or place.is_killed:
            return
        limit_s = self._settings.worker_silence_s
        if link.silent_s > (limit_s if link.is_ready else max(limit_s, _START_S)):
            log.error(LogEvent.WORKER_SILENT, worker=link.pid, seconds=limit_s)
            self._kill(place)

    @staticmethod
    def _kill(place: _Place) -> None:
        if place.host is not None:
            place.is_killed = True
            place.host.kill()
