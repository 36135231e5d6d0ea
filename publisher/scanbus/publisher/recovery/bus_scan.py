"""What a dead publisher without a spool left of a scan, on the bus."""

from __future__ import annotations

import secrets

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Bus,
    ends_of_streams,
    find_announcement,
    is_dead_here,
    load_announced,
    publisher_heartbeat,
    stored_entries,
    stored_sessions,
)
from scanbus.publisher.spool import LeftScan
from scanbus.schemas import Event, ScanStarted, static_lanes
from scanbus.schemas.errors import (
    PublisherAliveError,
    ScanStateError,
    UnknownScanError,
)
from scanbus.schemas.file_names import late_lane_name

__all__ = ["scan_on_bus"]


def scan_on_bus(client: Bus, uid: str) -> LeftScan:
    """Return what the bus has of a scan whose publisher died.

    Raises
    ------
    UnknownScanError
        If the bus has no such scan.
    ScanStateError
        If it has ended, or its data are in a spool.
    PublisherAliveError
        If its publisher lives.
    """
    found = find_announcement(client, uid)
    announced = None if found is None else found.document
    record = found and announced and load_announced(client, found.id, announced)
    if found is None or announced is None or not record:
        raise UnknownScanError(uid)
    _check(client, record)
    last = _last_ids(client, record)
    sessions = stored_sessions(client, uid, last).values()
    # Of nothing but trimmed lanes nobody knows it: then any will do.
    session = next(filter(None, sessions), None) or secrets.token_bytes(8)
    left = LeftScan(announced, found.id, session, [*_events(record)])
    for lane in last:
        left.entries[lane] = [*stored_entries(client, uid, lane)]
    return left


def _check(client: Bus, record: ScanRecord) -> None:
    uid, beat = record.uid, publisher_heartbeat(client, record.uid)
    if record.ended is not None or record.final_verdict is not None:
        raise ScanStateError(f"scan {uid} has ended")
    if beat is not None and not is_dead_here(beat):
        raise PublisherAliveError(
            f"scan {uid}: its publisher is alive, or was in the last 10 s: {beat}"
        )
    if record.prepared is not None and record.prepared.spooled:
        raise ScanStateError(
            f"scan {uid}: its data are in the spool of its publisher, which is "
            "another one than here"
        )


def _last_ids(client: Bus, record: ScanRecord) -> dict[str, bytes]:
    """Return the last id of each lane of a scan that has had an entry."""
    events = _events(record)
    every = (getattr(event, "metadata", {}) for event in events)
    names = [lane.name for tree in every for lane in static_lanes(tree)]
    for lane in record.prepared.lanes if record.prepared else ():
        names.append(lane.name)
        names += [late_lane_name(each.name) for each in lane.channels]
    ends = zip(names, ends_of_streams(client, record.uid, names), strict=True)
    return {name: end[1] for name, end in ends if end and end[1] != b"0-0"}


def _events(record: ScanRecord) -> list[Event]:
    if record.prepared is None:
        return []
    # Its publisher may have died before it said that it started.
    started = record.started or ScanStarted(time=record.prepared.time)
    return [record.prepared, started, *record.updates]
