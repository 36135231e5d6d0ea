"""Send datasets; the n-th one by a child that is killed at its n-th step.

A step is what Python calls an audit event: opening, renaming and removing files,
connecting. So a test kills wherever there is something to interrupt, without a hook in
the program. Run as ``python -m tests.support.killed_icat BROKER DATASET...``; prints
the exit status of each child. The children are forked, as the imports take longest.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

_EVENTS = (
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "socket.connect",
    "fcntl.flock",
)


def send(arguments: list[str], n: int) -> int:
    """Run the command; never returns if it has `n` steps."""
    from scanbus.cli import main

    left = n

    def count(event: str, given: tuple[object, ...]) -> None:
        nonlocal left
        # Of all files that are opened, those of the outbox.
        if event not in _EVENTS or (event == "open" and "@" not in str(given[0])):
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    return main(["icat", "send", *arguments])


if __name__ == "__main__":
    for module in ("icat_esrf_definitions.models", "pyicat_plus.client.main"):
        importlib.import_module(module)
    broker, *datasets = sys.argv[1:]
    for n, dataset in enumerate(datasets, start=1):
        child = os.fork()
        if child == 0:
            os._exit(send([dataset, "--broker", broker], n))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()
