"""A worker: reads the bus and writes files, in a process beside the service.

It holds all that may crash, hang or grow: libhdf5, filters, the decoding of entries. It
runs each attempt in a thread, as the service orders, and has no state of its own: when
it dies, its attempts begin again in another worker, from the disk.

``python -m scanbus.writer.service.worker DESCRIPTOR PARENT`` is its process; the
service starts it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from scanbus.schemas.library_logs import take_library_logs
from scanbus.schemas.logs import relay_logs
from scanbus.writer.masters.unlisted import UnlistedScans
from scanbus.writer.scan.commit_queue import Stopped
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.service.attempt import Attempt, ServiceAuthority, ServiceCalls
from scanbus.writer.service.worker_channel import (
    AttemptOrder,
    Channel,
    Outcome,
    PeerGoneError,
)
from scanbus.writer.settings import WriterSettings
from scanbus.writer.steps import write_hits
from scanbus.writer.storage.data_root import allow_links_to
from scanbus.writer.storage.hdf5 import has_lost_files
from scanbus.writer.storage.references import allow_references_below
from scanbus.writer.storage.replaced_files import ReplacedFilesSweep

__all__ = ["Worker", "main"]

# Interval of its signs of life; shorter if leases are.
_ALIVE_S = 1.0
_LEAVING_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1


class Worker:
    """Runs attempts as it is told, until it is told to stop or the service is gone.

    Parameters
    ----------
    channel : Channel
        The worker's end.
    make_writer : callable
        Creates the scan writer of each attempt.
    """

    def __init__(
        self, channel: Channel, make_writer: type[ScanWriter] = ScanWriter
    ) -> None:
        self._channel = channel
        self._make_writer = make_writer
        self._calls = ServiceCalls(channel)
        self._attempts: dict[int, Attempt] = {}
        self._settings: WriterSettings | None = None
        self._shows_progress = False
        self._is_stopping = False
        self._alive_s = _ALIVE_S
        self._sweep: ReplacedFilesSweep | None = None
        self._unlisted: UnlistedScans | None = None

    def run(self) -> None:
        """Follow the service's orders; return when it is told to stop.

        Raises
        ------
        PeerGoneError
            If the service is gone; attempts still run then, and have no authority.
        """
        self._channel.send("ready", 0, os.getpid())
        next_alive = 0.0
        while not (self._is_stopping and not self._attempts):
            poll_s = _LEAVING_POLL_S if self._is_stopping else self._alive_s
            for message in self._channel.receive(poll_s):
                self._handle(*message)
            if time.monotonic() >= next_alive:
                next_alive = time.monotonic() + self._alive_s
                self._say_alive()
                if self._sweep is not None and self._unlisted is not None:
                    self._sweep.start()
                    self._unlisted.start()
            # What HDF5 lost cannot be mended here: another process takes over.
            self._is_stopping = self._is_stopping or has_lost_files()
        if self._unlisted is not None and not has_lost_files():
            self._unlisted.run()

    def _handle(self, kind: str, number: int, *values: Any) -> None:
        match kind:
            case "configure":
                self._configure(*values)
            case "start":
                self._start(AttemptOrder.from_message(values[0]))
            case "reply":
                self._calls.answer(number, *values)
            case "masters":
                for attempt in tuple(self._attempts.values()):
                    attempt.need_master()
            case "stop":
                self._is_stopping = True

    def _configure(self, settings: str, shows_progress: bool) -> None:
        self._settings = WriterSettings.from_message(settings)
        self._shows_progress = shows_progress
        self._alive_s = min(_ALIVE_S, self._settings.lease_s / 4)
        allow_links_to(self._settings.allowed_roots)
        allow_references_below(self._settings.external_roots)
        root, grace_s = self._settings.root, self._settings.grace_s
        self._sweep = ReplacedFilesSweep(root, grace_s)
        self._unlisted = UnlistedScans(root, grace_s)

    def _say_alive(self) -> None:
        attempts = tuple(self._attempts.items())
        stalled = [[number, attempt.stalled] for number, attempt in attempts]
        problems = [] if self._unlisted is None else self._unlisted.problems
        self._channel.send("alive", 0, [each for each in stalled if each[1]], problems)

    def _start(self, order: AttemptOrder) -> None:
        if self._settings is None:
            raise ValueError("an attempt was ordered before the settings came")

        def on_points(channel: str, done: int, total: int | None) -> None:
            if self._shows_progress:
                self._channel.send("points", order.number, channel, done, total)

        attempt = Attempt(
            order,
            self._settings,
            ServiceAuthority(self._calls, order),
            is_stopped=lambda: self._is_stopping,
            on_points=on_points,
            make_writer=self._make_writer,
        )
        self._attempts[order.number] = attempt
        name = f"scan-{order.identity.uid[:8]}"
        # Daemons: a thread that hangs on the disk must not hold up the exit.
        thread = threading.Thread(
            target=self._run, args=(order.number, attempt), name=name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # No more threads: others may end meanwhile.
            self._end(order.number, Outcome(problem=f"paused: {error}"))

    def _run(self, number: int, attempt: Attempt) -> None:
        with suppress(PeerGoneError, Stopped):
            self._end(number, attempt.run())

    def _end(self, number: int, outcome: Outcome) -> None:
        self._channel.send("ended", number, outcome.to_message())
        del self._attempts[number]


def main() -> NoReturn:
    """Run a worker in this process, connected by the descriptor that was inherited."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    faulthandler.enable()
    channel = Channel(Connection(descriptor))
    relay_logs(lambda *event: _send_log(channel, *event))
    take_library_logs()
    code = 0
    try:
        Worker(channel).run()
    except PeerGoneError:
        pass
    except BaseException:  # noqa: BLE001 - the outermost frame of the process
        traceback.print_exc()
        code = 1
    _leave(code)


def _send_log(channel: Channel, level: str, event: str, fields: dict[str, Any]) -> None:
    with suppress(PeerGoneError):
        channel.send("log", 0, level, event, fields)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the service's thread that made it ends.

    Also a service that was killed, while this process waits for a disk or is stopped:
    it would see the end of its sockets too late.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # It ended before.


def _leave(code: int) -> NoReturn:
    """Exit at once, without the handlers of HDF5 that would close files again."""
    write_hits()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
