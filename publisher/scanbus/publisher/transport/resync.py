"""Restore on the bus what Redis lost.

After every reconnect, and when a lane has vanished, a publisher compares its state with
Redis. A Redis that came back empty gets the announcement, the quota, the events and the
lanes again; one that lost the tail of its append-only file gets that tail again.
"""

from __future__ import annotations

from collections.abc import Sequence

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Bus,
    ExpectedKeys,
    VanishedError,
    announce,
    append_events,
    ask_writers,
    ends_of_streams,
    is_announced,
    load_record,
    make_lanes,
    raise_scan_number,
    reserve_quota,
    stored_sessions,
)
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import MAX_COUNTED_NUMBER, Event, ScanUpdated
from scanbus.schemas.errors import LaneConflictError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["compare_lanes", "ensure_announced", "expected_keys", "restore_scan"]

log = get_logger()


def ensure_announced(client: Bus, queue: ScanQueue) -> None:
    """Announce the scan, or again if its announcement was lost."""
    if not _is_announced(client, queue):
        _announce(client, queue)


def _is_announced(client: Bus, queue: ScanQueue) -> bool:
    known = queue.announcement
    return bool(known) and is_announced(client, known, queue.uid)


def _announce(client: Bus, queue: ScanQueue) -> None:
    if queue.announcement:
        log.warning(LogEvent.ANNOUNCED_AGAIN, scan=queue.uid)
    _raise_number(client, queue)
    queue.set_announcement(announce(client, queue.announced))


def _raise_number(client: Bus, queue: ScanQueue) -> None:
    """Restore the counter: the next scan must not get this scan's number."""
    identity = queue.announced.scan
    folder = identity.dataset_folder
    if raise_scan_number(client, folder, identity.scan_number) is None:
        # Redis has lost the counter: others may have gone on, and the disk knows.
        ask_writers(client, folder)


def restore_scan(client: Bus, queue: ScanQueue) -> None:
    """Restore the quota, all events sent so far and the announcement, if missing.

    In this order: whoever finds the scan must find what it is. Announced alone, as by a
    publisher that is killed meanwhile, it would be one that was never prepared, and end
    as that, though points of it are in files.

    One thread at a time does it; the next ones find nothing missing.
    """
    with queue.watch.restoring() as is_needed:
        if not is_needed:
            return
        before = queue.announcement
        # Forced: a running scan is not refused because Redis lost its reservation.
        reserved = queue.watch.reserved_bytes
        if reserved:
            reserve_quota(client, queue.uid, reserved, 0, force=True)
        # Asked first: if Redis loses all in between, the events are found missing, too.
        was_announced = _is_announced(client, queue)
        sent = queue.watch.sent_events()
        lacks_events = not _has_all(load_record(client, queue.announced), sent)
        if lacks_events:
            log.warning(LogEvent.EVENTS_SENT_AGAIN, scan=queue.uid, events=len(sent))
            while sent:
                sent = sent[append_events(client, queue.uid, sent) :]
        if not was_announced:
            _announce(client, queue)
        _raise_number(client, queue)
        if lacks_events and queue.is_over and queue.announcement == before:
            # The verdict may be lost too: announced again, the scan is judged again.
            _announce(client, queue)


def _has_all(record: ScanRecord, sent: list[Event]) -> bool:
    n_updates = sum(isinstance(event, ScanUpdated) for event in sent)
    there = {
        "prepared": record.prepared is not None,
        "started": record.started is not None,
        "updated": len(record.updates) >= n_updates,
        "ended": record.ended is not None,
    }
    return all(there[event.type] for event in sent if event.type in there)


def expected_keys(queue: ScanQueue) -> ExpectedKeys | None:
    """Return what must be on the bus of a scan that is not released.

    None if it is not announced now: it is opened, or goes on as another scan, which may
    happen between any two steps here.
    """
    announced, announcement = queue.announced, queue.announcement
    identity = announced.scan
    expected = ExpectedKeys(
        identity.uid,
        announcement,
        len(queue.watch.sent_events()),
        # The writer releases it with the verdict, which may not be read yet.
        queue.quota_bytes > 0 and not queue.is_over,
        tuple(queue.watch.made_lanes()),
        identity.dataset_folder,
        identity.scan_number if identity.scan_number <= MAX_COUNTED_NUMBER else 0,
    )
    return expected if announcement and queue.announced is announced else None


def compare_lanes(client: Bus, queue: ScanQueue, lanes: Sequence[LaneQueue]) -> None:
    """Make the lanes that are missing, and queue again the entries that they lack.

    Only the lanes' own sender may call it, and not while it sends. Takes a few round
    trips for any number of lanes.

    Raises
    ------
    LaneConflictError
        If another publisher wrote to one.
    NoRoomError
        If Redis accepts no data now.
    VanishedError
        If one vanished again.
    """
    last = _last_ids(client, queue.uid, [lane.name for lane in lanes])
    used = {name: last_id for name, last_id in last.items() if last_id != b"0-0"}
    sessions = stored_sessions(client, queue.uid, used)
    for lane in lanes:
        if sessions.get(lane.name) not in (None, queue.session):
            raise LaneConflictError(lane.name, last[lane.name].decode())
        again = queue.watch.resume_after(lane, last[lane.name])
        if again:
            scan = queue.uid
            log.warning(LogEvent.SENT_AGAIN, scan=scan, lane=lane.name, bytes=again)


def _last_ids(client: Bus, uid: str, names: Sequence[str]) -> dict[str, bytes]:
    """Return the last id that each lane ever had; make the lanes that are missing."""
    ends = dict(zip(names, ends_of_streams(client, uid, names), strict=True))
    missing = [name for name in names if ends[name] is None]
    if missing:
        make_lanes(client, uid, missing)
        made = ends_of_streams(client, uid, missing)
        ends |= dict(zip(missing, made, strict=True))
    last = {name: found[1] for name, found in ends.items() if found is not None}
    if len(last) < len(ends):
        # All that is kept would be sent again, also what the writer has trimmed.
        raise VanishedError
    return last
