"""Publishing scans: open one, declare channels, send points and frames.

::

    with Publisher("redis://localhost") as publisher:
        with publisher.scan(title="ascan th 0 1 100 0.1", proposal="hg123") as scan:
            scan.channel("th", units="deg", role="axis")
            scan.detector("eiger", shape=(2162, 2068), dtype="uint32")
            scan.send("th", values)
            scan.send("eiger", frames)

``send`` returns before the data are on the bus; threads buffer, compress and send them.
Data that the writer has not made durable are kept, within the scan's quota, and sent
again if Redis loses them.

Other components import from here, and from `gateways`, `simulation` and `faulty`,
which have dependencies of their own.
"""

from scanbus.publisher.publisher import Publisher
from scanbus.publisher.recovery.lost_data import LostPoints
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.publisher.scan import Scan
from scanbus.publisher.spool import check_spool

__all__ = ["LostPoints", "Publisher", "Scan", "check_spool", "close_scan"]
