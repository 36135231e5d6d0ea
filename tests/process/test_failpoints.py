"""Failpoints of steps: what they do to a process."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

from scanbus.writer.steps import (
    FAILPOINT_LOG_VARIABLE,
    FAILPOINTS_VARIABLE,
)


def run(code: str, traps: str, log: Path) -> subprocess.CompletedProcess[str]:
    """Run a piece of code in a process in which traps are set."""
    return subprocess.run(
        [sys.executable, "-c", f"from scanbus.writer.steps import step\n{code}"],
        env={
            **os.environ,
            FAILPOINTS_VARIABLE: traps,
            FAILPOINT_LOG_VARIABLE: str(log),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_nth_hit_kills_and_is_on_record(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    code = """
for n in range(5):
    print(n, flush=True)
    with step("link"):
        pass
"""

    done = run(code, "link.before=kill@3;fsync.after=kill@1", log)

    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]
    assert log.read_text() == "link.before 3 kill\n"


def test_an_error_of_the_system_is_raised_once(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    code = """
try:
    with step("write"):
        print("not reached")
except OSError as error:
    print(error.errno)
with step("write"):
    pass
"""
    done = run(code, "write.before=raise=ENOSPC", log)

    assert done.stdout.split() == [str(errno.ENOSPC)]
    assert done.returncode == 0
    assert log.read_text().splitlines() == [
        "write.before 1 raise",
        "write.before 2 passed",
        "write.after 1 passed",
    ]


def test_a_delay_takes_its_time(tmp_path: Path) -> None:
    code = """
import time
started = time.monotonic()
with step("close"):
    print(time.monotonic() - started)
"""
    done = run(code, "close.before=delay=0.3@1", tmp_path / "hits")

    assert float(done.stdout) >= 0.3


def test_a_step_that_fails_does_not_come_to_its_second_failpoint(
    tmp_path: Path,
) -> None:
    log = tmp_path / "hits"
    code = """
try:
    with step("verify"):
        raise ValueError
except ValueError:
    print("raised")
"""
    done = run(code, "verify.after=kill@1", log)

    assert (done.returncode, done.stdout.strip()) == (0, "raised")
    assert log.read_text() == "verify.before 1 passed\n"


def test_a_timed_step_has_its_failpoints_too(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    code = """
from pathlib import Path
from scanbus.writer.steps import Steps
with Steps().step("link", Path("eiger_0000.h5")):
    print("linked", flush=True)
"""
    done = run(code, "link.after=kill@1", log)

    assert (done.returncode, done.stdout.strip()) == (-signal.SIGKILL, "linked")
    assert log.read_text() == "link.after 1 kill\n"
