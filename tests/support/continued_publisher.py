"""A publisher with a spool whose scan is closed meanwhile, as a process to be killed.

``python -m tests.support.continued_publisher URL SPOOL UID SIDE FIRST MORE`` sends
FIRST points with frames of SIDE x SIDE, waits for a line, sends MORE, and prints when
they are in the spool and its scan goes on as another one. It never ends that.
"""

import sys
import time
from pathlib import Path

import numpy as np

from scanbus.cli.logs import log_to_stderr
from scanbus.publisher import Publisher, Scan

# More than an event may hold: it travels in a lane of its own.
MASK = np.arange(2**19, dtype=np.int32)


def send(scan: Scan, side: int, first: int, n_points: int) -> None:
    for point in range(first, first + n_points):
        scan.send("a", float(point))
        scan.send("d", np.full((side, side), point, np.uint32))
    scan.flush(60)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(url: str, spool: str, uid: str, *numbers: int) -> None:
    side, first, more = numbers
    with Publisher(url, spool=Path(spool)) as publisher:
        # Segments end early, so that the spool's first files are removed.
        metadata, quota_bytes = {"mask": MASK}, 2**25
        with publisher.scan(
            session="20260101", uid=uid, metadata=metadata, quota_bytes=quota_bytes
        ) as scan:
            scan.channel("a")
            # Not compressed: large frames fill files of the spool, which are removed.
            scan.detector("d", shape=(side, side), dtype="uint32", codec="none")
            send(scan, side, 0, first)
            say("sent")
            sys.stdin.readline()
            send(scan, side, first, more)
            while scan.uid == uid:
                time.sleep(0.01)
            say("goes on")
            time.sleep(60)


if __name__ == "__main__":
    log_to_stderr()
    url, spool, uid, *numbers = sys.argv[1:]
    main(url, spool, uid, *map(int, numbers))
