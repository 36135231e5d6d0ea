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
    publishers_alive,
    read_events,
    read_final_verdict,
    release_quota,
    reserved_quotas,
    shrink_quota,
)
from scanbus.schemas.file_names import STATIC_PREFIX

__all__ = ["Reservations"]

# A publisher puts it back just before the events of its scan.
_LOOKS_BEFORE_RELEASE: Final = 3
# All that says which lanes a scan has: updates may refer to static arrays.
_OF_LANES: Final = (b"prepared", b"ended", STATIC_PREFIX.encode())


class Reservations:
    """Follows the reservations that no publisher follows; the service owns it."""

    def __init__(self) -> None:
        self._n_looks: dict[str, int] = {}
        # Of its own: the service's say which news the attempts have seen.
        self._records: dict[str, ScanRecord] = {}

    def follow(self, client: Bus, records: dict[str, ScanRecord]) -> None:
        """Reduce reservations to the data that are in no file, or release them.

        Parameters
        ----------
        records : dict
            The scans that have no final verdict, by their uid.
        """
        uids = list(reserved_quotas(client))
        left = {*uids} - publishers_alive(client, uids)
        self._records = {
            uid: each for uid, each in self._records.items() if uid in left
        }
        self._n_looks = {uid: self._n_looks.get(uid, 0) + 1 for uid in left}
        for uid in left:
            if uid in records:
                self._shrink(client, records[uid])
            elif self._n_looks[uid] >= _LOOKS_BEFORE_RELEASE and _is_over(client, uid):
                release_quota(client, uid)

    def _shrink(self, client: Bus, known: ScanRecord) -> None:
        uid = known.uid
        record = self._records.setdefault(uid, ScanRecord(known.announced))
        read_events(client, record, only=_OF_LANES)
        if record.prepared is None and record.problems:
            return  # It may have lanes, which a later version knows.
        shrink_quota(client, uid, [lane.name for lane in record.lanes])


def _is_over(client: Bus, uid: str) -> bool:
    """Return whether a scan that nobody writes needs no room.

    One that is on the bus may be of a later version, or not be found yet.
    """
    has_ended = read_final_verdict(client, uid) is not None
    return has_ended or not has_traces(client, uid)
