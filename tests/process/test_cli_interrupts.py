"""Ctrl-C where Python, or an extension, makes something else of it."""

import subprocess
import sys

import pytest

IN_FINALISER = """
import signal
from scanbus.cli.interrupts import raise_on_interrupt, was_raised

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        [None for _ in range(9)]  # It is raised here, and Python drops it.

raise_on_interrupt()
try:
    assert not was_raised()
    Finalised()
    for _ in range(10**7):
        pass
except KeyboardInterrupt:
    print("interrupted", was_raised())
"""

# As a validator of pydantic does that calls Python while Ctrl-C comes.
AS_ANOTHER_ERROR = """
import signal, sys
import scanbus.cli.commands.ls
from scanbus.cli.interrupts import raise_on_interrupt

def run():
    raise_on_interrupt()
    try:
        signal.raise_signal(signal.SIGINT)
        [None for _ in range(9)]
    except KeyboardInterrupt:
        raise ValueError("validation failed") from None

scanbus.cli.commands.ls.run = run
from scanbus.cli import main
sys.argv[1:] = ["ls"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("program", "exit_code", "out"),
    [(IN_FINALISER, 0, "interrupted True\n"), (AS_ANOTHER_ERROR, 130, "")],
)
def test_an_interrupt_is_not_lost(program: str, exit_code: int, out: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (done.returncode, done.stdout) == (exit_code, out)
