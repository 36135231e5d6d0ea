"""Failpoints: where they are, what they do, and that they are off."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scanbus.schemas.errors import ConfigurationError
from scanbus.writer import failpoints
from scanbus.writer.failpoints import FAILPOINTS, LOG_VARIABLE, VARIABLE, reach


def run(code: str, traps: str, log: Path) -> subprocess.CompletedProcess[str]:
    """Run a piece of code in a process in which traps are set."""
    return subprocess.run(
        [sys.executable, "-c", f"from scanbus.writer.failpoints import reach\n{code}"],
        env={**os.environ, VARIABLE: traps, LOG_VARIABLE: str(log)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_failpoint_stands_in_the_writer(repository: Path) -> None:
    folder = repository / "writer" / "scanbus" / "writer"
    text = "\n".join(path.read_text() for path in folder.rglob("*.py"))

    assert set(re.findall(r'reach\("([a-z_.]+)"\)', text)) == set(FAILPOINTS)


def test_without_the_variable_nothing_happens() -> None:
    assert failpoints._traps is None
    for name in FAILPOINTS:
        reach(name)


def test_the_nth_hit_kills_and_is_on_record(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    code = "for n in range(5): print(n, flush=True); reach('link.before')"

    done = run(code, "link.before=kill@3;fsync.after=kill@1", log)

    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]
    assert log.read_text() == "link.before 3 kill\n"


def test_an_error_of_the_system_is_raised_once(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    code = """
try:
    reach("write.before")
except OSError as error:
    print(error.errno)
reach("write.before")
"""
    done = run(code, "write.before=raise=ENOSPC", log)

    assert done.stdout.split() == [str(errno.ENOSPC)]
    assert done.returncode == 0
    assert log.read_text().splitlines() == [
        "write.before 1 raise",
        "write.before 2 passed",
    ]


def test_a_delay_takes_its_time(tmp_path: Path) -> None:
    code = """
import time
started = time.monotonic()
reach("close.before")
print(time.monotonic() - started)
"""
    done = run(code, "close.before=delay=0.3@1", tmp_path / "hits")

    assert float(done.stdout) >= 0.3


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
    with pytest.raises(ConfigurationError, match=VARIABLE):
        failpoints._parsed(traps)
