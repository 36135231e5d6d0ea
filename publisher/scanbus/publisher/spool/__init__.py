"""The local spool: entries and events on this machine's disk until they are durable.

``SPOOL/UID/`` holds a scan: ``scan.json`` (its identity), ``events/`` (its events),
``lanes/LANE/`` (its entries), ``marks.a`` and ``marks.b`` (how far they reach), and
``lock``, which is locked
by the process that publishes it.

May import `scanbus.bus.protocol` and `scanbus.schemas`.
"""

from scanbus.publisher.spool.folders import (
    NEW_PREFIX,
    LeftScan,
    ScanSpool,
    check_spool,
    find_scans,
)
from scanbus.publisher.spool.losses import Loss
from scanbus.publisher.spool.trial import try_spool

__all__ = [
    "NEW_PREFIX",
    "LeftScan",
    "Loss",
    "ScanSpool",
    "check_spool",
    "find_scans",
    "try_spool",
]
