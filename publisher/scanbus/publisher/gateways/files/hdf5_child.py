"""Look at HDF5 files that are named on standard input; a program of `read_apart`.

Each line is a request, and the answer to it says that the process lives.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import closing, suppress
from pathlib import Path

from scanbus.publisher.gateways.files.hdf5_frames import read_hdf5

# Processor time after which a damaged file is given up.
_MOST_S = 20


def main() -> None:
    """Read what stands around the frames of each file, and its first frame."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # It ends with its input.
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    for line in sys.stdin:
        asked = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        until = int(used.ru_utime + used.ru_stime) + _MOST_S
        resource.setrlimit(resource.RLIMIT_CPU, (until, most))
        path = Path(os.fsdecode(bytes.fromhex(asked["path"])))
        # What is wrong with it, its reader says again.
        follows = bool(asked["follows_links"])
        with (
            suppress(Exception),
            closing(read_hdf5(path, follows_links=follows, partial=True)) as found,
        ):
            next(found, None)
        sys.stdout.write("alive\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
