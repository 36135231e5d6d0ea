"""Resume the scans that a dead publisher left in its spool.

Its program is gone, so no points are added: lanes are sealed where they end, and the
scan ends with FAILURE unless its end is in the spool. What Redis lost is restored as
after any other loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time as wall_clock
from typing import TypeAlias

from scanbus.bus.store import Bus
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.recovery.lane_rests import lane_rests, prepared_in
from scanbus.publisher.recovery.spooled_events import spooled_events
from scanbus.publisher.spool import LeftScan, ScanSpool, find_scans
from scanbus.schemas import EndReason, ScanAnnounced, ScanEnded
from scanbus.schemas.errors import SpoolError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["DIED", "QueueMaker", "resumed_scans"]

log = get_logger()

DIED = "the publisher died; what it had sent was resumed from its spool"

QueueMaker: TypeAlias = Callable[[ScanAnnounced, bytes, ScanSpool | None], ScanQueue]
"""Returns an empty queue of a scan, given its session and its folder in the spool."""


def resumed_scans(
    root: Path,
    client: Bus,
    make_queue: QueueMaker,
    is_wanted: Callable[[str], bool],
) -> Iterator[ScanQueue | SpoolError]:
    """Yield the scans of dead publishers, ready to be sent.

    For a spool folder that cannot be read there is an error, and it is left unchanged.

    Parameters
    ----------
    is_wanted : callable
        Returns whether a scan is wanted, by its uid.
    """
    for spool in find_scans(root, is_wanted):
        try:
            if isinstance(spool, SpoolError):
                raise spool
            queue = _resumed_from(spool, client, make_queue)
        except SpoolError as error:
            log.error(LogEvent.SPOOL_UNREADABLE, path=error.path, reason=error.reason)  # noqa: TRY400
            yield error
        else:
            if queue is not None:
                yield queue


def _resumed_from(
    spool: ScanSpool, client: Bus, make_queue: QueueMaker
) -> ScanQueue | None:
    try:
        scan = spool.recover()
        if scan is None:
            spool.remove()  # Its publisher died before it announced the scan.
            return None
        queue = make_queue(scan.announced, scan.session, spool)
        _take_over(client, scan, queue)
    except BaseException:
        spool.close()
        raise
    log.warning(
        LogEvent.SCAN_RESUMED,
        scan=queue.uid,
        number=scan.announced.scan.scan_number,
        lanes={
            lane.name: lane.length
            for lane in queue.lanes.values()
            if not lane.is_static
        },
    )
    return queue


def _take_over(client: Bus, scan: LeftScan, queue: ScanQueue) -> None:
    events, lost = spooled_events(client, scan)
    lanes, lost_points = lane_rests(client, scan, events)
    lost += lost_points
    for each in lost:
        log.error(LogEvent.SPOOL_DAMAGED, scan=queue.uid, reason=each.text)
    prepared = prepared_in(events)
    # Events count as sent, and are restored if Redis lacks one. Not the end: it must
    # come after all seals.
    ends = sum(isinstance(event, ScanEnded) for event in events)
    queue.take_over(
        scan.announcement,
        events,
        n_sent=len(events) - ends,
        quota_bytes=prepared.quota_bytes if prepared else 0,
        lanes=lanes,
        lost=lost,
    )
    if not ends:
        queue.add_event(
            ScanEnded(
                time=wall_clock(),
                end_reason=EndReason.FAILURE,
                text=DIED,
                late=queue.late,
            )
        )
