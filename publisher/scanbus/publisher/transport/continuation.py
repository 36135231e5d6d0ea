"""Publish what a closed scan lacks as a new scan, which names the closed one.

The queue becomes that of another scan: with a new uid and number, and without the
points that the closed scan has. All else is as after a Redis that lost everything: the
comparison with the bus announces the new scan and sends its events and entries. So the
program may go on sending, and nothing is dropped without a file.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from time import time as wall_clock

from scanbus.bus.store import Bus, release_scan_number
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.recovery.closed_scan import ClosedScan
from scanbus.publisher.transport.scan_number import counted_number
from scanbus.schemas import ScanAnnounced
from scanbus.schemas.errors import SpoolError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["continue_scan", "needs_continuation"]

log = get_logger()


def needs_continuation(queue: ScanQueue, closed: ClosedScan) -> bool:
    """Whether the publisher has points that the closed scan lacks, or may get some."""
    return bool(queue.lanes) and (not queue.is_over or bool(closed.left(queue)))


def continue_scan(client: Bus, queue: ScanQueue, closed: ClosedScan) -> None:
    """Let a queue be that of a new scan from now on; one thread does it.

    Raises
    ------
    SpoolError
        If the spool cannot be told: the scan is as before, to be continued later.
    """
    with queue.watch.restoring() as is_needed:
        if not is_needed or queue.uid != closed.uid:
            return  # Another thread did it.
        left = closed.left(queue)
        before = queue.announced.scan
        uid, folder = uuid.uuid4().hex, before.dataset_folder
        number = counted_number(client, folder, uid, before.scan_number)
        identity = before.model_copy(update={"uid": uid, "scan_number": number})
        announced = queue.announced.model_copy(
            update={"scan": identity, "time": wall_clock()}
        )
        begins = closed.begins(queue)
        try:
            _note_in_spool(queue, announced, closed.uid, begins)
        except SpoolError:
            release_scan_number(client, folder, uid, number)
            raise
        queue.continue_as(announced, begins)
    queue.watch.request_compare()
    log.warning(
        LogEvent.SCAN_CONTINUED,
        scan=identity.uid,
        number=number,
        parent=closed.uid,
        points=left,
        reason=closed.text,
    )


def _note_in_spool(
    queue: ScanQueue, announced: ScanAnnounced, parent: str, begins: Mapping[str, int]
) -> None:
    spool, session = queue.spool, queue.session
    if spool is not None:
        spool.write_identity(announced, "", session, parent=parent, begins=begins)
