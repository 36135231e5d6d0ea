"""Reservations on the bus that follow the data of their scans.

More while the writer is behind and there is room; what is in no file as soon as
everything was sent. The writer does so for publishers that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

from scanbus.bus.store import Bus, lower_quota, reserve_quota
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.transport.redis_link import Link
from scanbus.publisher.transport.watch_rhythm import LaneRhythm
from scanbus.schemas.errors import QuotaRefusedError

__all__ = ["ReservationFollower", "follow_data"]

# Less is given back only once it stays the same for so long: each segment that becomes
# durable changes it.
_LEAST_CHANGE_BYTES: Final = 2**16
_LEAST_CHANGE_SHARE: Final = 8
_SETTLED_S: Final = 1.0


class ReservationFollower:
    """Has all scans of a publisher reserve what their data need; the monitor owns it.

    Parameters
    ----------
    link : Link
        Connection parameters.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._rhythm = LaneRhythm()
        # By uid: what is reserved too much, and since when it is the same.
        self._surplus: dict[str, tuple[int, float]] = {}

    def due(self, scans: Sequence[ScanQueue]) -> list[ScanQueue]:
        """Return the scans to be followed at this tick."""
        uids = {queue.uid for queue in scans}
        for uid in self._surplus.keys() - uids:
            del self._surplus[uid]
        return self._rhythm.due(scans, monotonic())

    def follow(self, client: Bus, queue: ScanQueue) -> None:
        """Have one scan reserve what its data need now."""
        now = monotonic()
        surplus, since = self._surplus.get(queue.uid, (0, now))
        left = follow_data(
            client, self._link, queue, is_settled=now - since >= _SETTLED_S
        )
        self._surplus[queue.uid] = (left, since if left and left == surplus else now)


def follow_data(
    client: Bus, link: Link, queue: ScanQueue, *, is_settled: bool = False
) -> int:
    """Have a scan reserve what its data need now: less at its end, more meanwhile.

    Parameters
    ----------
    is_settled : bool
        Whether this was so for a while: then little is given back, too.

    Returns
    -------
    int
        How many bytes are reserved too much.
    """
    watch = queue.watch
    reserved, wanted = watch.reserved_bytes, watch.wanted_bytes
    if not reserved or wanted == reserved:
        return 0
    least = max(_LEAST_CHANGE_BYTES, reserved // _LEAST_CHANGE_SHARE)
    if reserved - least < wanted < reserved and not is_settled:
        return reserved - wanted
    with watch.restoring() as is_needed:
        if not is_needed:
            return 0
        if wanted < reserved:
            lower_quota(client, queue.uid, wanted)
            watch.note_reserved(wanted)
        elif _grow(client, link, queue.uid, wanted):
            watch.note_reserved(wanted)
    return 0


def _grow(client: Bus, link: Link, uid: str, wanted: int) -> bool:
    try:
        reserve_quota(client, uid, wanted, link.budget_bytes)
    except QuotaRefusedError:
        return False
    return True
