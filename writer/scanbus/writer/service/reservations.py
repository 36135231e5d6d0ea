"""Reservations of scans whose publishers are gone: as large as their data, no larger.

A living publisher follows its data itself. Without one, nobody else would give back
what a killed or stuck scan had reserved, and others would wait for it.
"""

from __future__ import annotations

from typing import Final

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Bus,
    has_traces,
    publisher_is_alive,
    read_events,
    release_quota,
    reserved_quotas,
    shrink_quota,
)

__all__ = ["Reservations"]

# A publisher reserves just before it announces its scan.
_LOOKS_BEFORE_RELEASE: Final = 3


class Reservations:
    """Follows the reservations that no publisher follows; the service owns it."""

    def __init__(self) -> None:
        self._traceless: dict[str, int] = {}

    def follow(self, client: Bus, records: dict[str, ScanRecord]) -> None:
        """Reduce reservations to the data that are in no file, or release them.

        Parameters
        ----------
        records : dict
            The scans that have no final verdict, by their uid.
        """
        absent: dict[str, int] = {}
        for uid in reserved_quotas(client):
            if publisher_is_alive(client, uid):
                continue
            if uid in records:
                _shrink(client, records[uid])
            elif not has_traces(client, uid):
                absent[uid] = self._traceless.get(uid, 0) + 1
                if absent[uid] >= _LOOKS_BEFORE_RELEASE:
                    release_quota(client, uid)
        self._traceless = absent


def _shrink(client: Bus, known: ScanRecord) -> None:
    # A record of its own: the service's says which news the attempts have seen.
    record = ScanRecord(known.identity)
    read_events(client, record)
    prepared = record.prepared
    if prepared is not None:
        lanes = (*prepared.lanes, *prepared.late_lanes(record.ended))
        shrink_quota(client, record.uid, [lane.name for lane in lanes])
