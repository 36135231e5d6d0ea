"""Go on with a scan whose publisher died, in the same lanes, with the same session.

What it had sent is in its spool; without a spool, what no file has yet is on the bus.
What it had taken and neither of them has is lost with the process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scanbus.bus.store import Bus
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.recovery.bus_scan import scan_on_bus
from scanbus.publisher.recovery.lane_rests import lane_rests, prepared_in
from scanbus.publisher.recovery.resume import QueueMaker
from scanbus.publisher.recovery.spooled_events import spooled_events
from scanbus.publisher.spool import LeftScan, ScanSpool
from scanbus.schemas import ScanEnded
from scanbus.schemas.errors import (
    PublisherAliveError,
    ScanStateError,
    UnknownScanError,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["reopened_scan"]

log = get_logger()


def reopened_scan(
    uid: str,
    client: Bus,
    root: Path | None,
    make_queue: QueueMaker,
    *,
    compression: float,
    most_quota_bytes: Callable[[int], int],
) -> ScanQueue:
    """Return the queue of a scan that a dead publisher left, for more points.

    Its channels are fixed, unless it was announced only.

    Parameters
    ----------
    root : pathlib.Path, optional
        Folder of the spool.
    compression : float
        Expected compression ratio of the frames, raw over compressed bytes.
    most_quota_bytes : callable
        Returns up to which a quota may grow.

    Raises
    ------
    UnknownScanError
        If neither spool nor bus has it.
    ScanStateError
        If it has ended, or was about to.
    PublisherAliveError
        If its publisher lives.
    SpoolError
        If its folder in the spool cannot be read.
    """
    spool = _folder_of(uid, root)
    try:
        if spool is None:
            left = scan_on_bus(client, uid)
        else:
            left = spool.recover() or _announced(client, uid, spool)
        queue = make_queue(left.announced, left.session, spool)
        _load(client, left, queue, compression, most_quota_bytes)
    except BaseException:
        if spool is not None:
            spool.close()
        raise
    return queue


def _folder_of(uid: str, root: Path | None) -> ScanSpool | None:
    if root is None or not (root / uid).exists():
        return None
    spool = ScanSpool.take(root / uid)
    if spool is None:
        raise PublisherAliveError(f"scan {uid}: its publisher is alive")
    return spool


def _announced(client: Bus, uid: str, spool: ScanSpool) -> LeftScan:
    """Return a scan whose publisher died just after it had announced it, if it had."""
    try:
        left = scan_on_bus(client, uid)
    except UnknownScanError:
        spool.remove()
        raise
    spool.write_identity(left.announced, left.announcement, left.session)
    return left


def _load(
    client: Bus,
    left: LeftScan,
    queue: ScanQueue,
    compression: float,
    most_quota_bytes: Callable[[int], int],
) -> None:
    events, lost = spooled_events(client, left)
    prepared = prepared_in(events)
    if prepared is None:
        queue.set_announcement(left.announcement)
        return
    lanes, lost_points = lane_rests(client, left, events)
    lost += lost_points
    is_ending = any(
        each.is_sealed for each in lanes if not each.description.is_static
    ) or any(isinstance(each, ScanEnded) for each in events)
    if is_ending:
        raise ScanStateError(f"scan {queue.uid}: its publisher had ended it")
    for each in lost:
        log.error(LogEvent.SPOOL_DAMAGED, scan=queue.uid, reason=each.text)
    queue.reopen(
        left.announcement,
        events,
        quota_bytes=prepared.quota_bytes,
        most_quota_bytes=most_quota_bytes(prepared.quota_bytes),
        compression=compression,
        lanes=lanes,
        lost=lost,
    )
    log.warning(
        LogEvent.SCAN_REOPENED,
        scan=queue.uid,
        number=left.announced.scan.scan_number,
        lanes={each.description.name: each.stop for each in lanes},
    )
