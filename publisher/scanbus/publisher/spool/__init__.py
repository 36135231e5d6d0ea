"""The local spool: entries and events on this machine's disk until they are durable.

``SPOOL/UID/`` holds a scan: ``scan.json`` (its identity), ``events/`` (its events),
``lanes/LANE/`` (its entries), ``marks.a`` and ``marks.b`` (how far they reach), and
``lock``, which is locked
by the process that publishes it.

May import `scanbus.bus.protocol` and `scanbus.schemas`.
"""

from scanbus.publisher.spool.folders import (
    ScanSpool,
    SpooledScan,
    check_spool,
    find_scans,
)
from scanbus.publisher.spool.losses import Loss

__all__ = ["Loss", "ScanSpool", "SpooledScan", "check_spool", "find_scans"]
