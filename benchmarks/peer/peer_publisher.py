"""One scan, published with blissdata; runs in the peer's environment.

``python -m benchmarks.peer.peer_publisher URL FILE NUMBER POINTS``, or ``URL --init``
to make an empty Redis ready, as whoever starts the peer's Redis has to.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from blissdata import DataStore
from blissdata.h5map import Dataset, Group
from blissdata.h5map import Stream as StreamReference
from blissdata.streams.default import Stream

from benchmarks.peer.content import (
    CAMERA,
    COUNTERS,
    FRAME_SHAPE,
    POINT_S,
    say,
    values,
)

# Between creating and preparing a scan devices are made ready. Without a pause one scan
# in a hundred is not seen by the writer, which would be another accident.
PREPARATION_S = 0.3
# Closing a scan is tried again, as the problem may be temporary.
CLOSE_S = 10.0


def work_order(number: int) -> Any:
    """Return the description of the streams for the writer."""
    channels = (*COUNTERS, CAMERA)
    datasets = {name: Dataset(value=StreamReference(stream=name)) for name in channels}
    measurement = Group(children=datasets)
    entry = Group(children={"measurement": measurement})
    return Group(children={f"{number}.1": entry}).model_dump()


def publish(url: str, path: str, number: int, n_points: int) -> None:
    scan = DataStore(url).create_scan(
        {
            "name": "accidents",
            "number": number,
            "data_policy": "no_policy",
            "session": "accidents",
            "path": path,
        }
    )
    streams = made_streams(scan)
    time.sleep(PREPARATION_S)
    scan.info["h5maps"] = {path: work_order(number)}
    scan.prepare()
    scan.start()
    keys = {name: stream.key for name, stream in streams.items()}
    say(event="begun", scan=scan.key, lanes=keys)
    end(scan, "SUCCESS" if attempt(lambda: send(streams, n_points)) else "FAILURE")
    say(event="ended")


def made_streams(scan: Any) -> dict[str, Any]:
    camera = Stream.make_definition(CAMERA, "uint16", FRAME_SHAPE)
    counters = [Stream.make_definition(name, "float64") for name in COUNTERS]
    return {each.name: scan.create_stream(each) for each in (*counters, camera)}


def send(streams: Mapping[str, Any], n_points: int) -> None:
    data = {name: values(name) for name in streams}
    for point in range(n_points):
        for name, stream in streams.items():
            stream.send(data[name][point])
        say(event="sent", points=point + 1)
        time.sleep(POINT_S)


def end(scan: Any, reason: str) -> None:
    attempt(scan.stop, "stop")
    scan.info["end_reason"] = reason
    deadline = time.monotonic() + CLOSE_S
    while not attempt(scan.close, "close") and time.monotonic() < deadline:
        time.sleep(1.0)


def attempt(step: Callable[[], None], where: str = "send") -> bool:
    """Do something that may go wrong, and tell if it did: that is what is asked for."""
    try:
        step()
    except Exception as error:  # noqa: BLE001
        text = f"{type(error).__name__}: {error}"
        say(event="raised", where=where, error=text)
        return False
    return True


if __name__ == "__main__":
    if sys.argv[2] == "--init":
        DataStore(sys.argv[1], init_db=True)
    else:
        publish(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
