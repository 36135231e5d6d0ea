"""Publish a scan of 100 points: one axis, one counter, one camera of 512 x 512 pixels.

    python examples/publish_scan.py

SCANBUS_REDIS is the URL of the bus, by default redis://127.0.0.1:6379.
"""

import argparse
import time

import numpy as np

from scanbus.publisher import Publisher

argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()

POINTS = 100

random = np.random.default_rng(seed=1)
radius = np.hypot(*np.ogrid[-256:256, -256:256])

with Publisher() as publisher:
    with publisher.scan(
        title="ascan th 0 10 99 0.05", proposal="hg123", collection="lab6"
    ) as scan:
        scan.channel("th", units="deg", role="axis", points=POINTS)
        scan.channel("diode", units="A", points=POINTS)
        scan.detector("camera", shape=(512, 512), dtype="uint16", points=POINTS)
        for th in np.linspace(0, 10, POINTS):
            ring = 5 + 50 * np.exp(-(((radius - 100 - 10 * th) / 4) ** 2))
            scan.send("th", th)
            scan.send("diode", random.normal(1e-6, 1e-8))
            scan.send("camera", random.poisson(ring).astype("uint16"))
            time.sleep(0.05)
    # The acquisition has ended; the writer may still be closing files.
    verdict = scan.verdict(timeout_s=60)
    print(f"scan {scan.identity.scan_number}: {verdict.verdict.value}")
    print(verdict.master)
