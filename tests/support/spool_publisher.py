"""A publisher with a spool, as a process to be killed.

``python -m tests.support.spool_publisher URL SPOOL FRAMES`` prints to stdout up to
which point everything was flushed, and never ends its scan.
"""

import sys
import time
from pathlib import Path

from scanbus.cli.logs import log_to_stderr
from scanbus.publisher import Publisher
from tests.support.published import frames

SHAPE = (64, 64)


def main(url: str, spool: str, n_frames: int) -> None:
    with Publisher(url, spool=Path(spool), memory_bytes_kept=2**18) as publisher:
        with publisher.scan(session="20260101", uid="killedkilled") as scan:
            scan.channel("a", group="g")
            scan.channel("b", group="g")
            scan.detector("d", shape=SHAPE, dtype="uint32", points_per_chunk=4)
            scan.channel("label", dtype="string", max_point_bytes=32)
            for point in range(n_frames):
                if point == 9:
                    scan.send("label", "text 0", point=0)
                    scan.send("label", "text 2", point=2)
                    scan.skip("label", 1)
                    scan.send("label", "text 1", point=1)
                scan.send("a", point * 1.0)
                scan.send("b", point * 2.0)
                scan.send("d", frames(point, 1, SHAPE))
                if point % 10 == 9:
                    scan.update(metadata={"reached": point})
                    scan.flush(20)
                    sys.stdout.write(f"{point + 1}\n")
                    sys.stdout.flush()
                    time.sleep(0.01)
            time.sleep(60)


if __name__ == "__main__":
    log_to_stderr()
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
