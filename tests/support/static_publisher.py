"""A publisher of a scan with static arrays, as a process to be killed.

``python -m tests.support.static_publisher URL [SPOOL]`` prints ``flushed`` when all was
sent, and never ends its scan.
"""

import sys
import time

import numpy as np

from scanbus.publisher import Publisher

UID = "staticarrays"
MASK = (np.arange(1100 * 1000).reshape(1100, 1000) % 7 == 0).astype(np.uint8)


def main(url: str, spool: str = "") -> None:
    with Publisher(url, spool=spool or None) as publisher:
        with publisher.scan(uid=UID, metadata={"mask": MASK}) as scan:
            scan.channel("a")
            scan.send("a", [1.0, 2.0])
            scan.update({"later": MASK + 1})
            scan.flush(20)
            sys.stdout.write("flushed\n")
            sys.stdout.flush()
            time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
