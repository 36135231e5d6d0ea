"""Closing a scan whose publisher is gone for good, in its place.

Only publishers seal, so a scan without one stays open: it may come back. Where an
operator knows that it will not, this says so for it.
"""

from __future__ import annotations

import os
import time

from scanbus.bus.connection import Bus, connect, translated
from scanbus.bus.entries import SEAL_ID, checksum_of, pack_header
from scanbus.bus.lanes import append, stream_ends
from scanbus.bus.outbox import Frozen
from scanbus.bus.registry import (
    ScanRecord,
    append_event,
    find_scan,
    publisher_is_alive,
)
from scanbus.schemas import EndReason, ScanEnded
from scanbus.schemas.errors import ScanStateError

__all__ = ["close_scan"]


def close_scan(url: str, scan: str, *, text: str = "closed by an operator") -> str:
    """Seal every lane of a scan where it stands, and end the scan with FAILURE.

    Parameters
    ----------
    scan : str
        Its uid, the beginning of it, or its number.
    text : str
        Stands in the scan's notes.

    Returns
    -------
    str
        The uid of the scan.

    Raises
    ------
    UnknownScanError, BusUnavailableError
        If the scan or the bus is not there.
    ScanStateError
        If its publisher is alive, or it has ended.
    """
    with connect(url, name="scanbus-close") as client, translated(url):
        record = find_scan(client, scan)
        if publisher_is_alive(client, record.uid):
            raise ScanStateError(
                f"scan {record.uid}: its publisher is alive, or was in the last 10 s; "
                "while it lives only it ends the scan"
            )
        if record.ended is not None:
            raise ScanStateError(f"scan {record.uid} has ended already")
        _seal(client, record)
        ended = ScanEnded(time=time.time(), end_reason=EndReason.FAILURE, text=text)
        append_event(client, record.uid, ended)
        return record.uid


def _seal(client: Bus, record: ScanRecord) -> None:
    session = os.urandom(8)
    for lane in record.prepared.lanes if record.prepared else ():
        ends = stream_ends(client, record.uid, lane.name)
        if ends is None or ends[1] == SEAL_ID:
            continue
        first, _, count = ends[1].partition(b"-")
        length = int(first) + int(count)
        header = pack_header(session=session, checksum=checksum_of(b""), length=length)
        append(client, record.uid, lane.name, [Frozen(SEAL_ID, length, header)])
