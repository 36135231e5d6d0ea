"""Child processes that report progress, and always end with their parent's block."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Self

from scanbus.cli.demo.progress_report import ProgressReport, parse_report

__all__ = ["ChildProcess", "ProcessGroup"]

# After SIGTERM the writer still closes its files.
_END_TIMEOUT_S = 8.0
_LAST_LINES = 3


class ChildProcess:
    """One child process and its stderr.

    Parameters
    ----------
    name : str
        Name for messages.
    module : str
        Module that ``python -m`` runs.
    arguments : sequence of str
        Its arguments.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # Its own process group: Ctrl-C reaches only the parent, which ends it.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    def lines(self) -> Iterator[str]:
        """Yield the lines of its stdout until it ends."""
        assert self._process.stdout is not None
        yield from self._process.stdout

    def last_lines(self) -> str:
        """Return the last lines of its stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-_LAST_LINES:])

    def terminate(self) -> None:
        """Send SIGTERM to its process group."""
        self._signal(signal.SIGTERM)

    def wait_or_kill(self, timeout_s: float) -> None:
        """Wait until it ends; kill it after `timeout_s`."""
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Close its pipes."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class ProcessGroup:
    """Several child processes; a context manager that ends all of them."""

    def __init__(self) -> None:
        self._children: list[ChildProcess] = []
        self._threads: list[threading.Thread] = []
        self._reports: queue.Queue[ProgressReport] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Terminate all processes that still run, and wait for their end."""
        for child in self._children:
            child.terminate()
        deadline = time.monotonic() + _END_TIMEOUT_S
        for child in self._children:
            child.wait_or_kill(deadline - time.monotonic())
        for thread in self._threads:
            thread.join(_END_TIMEOUT_S)
        for child in self._children:
            child.close()

    def start(self, name: str, module: str, *arguments: str) -> ChildProcess:
        """Start one process."""
        child = ChildProcess(name, module, arguments)
        self._children.append(child)
        thread = threading.Thread(target=self._listen, args=(child,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return child

    def reports(self, timeout_s: float) -> list[ProgressReport]:
        """Return new reports; wait at most `timeout_s` for the first one."""
        found: list[ProgressReport] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._reports.get(timeout=timeout_s))
            while True:
                found.append(self._reports.get_nowait())
        return found

    def _listen(self, child: ChildProcess) -> None:
        for line in child.lines():
            report = parse_report(line)
            if report is not None:
                self._reports.put(report)
