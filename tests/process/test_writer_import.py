"""Importing the writer is quick: a check needs no service."""

import subprocess
import sys


def test_a_check_does_not_load_the_service() -> None:
    code = (
        "import sys\n"
        "from scanbus.writer import check_files\n"
        "print([m for m in sys.modules if m.startswith('scanbus.writer.service')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
