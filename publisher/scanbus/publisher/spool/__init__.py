"""The local spool: entries and events on this machine's disk until they are durable.

``SPOOL/UID/`` holds a scan: ``scan.json`` (its identity), ``events.jsonl`` (its events,
a line each), ``lanes/LANE/NNNNNNNN.spool`` (its entries), and ``lock``, which is locked
by the process that publishes it.

May import `scanbus.bus.protocol` and `scanbus.schemas`.
"""

from scanbus.publisher.spool.folders import ScanSpool, SpooledScan, find_scans

__all__ = ["ScanSpool", "SpooledScan", "find_scans"]
