"""Scans that dead publishers left: end those in the spool, reopen what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from scanbus.bus.protocol import HEARTBEAT_TTL_MS
from scanbus.bus.store import Bus, beat_publisher, translated
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.recovery.reopen import reopened_scan
from scanbus.publisher.recovery.resume import QueueMaker, resumed_scans
from scanbus.publisher.spool import NEW_PREFIX, try_spool
from scanbus.publisher.transport.redis_link import Link
from scanbus.publisher.transport.scan_monitor import ScanMonitor
from scanbus.schemas.errors import PublisherAliveError, ScanStateError, SpoolError

__all__ = ["LeftScans"]


class LeftScans:
    """Resumes and reopens scans whose publisher died; one per publisher.

    Parameters
    ----------
    client : Bus
        The connection of the program's threads.
    link : Link
        Connection parameters.
    monitor : ScanMonitor
        Monitors the scans.
    spool : pathlib.Path, optional
        Folder of the local spool.
    heartbeat : str
        Text of the first heartbeat.
    make_queue : callable
        Returns an empty queue of a scan.
    start : callable
        Has the threads started that send a scan.

    Attributes
    ----------
    resumed : list of ScanQueue
        The scans that were resumed, to be ended.
    unreadable : list of SpoolError
        Why scans in the spool cannot be read.
    """

    def __init__(
        self,
        client: Bus,
        link: Link,
        monitor: ScanMonitor,
        spool: Path | None,
        *,
        heartbeat: str,
        make_queue: QueueMaker,
        start: Callable[[ScanQueue], None],
    ) -> None:
        self._client = client
        self._link = link
        self._monitor = monitor
        self._spool = spool
        self._heartbeat = heartbeat
        self._make_queue = make_queue
        self._start = start
        self.resumed: list[ScanQueue] = []
        self.unreadable: list[SpoolError] = []

    def resume(self, left_open: Collection[str] = ()) -> None:
        """Resume the scans in the spool, so that they end.

        Parameters
        ----------
        left_open : collection of str
            Uids of scans that stay as they are, to be reopened.

        Raises
        ------
        SpoolError
            If the spool is no folder that can be read, or its file system lacks what a
            spool needs.
        """
        if self._spool is not None:
            try_spool(self._spool, NEW_PREFIX)
            self._resume(self._spool, lambda uid: uid not in left_open)

    def _resume(self, spool: Path, is_wanted: Callable[[str], bool]) -> None:
        found: list[ScanQueue] = []
        try:
            with translated(self._link.url):
                for queue in resumed_scans(
                    spool, self._client, self._make_queue, is_wanted
                ):
                    if isinstance(queue, SpoolError):
                        self.unreadable.append(queue)
                    else:
                        found.append(queue)
                        self._beat(queue)
        except BaseException:
            for queue in found:
                _close_spool(queue)
            raise
        for queue in found:
            queue.watch.request_compare()
            self._monitor.watch(queue)
            self._start(queue)
        self.resumed += found

    def reopen(
        self, options: ScanOptions, note_opened: Callable[[ScanQueue], None]
    ) -> None:
        """Reopen a scan; see `reopened_scan`.

        Parameters
        ----------
        note_opened : callable
            Gets the queue before anything of it is sent.

        Raises
        ------
        UnknownScanError, ScanStateError, SpoolError
            If it cannot go on. One in the spool that was about to end is resumed.
        """
        uid: str = options.identity["uid"]
        budget = self._link.budget_bytes
        try:
            with translated(self._link.url):
                queue = reopened_scan(
                    uid,
                    self._client,
                    self._spool,
                    self._make_queue,
                    compression=options.compression,
                    most_quota_bytes=lambda quota: options.most_quota_bytes(
                        quota, budget
                    ),
                )
                self._beat(queue)
        except PublisherAliveError:
            raise
        except ScanStateError:
            if self._spool is not None:
                self._resume(self._spool, lambda name: name == uid)
            raise
        queue.watch.request_compare()
        self._monitor.watch(queue)
        note_opened(queue)

    def _beat(self, queue: ScanQueue) -> None:
        beat_publisher(self._client, queue.uid, self._heartbeat, HEARTBEAT_TTL_MS)


def _close_spool(queue: ScanQueue) -> None:
    if queue.spool is not None:
        queue.spool.close()
