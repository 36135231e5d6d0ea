"""Data that both systems send: four counters and one small camera.

Every value follows from its channel and point, so a file can be judged without asking
anybody. Only numpy is needed here: the peer's environment imports this, too.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

COUNTERS = ("i0", "i1", "i2", "i3")
CAMERA = "camera"
CHANNELS = (*COUNTERS, CAMERA)
FRAME_SHAPE = (64, 64)
N_POINTS = 200
POINT_S = 0.02


def values(channel: str) -> npt.NDArray[Any]:
    """Return all points of a channel; all are different and none is zero."""
    random = np.random.default_rng([2026, CHANNELS.index(channel)])
    if channel == CAMERA:
        return random.integers(1, 4000, (N_POINTS, *FRAME_SHAPE)).astype(np.uint16)
    return random.uniform(1.0, 2.0, N_POINTS)


def say(**what: object) -> None:
    """Send a message to the parent process."""
    sys.stdout.write(json.dumps({"at": time.time(), **what}) + "\n")
    sys.stdout.flush()
