"""Resume the scans that a dead publisher left in its spool.

Its program is gone, so no points are added: lanes are sealed where they end, and the
scan ends with FAILURE unless its end is in the spool. What Redis lost is restored as
after any other loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import time as wall_clock

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import SEAL_ID, EncodedEntry
from scanbus.bus.store import Bus, stream_ends
from scanbus.publisher.queue.inbox import Inbox
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.recovery.lost_data import lane_losses, with_gaps
from scanbus.publisher.recovery.spooled_events import spooled_events
from scanbus.publisher.spool import ScanSpool, SpooledScan, find_scans
from scanbus.schemas import (
    EndReason,
    Event,
    LaneDescription,
    ScanEnded,
    ScanPrepared,
    static_lanes,
)
from scanbus.schemas.errors import SpoolError
from scanbus.schemas.file_names import late_lane_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["DIED", "resumed_scans"]

log = get_logger()

DIED = "the publisher died; what it had sent was resumed from its spool"


def resumed_scans(
    root: Path,
    client: Bus,
    *,
    inbox: Inbox,
    limits: SendLimits,
    threads: ThreadPool,
    why_full: Callable[[str], str],
) -> Iterator[ScanQueue | SpoolError]:
    """Yield the scans of dead publishers, ready to be sent.

    For a spool folder that cannot be read there is an error, and it is left unchanged.
    """
    for spool in find_scans(root):
        try:
            if isinstance(spool, SpoolError):
                raise spool
            queue = _resumed_from(
                spool,
                client,
                inbox=inbox,
                limits=limits,
                threads=threads,
                why_full=why_full,
            )
        except SpoolError as error:
            log.error(LogEvent.SPOOL_UNREADABLE, path=error.path, reason=error.reason)  # noqa: TRY400
            yield error
        else:
            if queue is not None:
                yield queue


def _resumed_from(
    spool: ScanSpool,
    client: Bus,
    *,
    inbox: Inbox,
    limits: SendLimits,
    threads: ThreadPool,
    why_full: Callable[[str], str],
) -> ScanQueue | None:
    try:
        scan = spool.recover()
        if scan is None:
            spool.remove()  # Its publisher died before it announced the scan.
            return None
        queue = _resumed(
            client,
            scan,
            spool,
            inbox=inbox,
            limits=limits,
            threads=threads,
            why_full=why_full,
        )
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


def _resumed(
    client: Bus,
    scan: SpooledScan,
    spool: ScanSpool,
    *,
    inbox: Inbox,
    limits: SendLimits,
    threads: ThreadPool,
    why_full: Callable[[str], str],
) -> ScanQueue:
    queue = ScanQueue(
        scan.announced,
        scan.session,
        inbox=inbox,
        limits=limits,
        threads=threads,
        why_full=partial(why_full, scan.announced.scan.uid),
        spool=spool,
    )
    events, lost = spooled_events(client, scan)
    prepared = next((e for e in events if isinstance(e, ScanPrepared)), None)
    lanes = list(_lanes(prepared, events, scan))
    for lane in lanes:
        found = scan.entries.get(lane.name, ())
        lost += lane_losses(lane, found, scan.begins.get(lane.name, 0))
    for each in lost:
        log.error(LogEvent.SPOOL_DAMAGED, scan=queue.uid, reason=each.text)
    # Events count as sent, and are restored if Redis lacks one. Not the end: it must
    # come after all seals.
    ends = sum(isinstance(event, ScanEnded) for event in events)
    queue.take_over(
        scan.announcement,
        events,
        n_sent=len(events) - ends,
        quota_bytes=prepared.quota_bytes if prepared else 0,
        lanes=[_recovered_lane(client, each, scan) for each in lanes],
        begins=scan.begins,
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
    return queue


def _lanes(
    prepared: ScanPrepared | None, events: Sequence[Event], scan: SpooledScan
) -> Iterator[LaneDescription]:
    """Yield the lanes of a scan: its own, of static arrays, of its late points.

    The spool has no entries of a lane of late points that is in the files already, but
    Redis may have lost its seal.
    """
    ended = next((e for e in scan.events if isinstance(e, ScanEnded)), None)
    counted = ended.late if ended else {}
    every = (getattr(event, "metadata", {}) for event in events)
    statics = {lane.name: lane for tree in every for lane in static_lanes(tree)}
    yield from statics.values()
    for lane in prepared.lanes if prepared else ():
        yield lane
        for channel in lane.channels:
            name = late_lane_name(channel.name)
            if name in scan.entries or channel.name in counted:
                yield lane.late_lane(channel)


def _recovered_lane(
    client: Bus, lane: LaneDescription, scan: SpooledScan
) -> tuple[LaneDescription, list[EncodedEntry], int | None]:
    """Return a lane, its entries and the first point that Redis lacks.

    The point is None if the lane is sealed in Redis.
    """
    ends = stream_ends(client, scan.announced.scan.uid, lane.name)
    last = ends[1] if ends else b"0-0"
    reached = None if last == SEAL_ID else sum(map(int, last.split(b"-")))
    found = scan.entries.get(lane.name, ())
    return lane, list(with_gaps(lane, found, scan.session)), reached
