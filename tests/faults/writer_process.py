"""A writer as a process of its own: ``python -m tests.faults.writer_process [MUTANT]``.

Its settings come from the environment, as everywhere.
"""

import logging
import sys
import threading

from scanbus.cli.logs import log_to_stderr
from scanbus.writer import WriterSettings, run_writer
from tests.faults.mutants import WRITERS
from tests.faults.traps import set_trap


def listen() -> None:
    """Set a trap whenever it is told to."""
    for line in sys.stdin:
        _, name, times = line.split()
        set_trap(name, int(times))


def main() -> int:
    mutant = sys.argv[1] if len(sys.argv) > 1 else ""
    log_to_stderr(logging.INFO, is_service=True)
    threading.Thread(target=listen, daemon=True).start()
    return run_writer(WriterSettings.load(), make_writer=WRITERS.get(mutant))


if __name__ == "__main__":
    sys.exit(main())
