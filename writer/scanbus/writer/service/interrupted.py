"""Close scans whose publishers do not come back.

A scan that was interrupted keeps its place on the bus, and the position of all later
ones. After a time it is ended in its publisher's place. That loses nothing: a publisher
that returns publishes what only it has as a new scan.
"""

from __future__ import annotations

from time import monotonic

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Bus,
    acquire_lease,
    end_for_publisher,
    publisher_is_alive,
    read_events,
    release_lease,
    seconds_since,
)
from scanbus.schemas import EndReason
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.service.scan_task import ScanTask
from scanbus.writer.settings import WriterSettings

__all__ = ["close_if_overdue"]

log = get_logger()


def close_if_overdue(
    client: Bus, task: ScanTask, settings: WriterSettings, writer: str
) -> bool:
    """End an interrupted scan whose publisher has been away for long.

    The time counts from the last event, and from the moment when this service found the
    publisher gone: another one may have seen it alive shortly before.

    Parameters
    ----------
    task : ScanTask
        A scan with a provisional verdict, whose record is up to date.
    writer : str
        Name of this writer, for the lease.

    Returns
    -------
    bool
        Whether it was ended.
    """
    record = task.record
    if record is None or _is_lost_on_redis(record):
        return False
    prepared = record.prepared
    if prepared is None and record.problems:
        return False  # A later version may understand it.
    is_spooled = prepared is not None and prepared.spooled
    limit_s = settings.spooled_close_s if is_spooled else settings.interrupted_close_s
    gone_s = monotonic() - task.interrupted_at
    silent_s = min(seconds_since(client, record.last_id), gone_s)
    if silent_s < limit_s:
        return False
    lease = acquire_lease(client, record.uid, writer, int(settings.lease_s * 1000))
    if lease is None:
        return False  # Another writer does it.
    try:
        if not _is_left_open(client, record):
            return False  # Somebody was faster.
        text = f"closed by the writer: its publisher was silent for {silent_s:.0f} s"
        is_ended = end_for_publisher(client, record, text)
        # Nothing was open: it is asked again after as long.
        task.interrupted_at = monotonic()
    finally:
        release_lease(client, lease)
    if is_ended:
        silent_s = round(silent_s)
        log.warning(LogEvent.INTERRUPTED_CLOSED, scan=record.uid, silent_s=silent_s)
    return is_ended


def _is_lost_on_redis(record: ScanRecord) -> bool:
    """Whether its publisher sealed all, and Redis has not: points may be lost, too.

    One that ended with an error may have failed before it sealed a lane.
    """
    return record.ended is not None and record.ended.end_reason is EndReason.SUCCESS


def _is_left_open(client: Bus, record: ScanRecord) -> bool:
    ended = record.ended
    read_events(client, record)
    is_news = record.ended is not ended
    return not is_news and not publisher_is_alive(client, record.uid)
