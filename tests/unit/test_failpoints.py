"""Failpoints of steps: where they are, what they do, and that they are off."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from scanbus.schemas.errors import ConfigurationError
from scanbus.writer import steps
from scanbus.writer.steps import (
    FAILPOINT_LOG_VARIABLE,
    FAILPOINTS,
    FAILPOINTS_VARIABLE,
    StepName,
    step,
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


def test_every_step_stands_in_the_writer(repository: Path) -> None:
    folder = repository / "writer" / "scanbus" / "writer"
    text = "\n".join(path.read_text() for path in folder.rglob("*.py"))

    names = set(re.findall(r'\bstep\(\s*"([a-z_]+)"', text))
    assert names == set(get_args(StepName))
    assert {f"{name}.{when}" for name in names for when in ("before", "after")} == set(
        FAILPOINTS
    )


def test_without_the_variable_nothing_happens() -> None:
    assert steps._traps is None
    for name in get_args(StepName):
        with step(name):
            pass
    assert step("write") is step("renew")


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


@pytest.mark.parametrize(
    "traps",
    [
        "nowhere=kill@1",
        "link.before=explode",
        "link.before=kill@soon",
        "link.before=raise=ENOTHING",
        "link.before=delay=long",
    ],
)
def test_a_trap_that_makes_no_sense_is_refused(traps: str) -> None:
    with pytest.raises(ConfigurationError, match=FAILPOINTS_VARIABLE):
        steps._parsed(traps)
