"""Go on with what a publisher that died had left in its spool.

Its program is gone, so nothing is added: lanes are sealed where they end, and the scan
is said to have failed unless its end was said. What Redis lost is put back as after any
other loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import time as wall_clock

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import SEAL_ID
from scanbus.bus.store import Bus, stream_ends
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import Limits, ScanQueue
from scanbus.publisher.spool import ScanSpool, SpooledScan, find_scans
from scanbus.schemas import EndReason, LaneDescription, ScanEnded, ScanPrepared
from scanbus.schemas.errors import SpoolError
from scanbus.schemas.logs import get_logger

__all__ = ["DIED", "resumed_scans"]

log = get_logger()

DIED = "the publisher died; what it had sent was resumed from its spool"


def resumed_scans(
    root: Path, client: Bus, limits: Limits, threads: ThreadPool
) -> Iterator[ScanQueue]:
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
        queue = _delivery(scan, spool, limits, threads)
        for lane in queue.lanes.values():
            _fill(client, queue, lane, scan)
        _end(queue)
        log.warning(
            "scan_resumed",
            scan=queue.uid,
            number=scan.announced.scan.scan_number,
            lanes={lane.name: lane.length for lane in queue.lanes.values()},
        )
        yield queue


def _delivery(
    scan: SpooledScan, spool: ScanSpool, limits: Limits, threads: ThreadPool
) -> ScanQueue:
    queue = ScanQueue(
        scan.announced,
        scan.session,
        limits=limits,
        threads=threads,
        why_full=lambda: "its publisher died; the writer is behind",
        spool=spool,
    )
    queue.announcement = scan.announcement
    queue.events = scan.events
    queue.n_events_spooled = len(scan.events)
    # Restoring sends them again where one is missing; the end comes after all seals.
    ends = sum(isinstance(event, ScanEnded) for event in scan.events)
    queue.n_events_sent = len(scan.events) - ends
    prepared = next((e for e in scan.events if isinstance(e, ScanPrepared)), None)
    if prepared is None:
        queue.is_over = True
    else:
        queue.take_over(_lanes(prepared, scan), prepared.quota_bytes)
    return queue


def _lanes(prepared: ScanPrepared, scan: SpooledScan) -> Iterator[LaneDescription]:
    for lane in prepared.lanes:
        yield lane
        for channel in lane.channels:
            late = lane.late_lane(channel)
            if late.name in scan.entries:
                yield late


def _fill(client: Bus, queue: ScanQueue, lane: LaneQueue, scan: SpooledScan) -> None:
    entries = scan.entries.get(lane.name, [])
    for entry in entries:
        lane.retransmit.put(entry)
    # Files are removed when all in them is durable, and nothing else is missing.
    lane.retransmit.durable_up_to(lane.retransmit.first)
    ends = stream_ends(client, queue.uid, lane.name)
    last = ends[1] if ends else b"0-0"
    if last != SEAL_ID:
        # A crash of the machine may have cost the spool what Redis has.
        reached = sum(map(int, last.split(b"-")))
        lane.retransmit.stop = max(lane.retransmit.stop, reached)
    lane.ending = True


def _end(queue: ScanQueue) -> None:
    if any(isinstance(event, ScanEnded) for event in queue.events):
        return
    queue.events.append(
        ScanEnded(
            time=wall_clock(),
            end_reason=EndReason.FAILURE,
            text=DIED,
            late=queue.late,
        )
    )
