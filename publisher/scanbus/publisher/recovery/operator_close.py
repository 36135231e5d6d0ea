"""Close a scan whose publisher is gone for good.

Only publishers seal lanes, so a scan whose publisher died stays open: the publisher may
come back. If an operator knows that it will not, this seals and ends the scan.
"""

from __future__ import annotations

import os
import time

from scanbus.bus.protocol import (
    SEAL_ID,
    EncodedEntry,
    ScanRecord,
    checksum_of,
    pack_header,
)
from scanbus.bus.store import (
    Bus,
    append_entries,
    append_event,
    connect,
    find_scan,
    make_lane,
    publisher_is_alive,
    read_cursor,
    refuse_cluster,
    stream_ends,
    translated,
)
from scanbus.schemas import EndReason, ScanEnded
from scanbus.schemas.errors import ScanStateError

__all__ = ["close_scan"]


def close_scan(url: str, scan: str, *, text: str = "closed by an operator") -> str:
    """Seal every open lane of a scan where it stands, and end the scan with FAILURE.

    If the publisher ended it, but Redis lost a seal, the publisher's end is kept.

    Parameters
    ----------
    url : str
        Address of Redis.
    scan : str
        Its uid, the beginning of it, or its number.
    text : str
        Reason, for the scan's notes.

    Returns
    -------
    str
        The uid of the scan.

    Raises
    ------
    UnknownScanError, AmbiguousScanError, BusUnavailableError
        If no or several scans match, or Redis does not answer.
    ScanStateError
        If its publisher is alive, or it has ended.
    """
    with connect(url, name="scanbus-close") as client, translated(url):
        refuse_cluster(client)
        record = find_scan(client, scan, only_one=True)
        if publisher_is_alive(client, record.uid):
            raise ScanStateError(
                f"scan {record.uid}: its publisher is alive, or was in the last 10 s; "
                "only the publisher ends a scan while it is alive"
            )
        if not _seal(client, record) and record.ended is not None:
            raise ScanStateError(f"scan {record.uid} has ended already")
        ended = record.ended or ScanEnded(
            time=time.time(), end_reason=EndReason.FAILURE, text=text
        )
        # Sent again even if it is there: a writer that gave up waits for an end.
        append_event(client, record.uid, ended)
        return record.uid


def _seal(client: Bus, record: ScanRecord) -> bool:
    """Seal the lanes that are open; return whether there were any."""
    session = os.urandom(8)
    prepared = record.prepared
    own = prepared.lanes if prepared else ()
    late = prepared.late_lanes(record.ended) if prepared else ()
    is_any_open = False
    for lane in (*own, *late):
        make_lane(client, record.uid, lane.name)
        ends = stream_ends(client, record.uid, lane.name)
        last = ends[1] if ends else b"0-0"
        if last == SEAL_ID:
            continue
        is_any_open = True
        # Redis may have lost points that are in a file.
        reached = sum(map(int, last.split(b"-")))
        length = max(reached, read_cursor(client, record.uid, lane.name))
        header = pack_header(session=session, checksum=checksum_of(b""), length=length)
        append_entries(
            client, record.uid, lane.name, [EncodedEntry(SEAL_ID, length, header)]
        )
    return is_any_open
