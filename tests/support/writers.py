"""Writers as processes, to be killed, paused and stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from scanbus.bus.store import connect, find_scan
from scanbus.schemas import Verdict
from scanbus.writer.steps import FAILPOINTS_VARIABLE
from tests.support.roots import made_root

__all__ = ["WriterProcess", "final_verdict", "wait_until", "writer", "writer_command"]


def writer_command(root: Path, *options: str) -> list[str]:
    """Return the command line of a writer."""
    command = [sys.executable, "-m", "scanbus.cli", "writer", "--root", str(root)]
    return [*command, *options]


class WriterProcess:
    """One `scanbus writer`, and its root if there is none yet.

    Parameters
    ----------
    prefix : sequence of str
        Words before its command: a program that starts it.
    """

    def __init__(
        self,
        url: str,
        root: Path,
        *options: str,
        failpoints: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        made_root(root)
        traps = {FAILPOINTS_VARIABLE: failpoints} if failpoints else {}
        # A pipe that nobody reads is full after 64 kB, and stops whoever logs into it.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until `close`
        self.process = subprocess.Popen(
            [*prefix, *writer_command(root, *options)],
            env={**os.environ, "SCANBUS_REDIS": url, **traps},
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        """What it has logged so far."""
        if self._log.closed:
            return self._said
        self._log.seek(0)
        return self._log.read()

    @property
    def workers(self) -> list[psutil.Process]:
        """Its worker processes, without the children that these may have."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def pause(self) -> None:
        """Stop all its processes and their threads: the signal alone returns before."""
        for worker in self.workers:
            worker.suspend()
        self.process.send_signal(signal.SIGSTOP)
        how = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, self.process.pid, how)

    def go_on(self) -> None:
        for worker in self.workers:
            worker.resume()
        self.process.send_signal(signal.SIGCONT)

    def leave(self, timeout_s: float = 20) -> int:
        self.process.terminate()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """Kill it if it still runs; what it said can still be read."""
        if self.process.poll() is None:
            self.go_on()
            self.kill()
        self._said = self.said
        self._log.close()


@contextmanager
def writer(
    url: str,
    root: Path,
    *options: str,
    failpoints: str = "",
    prefix: Sequence[str] = (),
) -> Iterator[WriterProcess]:
    """Run a writer; kill it at the end of the test if it is still running."""
    one = WriterProcess(url, root, *options, failpoints=failpoints, prefix=prefix)
    try:
        yield one
    finally:
        one.close()


def wait_until(
    condition: Callable[[], Any], timeout_s: float = 90, every_s: float = 0.02
) -> Any:
    """Return the value of a condition as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every_s)
    raise AssertionError(f"{condition} did not come true in {timeout_s} s")


def final_verdict(url: str, uid: str, timeout_s: float = 90) -> Verdict:
    """Wait for the final verdict of a scan and return it."""
    with connect(url, name="test") as client:

        def judged() -> Verdict | None:
            verdict = find_scan(client, uid).verdict
            return None if verdict is None or verdict.provisional else verdict

        verdict: Verdict = wait_until(judged, timeout_s)
        return verdict
