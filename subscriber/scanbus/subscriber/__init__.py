"""Read scans from the bus as numpy arrays, past and live, for online analysis.

::

    with Subscriber("redis://127.0.0.1:6379") as subscriber:
        for scan in subscriber.follow():
            scan.wait_prepared(10)
            for batch in scan.stream("th", "diode"):
                print(batch.channel, batch.start, batch.values)
"""

from scanbus.subscriber.batch import Batch
from scanbus.subscriber.joined import Joined
from scanbus.subscriber.scan import ScanReader
from scanbus.subscriber.status import BusStatus, ScanInfo
from scanbus.subscriber.stream import ScanStream
from scanbus.subscriber.subscriber import Subscriber

__all__ = [
    "Batch",
    "BusStatus",
    "Joined",
    "ScanInfo",
    "ScanReader",
    "ScanStream",
    "Subscriber",
]
