"""Where the log of a library goes that runs in somebody's program."""

import subprocess
import sys

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
