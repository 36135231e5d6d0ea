"""Where the log of a library goes that runs in somebody's program."""

import subprocess
import sys
from typing import Any

import pytest
import structlog

from scanbus.schemas.log_events import LogEvent

SAYS = """
from scanbus.schemas.logs import get_logger
log = get_logger()
{}log.info('said')
"""
TO_STDOUT = """
import structlog, sys
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stdout))
"""


def run(configuration: str = "") -> tuple[str, str]:
    program = SAYS.format(configuration)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_results_of_a_program_stay_alone_on_its_stdout() -> None:
    out, err = run()
    assert out == ""
    assert "said" in err


def test_a_program_that_configures_structlog_has_its_way() -> None:
    out, err = run(TO_STDOUT)
    assert "said" in out
    assert err == ""


@pytest.mark.parametrize(
    "renderer",
    [
        structlog.processors.JSONRenderer(),
        structlog.processors.LogfmtRenderer(),
        structlog.processors.KeyValueRenderer(),
        structlog.dev.ConsoleRenderer(colors=False),
        structlog.dev.ConsoleRenderer(colors=True),
    ],
    ids=["json", "logfmt", "key-value", "plain", "coloured"],
)
def test_an_event_is_printed_as_its_name(renderer: Any) -> None:
    def printed(event: str) -> str:
        return str(renderer(None, "info", {"event": event, "level": "info", "n": 1}))

    assert printed(LogEvent.BUS_LOST) == printed("bus_lost")


def test_an_event_that_cannot_be_written_is_counted_and_stops_nobody() -> None:
    """Of a disk that is full, and of a processor that fails."""
    configuration = """
import structlog
times = 0
def fails(logger, method, event):
    global times
    times += 1
    if times < 4:
        raise OSError("No space left on device")
    return str(sorted(event.items()))
structlog.configure(processors=[fails])
log.info("said"); log.error("said"); log.debug("said")
"""
    out, _ = run(configuration)
    assert "('event', 'said'), ('log_lines_lost', 3)" in out


def test_lines_that_threads_lose_are_counted_once_each() -> None:
    configuration = """
import random, structlog, threading
chosen, said, lost = random.Random(1), [], []
def fails(logger, method, event):
    if chosen.random() < 0.5:
        lost.append(1)
        raise OSError("No space left on device")
    said.append(event.get("log_lines_lost", 0))
    return ""
structlog.configure(processors=[fails])
def work():
    for number in range(2000):
        log.info("said", log_lines_lost=0)
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
chosen.random = lambda: 1.0
log.info("said")
print("lost", sum(said) == len(lost) > 0, min(said) >= 0)
"""
    out, _ = run(configuration)
    assert "lost True True" in out
