"""Go on with what a publisher that died had left in its spool.

Its program is gone, so nothing is added: lanes are sealed where they end, and the scan
is said to have failed unless its end was said. What Redis lost is put back as after any
other loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import time as wall_clock

from scanbus.bus.codecs import Crew
from scanbus.bus.logs import get_logger
from scanbus.bus.protocol.entries import SEAL_ID
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.lanes import stream_ends
from scanbus.publisher.queue.lane_queue import Lane
from scanbus.publisher.queue.scan_queue import Delivery, Limits
from scanbus.publisher.spool import ScanSpool, SpooledScan, find_scans
from scanbus.schemas import EndReason, LaneDescription, ScanEnded, ScanPrepared
from scanbus.schemas.errors import SpoolError

__all__ = ["DIED", "resumed_scans"]

log = get_logger()

DIED = "the publisher died; what it had sent was resumed from its spool"


def resumed_scans(
    root: Path, client: Bus, limits: Limits, crew: Crew
) -> Iterator[Delivery]:
    """Yield the scans of dead publishers, ready to be sent on.

    What cannot be read is named in the log and left where it is.
    """
    for spool in find_scans(root):
        try:
            scan = spool.recover()
        except SpoolError as error:
            log.error("spool_unreadable", path=error.path, reason=error.reason)  # noqa: TRY400
            spool.close()
            continue
        if scan is None:
            spool.remove()  # It died before it had announced anything.
            continue
        delivery = _delivery(scan, spool, limits, crew)
        for lane in delivery.lanes.values():
            _fill(client, delivery, lane, scan)
        _end(delivery)
        log.warning(
            "scan_resumed",
            scan=delivery.uid,
            number=scan.announced.scan.scan_number,
            lanes={lane.name: lane.length for lane in delivery.lanes.values()},
        )
        yield delivery


def _delivery(
    scan: SpooledScan, spool: ScanSpool, limits: Limits, crew: Crew
) -> Delivery:
    delivery = Delivery(
        scan.announced,
        scan.session,
        limits=limits,
        crew=crew,
        why_full=lambda: "its publisher died; the writer is behind",
        spool=spool,
    )
    delivery.announcement = scan.announcement
    delivery.events = scan.events
    delivery.n_events_spooled = len(scan.events)
    # Restoring sends them again where one is missing; the end comes after all seals.
    ends = sum(isinstance(event, ScanEnded) for event in scan.events)
    delivery.n_events_sent = len(scan.events) - ends
    prepared = next((e for e in scan.events if isinstance(e, ScanPrepared)), None)
    if prepared is None:
        delivery.is_over = True
    else:
        delivery.take_over(_lanes(prepared, scan), prepared.quota_bytes)
    return delivery


def _lanes(prepared: ScanPrepared, scan: SpooledScan) -> Iterator[LaneDescription]:
    for lane in prepared.lanes:
        yield lane
        for channel in lane.channels:
            late = lane.late_lane(channel)
            if late.name in scan.entries:
                yield late


def _fill(client: Bus, delivery: Delivery, lane: Lane, scan: SpooledScan) -> None:
    entries = scan.entries.get(lane.name, [])
    for entry in entries:
        lane.outbox.put(entry)
    # Files are removed when all in them is durable, and nothing else is missing.
    lane.outbox.durable_up_to(lane.outbox.first)
    ends = stream_ends(client, delivery.uid, lane.name)
    last = ends[1] if ends else b"0-0"
    if last != SEAL_ID:
        # A crash of the machine may have cost the spool what Redis has.
        reached = sum(map(int, last.split(b"-")))
        lane.outbox.stop = max(lane.outbox.stop, reached)
    lane.ending = True


def _end(delivery: Delivery) -> None:
    if any(isinstance(event, ScanEnded) for event in delivery.events):
        return
    delivery.events.append(
        ScanEnded(
            time=wall_clock(),
            end_reason=EndReason.FAILURE,
            text=DIED,
            late=delivery.late,
        )
    )
