"""Which modules of the publisher a frame visits before it is queued.

    python -m tests.support.frame_path

prints them in the order of their first call, with their lines.
"""

import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import scanbus.publisher
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher, Scan

ROOT = Path(scanbus.publisher.__file__).parent
SHAPE = (64, 64)


def visited(scan: Scan, name: str, value: Any) -> dict[str, int]:
    """Send one value; return each module that took part, and its number of lines."""
    seen: dict[str, int] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            name = str(path.relative_to(ROOT))
            seen.setdefault(name, len(path.read_text().splitlines()))

    sys.setprofile(note)
    try:
        scan.send(name, value)
    finally:
        sys.setprofile(None)
    return seen


def path_of_a_frame(url: str, pause_s: float = 0.0) -> dict[str, int]:
    """Return the path of the second frame of a scan: the first one prepares it.

    Parameters
    ----------
    pause_s : float
        Time between the two; after some, the publisher's threads sleep.
    """
    frame = np.zeros(SHAPE, "uint16")
    with Publisher(url, close_timeout_s=0) as publisher, publisher.scan() as scan:
        scan.detector("d", shape=SHAPE, dtype="uint16", points_per_chunk=1)
        scan.send("d", frame)
        time.sleep(pause_s)
        return visited(scan, "d", frame)


if __name__ == "__main__":
    with PrivateRedis() as server:
        for module, n_lines in path_of_a_frame(server.url).items():
            print(f"{n_lines:4} lines  {module}")  # noqa: T201
