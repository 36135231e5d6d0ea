"""The writer of the demo: ``python -m scanbus.cli.demo.writer URL ROOT``.

It is ``scanbus writer --once``, but waits for the first scan and reports in JSON.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scanbus.cli.demo.progress_report import print_report
from scanbus.cli.demo.publisher import DETECTOR
from scanbus.cli.logs import log_to_stderr
from scanbus.schemas.errors import DeadlineError, ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer

__all__ = ["main"]

_SCAN_TIMEOUT_S = 60.0
_POLL_S = 0.1


def main(argv: Sequence[str]) -> ExitCode:
    """Write the first scan on the bus; return the exit code of its verdict."""
    log_to_stderr(logging.INFO)
    url, root = argv[0], Path(argv[1])
    try:
        _wait_for_scan(url)
        settings = WriterSettings.load(redis=url, root=root)
        return run_writer(settings, once=True, progress=_count_frames)
    except ScanbusError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _wait_for_scan(url: str) -> None:
    deadline = time.monotonic() + _SCAN_TIMEOUT_S
    with Subscriber(url, name="scanbus-demo-writer") as subscriber:
        while not subscriber.scans(limit=1):
            if time.monotonic() > deadline:
                what = "waiting for a scan"
                raise DeadlineError(what, _SCAN_TIMEOUT_S, "none was announced")
            time.sleep(_POLL_S)


def _count_frames(name: str, done: int, total: int | None) -> None:
    if name == DETECTOR:
        print_report("written", done, total)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
