"""Restore on the bus what Redis lost.

After every reconnect, and when a lane has vanished, a publisher compares its state with
Redis. A Redis that came back empty gets the announcement, the quota, the events and the
lanes again; one that lost the tail of its append-only file gets that tail again.
"""

from __future__ import annotations

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Bus,
    VanishedError,
    announce,
    append_event,
    is_announced,
    load_record,
    make_lane,
    raise_scan_number,
    reserve_quota,
    stored_session,
    stream_ends,
)
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import Event, ScanUpdated
from scanbus.schemas.errors import LaneConflictError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["compare_lane", "ensure_announced", "restore_scan"]

log = get_logger()


def ensure_announced(client: Bus, queue: ScanQueue) -> None:
    """Announce the scan, or again if its announcement was lost."""
    identity = queue.announced.scan
    known = queue.announcement
    if known and is_announced(client, known, identity.uid):
        return
    if known:
        log.warning(LogEvent.ANNOUNCED_AGAIN, scan=identity.uid)
    # The counter is lost too: the next scan must not get this scan's number.
    raise_scan_number(client, identity.dataset_folder, identity.scan_number)
    queue.set_announcement(announce(client, queue.announced))


def restore_scan(client: Bus, queue: ScanQueue) -> None:
    """Restore the announcement, the quota and all events sent so far, if missing.

    One thread at a time does it; the next ones find nothing missing.
    """
    with queue.watch.restoring() as is_needed:
        if not is_needed:
            return
        ensure_announced(client, queue)
        # Forced: a running scan is not refused because Redis lost its reservation.
        if queue.quota_bytes:
            reserve_quota(client, queue.uid, queue.quota_bytes, 0, force=True)
        sent = queue.watch.sent_events()
        record = load_record(client, queue.announced)
        if _has_all(record, sent):
            return
        log.warning(LogEvent.EVENTS_SENT_AGAIN, scan=queue.uid, events=len(sent))
        for event in sent:
            append_event(client, queue.uid, event)


def _has_all(record: ScanRecord, sent: list[Event]) -> bool:
    n_updates = sum(isinstance(event, ScanUpdated) for event in sent)
    there = {
        "prepared": record.prepared is not None,
        "started": record.started is not None,
        "updated": len(record.updates) >= n_updates,
        "ended": record.ended is not None,
    }
    return all(there[event.type] for event in sent if event.type in there)


def compare_lane(client: Bus, queue: ScanQueue, lane: LaneQueue) -> None:
    """Make the lane if it is missing, and queue again the entries that it lacks.

    Only the lane's own sender may call it, and not while it sends.

    Raises
    ------
    LaneConflictError
        If another publisher wrote to it.
    NoRoomError
        If Redis accepts no data now.
    VanishedError
        If the lane vanished again.
    """
    make_lane(client, queue.uid, lane.name)
    ends = stream_ends(client, queue.uid, lane.name)
    if ends is None:
        # All that is kept would be sent again, also what the writer has trimmed.
        raise VanishedError
    last = ends[1]
    session = stored_session(client, queue.uid, lane.name, last)
    if session is not None and session != queue.session:
        raise LaneConflictError(lane.name, last.decode())
    again = queue.watch.resume_after(lane, last)
    if again:
        log.warning(LogEvent.SENT_AGAIN, scan=queue.uid, lane=lane.name, bytes=again)
