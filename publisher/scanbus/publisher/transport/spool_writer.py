"""The thread that writes a scan's entries and events to its spool.

Entries and events are sent only after they are in the spool, so that a successor of
this process can send again whatever Redis loses. This thread makes no calls to Redis,
so neither an unavailable Redis nor a slow network delays it.
"""

from __future__ import annotations

import threading

# As a module: a program may patch it by gevent after it imported this.
import time
from time import monotonic

from scanbus.publisher.ingest.numbered_points import awaits_timeout, flush_overdue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.spool_backlog import SpoolBacklog
from scanbus.publisher.spool import ScanSpool
from scanbus.schemas.errors import SpoolError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["SpoolWriter"]

log = get_logger()

# Longest time that values are buffered while Redis is busy or unavailable.
_GATHER_S = 0.05
_GATHER_WAIT_S = 0.005
_CHUNK_WAIT_S = 0.2
_RETRY_S = 0.5
_REMOVE_EVERY_S = 0.5


class SpoolWriter(threading.Thread):
    """Writes one scan to its spool, until the scan is released.

    Parameters
    ----------
    queue : ScanQueue
        The scan.
    backlog : SpoolBacklog
        Its entries and events that are not in the spool yet.
    spool : ScanSpool
        Its folder; removed after the final verdict, otherwise left to be resumed.
    """

    def __init__(
        self, queue: ScanQueue, backlog: SpoolBacklog, spool: ScanSpool
    ) -> None:
        super().__init__(name=f"scanbus-spooler-{queue.uid[:8]}", daemon=True)
        self._queue = queue
        self._backlog = backlog
        self._spool = spool
        self._sync_s = queue.limits.spool_sync_s
        self._is_dirty = False
        self._synced_at = monotonic()
        self._gathered_at = 0.0
        self._removed_at = 0.0

    def run(self) -> None:
        """Write until the scan is released."""
        queue = self._queue
        try:
            while not queue.is_released:
                self._write_round()
        except Exception as error:
            log.exception(LogEvent.SPOOL_WRITER_FAILED, scan=queue.uid)
            queue.fail(error)
        finally:
            if queue.verdict is None:
                self._spool.close()
            else:
                self._finish()

    def _finish(self) -> None:
        kept = self._spool.finish()
        if kept is not None:
            log.warning(LogEvent.SPOOL_SET_ASIDE, scan=self._queue.uid, path=str(kept))

    def _write_round(self) -> None:
        self._make_entries()
        try:
            wrote = self._write_all()
        except OSError as error:
            self._wait_for_disk(error)
            return
        self._backlog.clear_trouble()
        self._sync_if_due()
        self._remove_durable()
        if not wrote:
            self._sleep()

    def _make_entries(self) -> None:
        now = monotonic()
        is_due = now - self._gathered_at >= _GATHER_S
        for lane in self._queue.lanes.values():
            flush_overdue(self._queue, lane, _CHUNK_WAIT_S)
            self._backlog.encode(lane, is_due=is_due)
            self._backlog.seal(lane)
        if is_due:
            self._gathered_at = now

    def _write_all(self) -> bool:
        """Write all pending entries and events; return whether there were any."""
        wrote = False
        for lane in self._queue.lanes.values():
            while (entry := self._backlog.next_entry(lane)) is not None:
                self._spool.append(lane.name, entry)
                self._is_dirty = wrote = True
                if entry.is_seal:
                    self._sync()
                self._backlog.note_entry(lane)
        while (event := self._backlog.next_event()) is not None:
            self._spool.append_event(event)
            wrote = True
            self._backlog.note_event()
        return wrote

    def _sync_if_due(self) -> None:
        if self._is_dirty and monotonic() - self._synced_at >= self._sync_s:
            self._sync()

    def _sync(self) -> None:
        try:
            self._spool.sync()
        except OSError as error:
            # The kernel reports a lost write only once: a second sync would succeed.
            reason = f"the disk lost what was written: {error.strerror}"
            raise SpoolError(str(self._spool.folder), reason) from error
        self._is_dirty = False
        self._synced_at = monotonic()

    def _remove_durable(self) -> None:
        now = monotonic()
        if now - self._removed_at < _REMOVE_EVERY_S:
            return
        self._removed_at = now
        for lane in self._queue.lanes.values():
            first = self._backlog.first_kept(lane)
            self._spool.remove_durable(lane.name, first)

    def _sleep(self) -> None:
        if not self._backlog.await_work(self._wait_s):
            time.sleep(_GATHER_WAIT_S)  # Not woken: every single value would wake it.

    def _wait_s(self) -> float:
        lanes = self._queue.lanes.values()
        waits = self._is_dirty or any(awaits_timeout(lane) for lane in lanes)
        return min(self._sync_s, _CHUNK_WAIT_S) if waits else 1.0

    def _wait_for_disk(self, error: OSError) -> None:
        """Pause while the disk takes no data; sends then wait for room in memory."""
        reason = f"the spool {self._spool.folder}: {error.strerror}"
        if self._backlog.note_trouble(reason):
            log.warning(LogEvent.SPOOL_PAUSED, scan=self._queue.uid, reason=reason)
        time.sleep(_RETRY_S)
