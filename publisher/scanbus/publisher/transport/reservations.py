"""Reservations on the bus that follow the data of their scans.

More while the writer is behind and there is room; what is in no file as soon as
everything was sent. The writer does so for publishers that are gone.
"""

from __future__ import annotations

from scanbus.bus.store import Bus, lower_quota, reserve_quota
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.transport.redis_link import Link
from scanbus.schemas.errors import QuotaRefusedError

__all__ = ["follow_data"]

# Smaller changes of a reservation are not worth a command.
_LEAST_CHANGE_BYTES = 2**16
_LEAST_CHANGE_SHARE = 8


def follow_data(client: Bus, link: Link, queue: ScanQueue) -> None:
    """Have a scan reserve what its data need now: less at its end, more meanwhile."""
    watch = queue.watch
    reserved, wanted = watch.reserved_bytes, watch.wanted_bytes
    if not reserved or wanted == reserved:
        return
    least = max(_LEAST_CHANGE_BYTES, reserved // _LEAST_CHANGE_SHARE)
    if reserved - least < wanted < reserved:
        return
    with watch.restoring() as is_needed:
        if not is_needed:
            return
        if wanted < reserved:
            lower_quota(client, queue.uid, wanted)
            watch.note_reserved(wanted)
        elif _grow(client, link, queue.uid, wanted):
            watch.note_reserved(wanted)


def _grow(client: Bus, link: Link, uid: str, wanted: int) -> bool:
    try:
        reserve_quota(client, uid, wanted, link.budget_bytes)
    except QuotaRefusedError:
        return False
    return True
