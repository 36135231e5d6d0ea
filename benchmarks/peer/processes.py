"""Processes that are killed, paused and watched, and their output."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peer.environment import clean_environment

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("schemas", "bus", "publisher", "subscriber", "writer", "cli")
OURS = Path(sys.executable)


def until(is_so: Callable[[], Any], timeout_s: float) -> bool:
    """Wait for a condition; return whether it became true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.05)
    return bool(is_so())


class Process:
    """A child with its output in files.

    Parameters
    ----------
    command : sequence of str
        The first word is the program.
    out : pathlib.Path
        File for its output; its errors go to ``.log`` beside it.
    """

    def __init__(self, command: Sequence[str], out: Path) -> None:
        self._out, self.log = out.with_suffix(".out"), out.with_suffix(".log")
        # The source tree serves where scanbus is not installed; the peer's own
        # interpreter sees no more than this package of it.
        folders = [ROOT, *(ROOT / name for name in COMPONENTS)]
        path = folders if command[0] == str(OURS) else [ROOT]
        environment = {
            **clean_environment(),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONUNBUFFERED": "1",
        }
        with self._out.open("wb") as out_file, self.log.open("wb") as log_file:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=log_file,
                env=environment,
                cwd=out.parent,
            )

    @property
    def is_running(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    def pause(self) -> None:
        """Pause it with SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue it after `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait(20)

    def said(self, event: str = "") -> list[dict[str, Any]]:
        """Return its lines of JSON, of one kind or all."""
        lines = self._out.read_bytes().splitlines(keepends=True)
        told = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [line for line in told if event in ("", line["event"])]

    def log_text(self) -> str:
        """Return what it logged."""
        return self.log.read_text(errors="replace")
