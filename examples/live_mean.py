"""Print the mean intensity by radius of a camera's newest frames, while they come.

    python examples/live_mean.py [SCAN]

Waits a minute for the next scan, or reads SCAN: its uid, number, or "last".
"""

import os
import sys

import numpy as np

from scanbus.subscriber import Subscriber

URL = os.environ.get("SCANBUS_REDIS", "redis://127.0.0.1:6379")


def ring_means(frame: np.ndarray, width: int = 16) -> np.ndarray:
    """Return the mean intensity of rings of `width` pixels around the centre."""
    i, j = (np.arange(size) - size / 2 for size in frame.shape)
    rings = (np.hypot(i[:, None], j) // width).astype(int).ravel()
    return np.bincount(rings, weights=frame.ravel()) / np.bincount(rings)


with Subscriber(URL) as subscriber:
    if len(sys.argv) > 1:
        scan = subscriber.scan(sys.argv[1])
    else:
        scan = next(subscriber.follow(timeout_s=60))
    scan.wait_prepared()
    for batch in scan.stream("camera", latest_only=True):
        means = ring_means(batch.values[-1])
        brightest = 16 * means.argmax() + 8
        print(f"frame {batch.stop - 1}: {means.max():.1f} counts at {brightest} pixels")
