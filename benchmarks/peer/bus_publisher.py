"""One scan, published with scanbus.

``python -m benchmarks.peer.bus_publisher URL DATASET NUMBER POINTS``
"""

import logging
import sys
import time

from benchmarks.peer.content import (
    CAMERA,
    COUNTERS,
    FRAME_SHAPE,
    POINT_S,
    say,
    values,
)
from scanbus.bus.protocol import lane_key
from scanbus.cli.logs import log_to_stderr
from scanbus.publisher import Publisher, Scan


def send(scan: Scan, n_points: int) -> None:
    data = {name: values(name) for name in (*COUNTERS, CAMERA)}
    for point in range(n_points):
        for name, points in data.items():
            scan.send(name, points[point])
        say(event="sent", points=point + 1)
        time.sleep(POINT_S)


def publish(url: str, dataset: str, number: int, n_points: int) -> None:
    with Publisher(url, name="accidents") as publisher:
        with publisher.scan(
            title="accidents", dataset=dataset, scan_number=number
        ) as scan:
            for name in COUNTERS:
                scan.channel(name, points=n_points)
            scan.detector(CAMERA, shape=FRAME_SHAPE, dtype="uint16", points=n_points)
            scan.prepare()
            # A channel that was declared without a group has a lane of its own.
            keys = {name: lane_key(scan.uid, name) for name in (*COUNTERS, CAMERA)}
            say(event="begun", scan=scan.uid, lanes=keys)
            send(scan, n_points)
        say(event="left_block")
    say(event="ended")


if __name__ == "__main__":
    log_to_stderr(logging.INFO)
    try:
        publish(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except Exception as error:
        say(event="raised", where="scan", error=f"{type(error).__name__}: {error}")
        raise
