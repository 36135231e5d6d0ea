"""Print the radial mean intensity of a camera's newest frames during a scan.

    python examples/live_mean.py [SCAN]

Without SCAN (a uid, a number, or "last") it waits a minute for the next scan.
"""

import argparse

import numpy as np

from scanbus.subscriber import Subscriber

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("scan", nargs="?", help='uid, number, or "last"')
wanted = arguments.parse_args().scan


def ring_means(frame: np.ndarray, width: int = 16) -> np.ndarray:
    """Return the mean intensity of rings of `width` pixels around the centre."""
    i, j = (np.arange(size) - size / 2 for size in frame.shape)
    rings = (np.hypot(i[:, None], j) // width).astype(int).ravel()
    return np.bincount(rings, weights=frame.ravel()) / np.bincount(rings)


with Subscriber() as subscriber:
    scan = subscriber.scan(wanted) if wanted else next(subscriber.follow(timeout_s=60))
    scan.wait_prepared()
    for batch in scan.stream("camera", latest_only=True):
        means = ring_means(batch.values[-1])
        brightest = 16 * means.argmax() + 8
        print(f"frame {batch.stop - 1}: {means.max():.1f} counts at {brightest} pixels")
