"""Processes that report: started together, ended together, whatever happens."""

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

from scanbus.cli.demo.reports import Report, parse_report

__all__ = ["Child", "Children"]

# The writer closes what it has open when it is asked to leave.
_LEAVE_TIMEOUT_S = 8.0
_LAST_LINES = 3


class Child:
    """One process and what it said on stderr.

    Parameters
    ----------
    name : str
        For messages.
    module : str
        What ``python -m`` runs.
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
            # A group of its own: Ctrl-C reaches the parent alone, which ends it.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, None while it runs."""
        return self._process.poll()

    def lines(self) -> Iterator[str]:
        """Yield what it prints until it ends."""
        assert self._process.stdout is not None
        yield from self._process.stdout

    def last_words(self) -> str:
        """Return the end of what it said on stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-_LAST_LINES:])

    def leave(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def end(self, timeout_s: float) -> None:
        """Wait for its end, then have it."""
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Let its pipes go."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class Children:
    """Several processes; a context manager that leaves none behind."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._threads: list[threading.Thread] = []
        self._said: queue.Queue[Report] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all that still run, and wait until they are gone."""
        for child in self._children:
            child.leave()
        deadline = time.monotonic() + _LEAVE_TIMEOUT_S
        for child in self._children:
            child.end(deadline - time.monotonic())
        for thread in self._threads:
            thread.join(_LEAVE_TIMEOUT_S)
        for child in self._children:
            child.close()

    def start(self, name: str, module: str, *arguments: str) -> Child:
        """Start one process."""
        child = Child(name, module, arguments)
        self._children.append(child)
        thread = threading.Thread(target=self._listen, args=(child,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return child

    def reports(self, timeout_s: float) -> list[Report]:
        """Return what was reported; waits for it, but not longer than `timeout_s`."""
        found: list[Report] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._said.get(timeout=timeout_s))
            while True:
                found.append(self._said.get_nowait())
        return found

    def _listen(self, child: Child) -> None:
        for line in child.lines():
            said = parse_report(line)
            if said is not None:
                self._said.put(said)
