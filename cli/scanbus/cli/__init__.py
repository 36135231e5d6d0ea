"""The command ``scanbus``: parse arguments, call a component, print the result.

Large packages are imported inside the commands, so that ``scanbus --help`` is fast and
``scanbus ls`` works without HDF5.
"""

from __future__ import annotations

from scanbus.cli.interrupts import ignore_interrupts_at_exit, leave_on_interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0 complete or in order; 1 usage, configuration or no Redis; 2 partial;
        3 failed; 130 interrupted by the user; 143 ended by SIGTERM before the outcome
        was known.
    """
    if argv is None:  # The process is this command's.
        leave_on_interrupt()
        ignore_interrupts_at_exit()
    # Imported here: tests and the demo import private_redis without the commands.
    from scanbus.cli.app import run  # noqa: PLC0415

    return run(argv)
