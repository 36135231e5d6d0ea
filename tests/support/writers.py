"""Writers as processes, to be killed, paused and stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    """One `scanbus writer`, and its root if there is none yet."""

    def __init__(
        self, url: str, root: Path, *options: str, failpoints: str = ""
    ) -> None:
        made_root(root)
        traps = {FAILPOINTS_VARIABLE: failpoints} if failpoints else {}
        self.process = subprocess.Popen(
            writer_command(root, *options),
            env={**os.environ, "SCANBUS_REDIS": url, **traps},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

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
        self.said = self.process.communicate(timeout=timeout_s)[1]
        return self.process.returncode


@contextmanager
def writer(
    url: str, root: Path, *options: str, failpoints: str = ""
) -> Iterator[WriterProcess]:
    """Run a writer; kill it at the end of the test if it is still running."""
    one = WriterProcess(url, root, *options, failpoints=failpoints)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.go_on()
            one.kill()
        elif one.process.stderr is not None:
            one.process.stderr.close()  # It has exited, and the test did not read it.


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
