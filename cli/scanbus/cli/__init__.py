"""The command ``scanbus``: parse, call, print, and nothing else.

Everything heavy is imported inside the commands, so that ``scanbus --help`` is quick
and ``scanbus ls`` works where there is no HDF5.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process if not given.

    Returns
    -------
    int
        0 complete or in order; 1 usage, configuration or no Redis; 2 partial;
        3 failed; 130 interrupted by the user.
    """
    # Tests and the demo import private_redis from here without the whole command.
    try:
        from scanbus.cli.app import run  # noqa: PLC0415
    except KeyboardInterrupt:  # Within the half second that the libraries take.
        sys.stderr.write("scanbus: interrupted before anything was done\n")
        return 130  # ExitCode.INTERRUPTED, which comes with the libraries, too.
    return run(argv)
