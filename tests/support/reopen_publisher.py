"""A publisher that goes on with its scan, as a process to be killed.

``python -m tests.support.reopen_publisher URL SPOOL START STOP`` sends the points from
START to STOP, in the scan that its predecessor left if START is not 0, and prints to
stdout up to which one all was flushed. It ends the scan if STOP is LAST. SPOOL is ``-``
for none.
"""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.cli.logs import log_to_stderr
from scanbus.publisher import Publisher, Scan
from scanbus.publisher.gateways.runner.sent import wait_sent

UID = "reopenedscan"
LAST = 400
SHAPE = (32, 32)
# Large enough for a lane of its own.
MASK = np.random.default_rng(0).integers(0, 2**32, (600, 600), dtype="uint32")


def frame(point: int) -> npt.NDArray[Any]:
    """Return the frame of a point."""
    return np.random.default_rng(point).integers(0, 999, SHAPE).astype("uint16")


def declare(scan: Scan) -> None:
    """Declare lanes of each kind."""
    scan.channel("x")
    scan.channel("text", dtype="string", max_point_bytes=32)
    scan.detector(
        "one",
        shape=SHAPE,
        dtype="uint16",
        points_per_chunk=1,
        nexus={"pixel_mask": MASK},
    )
    scan.detector("four", shape=SHAPE, dtype="uint16", points_per_chunk=4)


def send(scan: Scan, point: int) -> None:
    """Send a point of each lane, unless the lane has it."""
    values = {
        "x": point * 0.5,
        "text": f"point {point}",
        "one": frame(point),
        "four": frame(point),
    }
    for name, value in values.items():
        with suppress(ValueError):
            scan.send(name, value, point=point)


def main(url: str, spool: Path | None, start: int, stop: int) -> None:
    """Send points."""
    with Publisher(
        url,
        spool=spool,
        left_open=[UID],
        memory_bytes_kept=2**18,
        reorder_s=0.2,
        close_timeout_s=0,
    ) as publisher:
        arguments: dict[str, Any] = {"session": "20260101", "quota_bytes": 2**22}
        scan = (
            publisher.reopen(UID, **arguments)
            if start
            else publisher.scan(uid=UID, **arguments)
        )
        with scan:
            if not start:
                declare(scan)
            for name, length in scan.lengths.items():
                scan.skip(name, max(0, start - length))
            for point in range(start, stop):
                send(scan, point)
                if point % 10 == 9:
                    scan.flush(20)
                    sys.stdout.write(f"{point + 1}\n")
                    sys.stdout.flush()
            if stop < LAST:
                time.sleep(60)
        wait_sent(url, [UID])


if __name__ == "__main__":
    log_to_stderr()
    spool = None if sys.argv[2] == "-" else Path(sys.argv[2])
    main(sys.argv[1], spool, int(sys.argv[3]), int(sys.argv[4]))
