"""End a scan in place of its publisher, which is gone.

Only publishers seal lanes, so a scan whose publisher died stays open: the publisher may
come back. An operator, or a writer after a time, seals and ends it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from scanbus.bus.protocol.entries import SEAL_ID, checksum_of, pack_header
from scanbus.bus.protocol.retransmit import EncodedEntry
from scanbus.bus.protocol.scan_record import ScanRecord
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.cursors import read_cursors
from scanbus.bus.store.lanes import (
    append_each,
    ends_of_streams,
    lanes_in_use,
    make_lanes,
    sealed_length,
)
from scanbus.bus.store.scans import append_event
from scanbus.schemas import EndReason, LaneDescription, ScanEnded
from scanbus.schemas.file_names import late_lane_name

__all__ = ["end_for_publisher"]


def end_for_publisher(client: Bus, record: ScanRecord, text: str) -> bool:
    """Seal every open lane where it stands, and end the scan with FAILURE.

    The end names the lanes of late points that the publisher left, so that the writer
    reads them. If the publisher ended it, but Redis lost a seal, the publisher's end is
    kept.

    Parameters
    ----------
    text : str
        Reason, for the scan's notes.

    Returns
    -------
    bool
        False if it was sealed and ended already: nothing was done.
    """
    lanes = _lanes(client, record)
    is_open = _seal(client, record, lanes)
    is_unclear = record.prepared is None and bool(record.problems)
    is_open = is_open or (is_unclear and record.final_verdict is None)
    if not is_open and record.ended is not None:
        return False
    ended = record.ended or ScanEnded(
        time=time.time(),
        end_reason=EndReason.FAILURE,
        text=text,
        late=_late_counts(client, record, lanes),
    )
    # Sent again even if it is there: a writer that gave up waits for an end.
    append_event(client, record.uid, ended)
    return True


def _lanes(client: Bus, record: ScanRecord) -> tuple[LaneDescription, ...]:
    """Return the lanes of a scan: those of its events, and late ones that exist.

    The publisher names the latter in ``ended``, but may have died before.
    """
    prepared = record.prepared
    if prepared is None:
        return ()
    names = [late_lane_name(channel.name) for channel in prepared.channels]
    known = {lane.name: lane for lane in prepared.late_lanes(record.ended)}
    found = lanes_in_use(client, record.uid, names)
    late = (
        lane.late_lane(channel)
        for lane in prepared.lanes
        for channel in lane.channels
        if late_lane_name(channel.name) in {*known, *found}
    )
    return (*prepared.lanes, *record.static.values(), *late)


def _late_counts(
    client: Bus, record: ScanRecord, lanes: Iterable[LaneDescription]
) -> dict[str, int]:
    """Return the number of late points of each channel that has a lane of them."""
    return {
        lane.channels[0].name: sealed_length(client, record.uid, lane) or 0
        for lane in lanes
        if lane.is_late
    }


def _seal(client: Bus, record: ScanRecord, lanes: Iterable[LaneDescription]) -> bool:
    """Seal the lanes that are open; return whether there were any."""
    session, uid = os.urandom(8), record.uid
    names = [lane.name for lane in lanes]
    make_lanes(client, uid, names)
    ends = zip(names, ends_of_streams(client, uid, names), strict=True)
    last = {name: found[1] if found else b"0-0" for name, found in ends}
    still_open = [name for name in names if last[name] != SEAL_ID]
    cursors = read_cursors(client, [(uid, name) for name in still_open])
    seals = []
    for name, cursor in zip(still_open, cursors, strict=True):
        # Redis may have lost points that are in a file.
        length = max(sum(map(int, last[name].split(b"-"))), cursor)
        header = pack_header(session=session, checksum=checksum_of(b""), length=length)
        seals.append((name, EncodedEntry(SEAL_ID, length, header)))
    for error in filter(None, append_each(client, uid, seals)):
        raise error
    return bool(seals)
