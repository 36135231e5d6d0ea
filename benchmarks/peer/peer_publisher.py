"""One scan, published with blissdata; runs in the peer's environment.

``python -m benchmarks.peer.peer_publisher URL FILE NUMBER``, or ``... URL --init`` to
make an empty Redis ready, as whoever starts the peer's Redis has to.
"""

import sys
import time

from blissdata import DataStore
from blissdata.h5map import Dataset, Group
from blissdata.h5map import Stream as StreamReference
from blissdata.streams.default import Stream

from benchmarks.peer.content import (
    CAMERA,
    COUNTERS,
    FRAME_SHAPE,
    N_POINTS,
    POINT_S,
    say,
    values,
)

# Between creating and preparing a scan devices are made ready. Without a pause one scan
# in a hundred is not seen by the writer, which would be another accident.
PREPARATION_S = 0.3


def work_order(number: int) -> dict:
    """Return what the writer is to make of the streams."""
    channels = (*COUNTERS, CAMERA)
    datasets = {name: Dataset(value=StreamReference(stream=name)) for name in channels}
    measurement = Group(children=datasets)
    entry = Group(children={"measurement": measurement})
    return Group(children={f"{number}.1": entry}).model_dump()


def publish(url: str, path: str, number: int) -> None:
    scan = DataStore(url).create_scan(
        {
            "name": "accidents",
            "number": number,
            "data_policy": "no_policy",
            "session": "accidents",
            "path": path,
        }
    )
    streams = {
        name: scan.create_stream(Stream.make_definition(name, "float64"))
        for name in COUNTERS
    }
    camera = Stream.make_definition(CAMERA, "uint16", FRAME_SHAPE)
    streams[CAMERA] = scan.create_stream(camera)
    time.sleep(PREPARATION_S)
    scan.info["h5maps"] = {path: work_order(number)}
    scan.prepare()
    scan.start()
    keys = {name: stream.key for name, stream in streams.items()}
    say(event="begun", scan=scan.key, lanes=keys)
    data = {name: values(name) for name in streams}
    reason = "SUCCESS"
    try:
        for point in range(N_POINTS):
            for name, stream in streams.items():
                stream.send(data[name][point])
            say(event="sent", points=point + 1)
            time.sleep(POINT_S)
    except Exception as error:  # noqa: BLE001 - any end of it is what is asked for
        say(event="raised", where="send", error=f"{type(error).__name__}: {error}")
        reason = "FAILURE"
    for step in ("stop", "close"):
        if step == "close":
            scan.info["end_reason"] = reason
        try:
            getattr(scan, step)()
        except Exception as error:  # noqa: BLE001
            say(event="raised", where=step, error=f"{type(error).__name__}: {error}")
    say(event="ended")


if __name__ == "__main__":
    if sys.argv[2] == "--init":
        DataStore(sys.argv[1], init_db=True)
    else:
        publish(sys.argv[1], sys.argv[2], int(sys.argv[3]))
