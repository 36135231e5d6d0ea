"""Send one dataset, and end by SIGKILL at the n-th thing that is done to the system.

What Python calls an audit event: opening, renaming and removing files, connecting. So a
test kills at each step there is, without a hook in the program. Run as
``python -m tests.support.killed_icat N ARGUMENTS...``; prints the number of events if
there are fewer than N.
"""

from __future__ import annotations

import os
import signal
import sys

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "socket.connect", "fcntl.flock")
_left = int(sys.argv[1])
_armed = False


def _count(event: str, arguments: tuple[object, ...]) -> None:
    global _left  # noqa: PLW0603 - audit hooks have no other state
    if not _armed or event not in _EVENTS:
        return
    # Of all files that are opened, those of the outbox; ours are opened by descriptor.
    if event == "open" and "@" not in str(arguments[0]):
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(_count)
if __name__ == "__main__":
    import icat_esrf_definitions.models
    import pyicat_plus.client.main

    from scanbus.cli import main

    _armed = True
    code = main(sys.argv[2:])
    _armed = False
    print("events", int(sys.argv[1]) - _left)
    sys.exit(code)
