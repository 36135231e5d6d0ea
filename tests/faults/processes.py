"""The processes of the fault tests: writers and publishers, and what they said."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS_VARIABLE

__all__ = ["PublisherProcess", "WriterProcess", "until"]

REPOSITORY = Path(__file__).resolve().parents[2]
# What a writer has to leave after SIGTERM: `stop_s` of its settings, and some for a
# machine with other things to do.
STOP_S = 5.0
LEASE_S = 1.0
CLOSE_S = 4.0


def until(is_so: Callable[[], Any], timeout_s: float) -> bool:
    """Wait for something; return whether it came."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.01)
    return bool(is_so())


class _Process:
    """A child with its output in files; ended when the arena is."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        name: str,
        folder: Path,
        environment: Mapping[str, str],
        *,
        under: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.out, self.log = folder / f"{name}.out", folder / f"{name}.log"
        # Its successor says on what it said.
        with self.out.open("ab") as out, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", f"tests.faults.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, **environment},
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def has_failed(self) -> bool:
        """Whether it ended in a way that nobody wanted."""
        return self.process.poll() not in (None, 0, -signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    @property
    def descendants(self) -> list[int]:
        """Process ids of its children, and of theirs."""
        found: list[int] = []
        left = [self.process.pid]
        while left:
            for path in Path(f"/proc/{left.pop()}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    left += map(int, path.read_text().split())
            found = list(dict.fromkeys([*found, *left]))
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def log_tail(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-4:])


class WriterProcess(_Process):
    """A writer, perhaps with a failpoint that is armed."""

    def __init__(
        self,
        url: str,
        root: Path,
        folder: Path,
        name: str,
        *,
        failpoints: str = "",
        memory_bytes: int = 2**30,
        mutant: str = "",
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._hits = folder / f"{name}.hits"
        settings = {
            "SCANBUS_REDIS": url,
            "SCANBUS_ROOT": str(root),
            "SCANBUS_MEMORY_BYTES": str(memory_bytes),
            "SCANBUS_LEASE_S": str(LEASE_S),
            "SCANBUS_HEARTBEAT_S": "0.5",
            "SCANBUS_FLUSH_S": "0.15",
            "SCANBUS_POLL_S": "0.1",
            "SCANBUS_RETRY_S": "0.3",
            "SCANBUS_MASTER_S": "0.3",
            "SCANBUS_STOP_S": str(STOP_S),
            # One that is suspended on purpose must wake up again.
            "SCANBUS_WORKER_SILENCE_S": "600",
            # Each scan joins some of its segments, and removes what they replace.
            "SCANBUS_WANTED_SOURCES": "2",
            "SCANBUS_GRACE_S": "0",
            # Of scans whose publisher does not come back, or later.
            "SCANBUS_INTERRUPTED_CLOSE_S": str(CLOSE_S),
            "SCANBUS_SPOOLED_CLOSE_S": str(3 * CLOSE_S),
            FAILPOINTS_VARIABLE: failpoints,
            FAILPOINT_LOG_VARIABLE: str(self._hits),
            **(environment or {}),
        }
        arguments = [mutant] if mutant else []
        super().__init__(
            "writer_process", arguments, name, folder, settings, under=under
        )

    @property
    def hits(self) -> list[str]:
        """Lines of its failpoints: what was done, and at the end what was passed."""
        return self._hits.read_text().splitlines() if self._hits.exists() else []

    @property
    def was_hit(self) -> bool:
        return any(not line.endswith(" passed") for line in self.hits)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def workers(self) -> list[psutil.Process]:
        """Its worker processes, without the children that these may have."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; to its workers too if it is to suspend or to wake up."""
        if number in (signal.SIGSTOP, signal.SIGCONT):
            for worker in self.workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.send_signal(number)
        super().signal(number)

    @property
    def is_ready(self) -> bool:
        return '"writer_started"' in self.said

    def leave(self) -> float:
        """Ask it to leave; return how long it took, or infinity."""
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        left = until(lambda: not self.is_running, 4 * STOP_S)
        took_s = time.monotonic() - started
        self.kill()
        return took_s if left else float("inf")


class PublisherProcess(_Process):
    """A publisher that sends scan after scan.

    Attributes
    ----------
    left : set of int
        Scans of a predecessor that was killed: it never hears of their verdicts.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        seed: int,
        length: int,
        first: int = 1,
        mutant: str = "",
        patience_s: float = 0.0,
        spool: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        arguments = [url, str(seed), str(length), str(first)]
        arguments += ["--mutant", mutant] if mutant else []
        arguments += ["--spool", str(spool)] if spool else []
        arguments += ["--patience-s", str(patience_s)] if patience_s else []
        self.left: set[int] = set()
        super().__init__(
            "publisher_process", arguments, "publisher", folder, environment or {}
        )

    def end(self) -> None:
        """Have it finish its scan and wait for its verdicts."""
        self.tell("end")

    def said(self, event: str) -> dict[int, dict[str, Any]]:
        """What it said of that kind, by scan."""
        return {line["scan"]: line for line in self.told(event)}

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return all that it said of that kind."""
        lines = self.out.read_bytes().splitlines(keepends=True)
        # The last line of a process that was killed may be cut.
        told = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [line for line in told if line["event"] == event]

    @property
    def unjudged(self) -> set[int]:
        """Scans that have begun and that it has to bring to their verdict."""
        ends = ("judged", "closed", "lost", "refused")
        over = {scan for event in ends for scan in self.said(event)}
        return set(self.said("begun")) - over - self.left
