"""The publisher: one per program; it outlives its scans.

It owns the connections and threads, reserves quotas, and keeps data until the writer
has made them durable, also after a scan's block has ended.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import DEFAULT_MEMORY_BYTES
from scanbus.bus.store import OwnProcess, address_of, process_text
from scanbus.publisher.declare.json_text import text_of
from scanbus.publisher.declare.scan_arguments import MAX_INSTRUMENT, scan_options
from scanbus.publisher.declare.static_arrays import StaticArrays
from scanbus.publisher.ingest.finish import reason_of
from scanbus.publisher.queue.inbox import Inbox
from scanbus.publisher.queue.locks import wait_for_end
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.queue.worker import Worker
from scanbus.publisher.scan import Scan
from scanbus.publisher.transport.redis_link import Link
from scanbus.publisher.transport.scan_monitor import ScanMonitor
from scanbus.publisher.transport.scan_registrar import ScanRegistrar
from scanbus.schemas import (
    EndReason,
    PlotDescription,
    Verdict,
)
from scanbus.schemas.documents import build_documents
from scanbus.schemas.errors import ScanStateError, SpoolError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.valid_names import (
    plain_text,
)

__all__ = ["Publisher"]

log = get_logger()

# Static arrays of a scan may have a quarter of the budget, and reserve twice that.
_STATIC_SHARE = 4
_CLOSED = "the publisher is closed"
# A Redis call times out after 10 s, so a sender that was told to stop ends within this.
_THREAD_END_S = 15.0
_SLEEP = time.sleep
# Longest wait for the threads when the user does not want to wait.
_LEAVE_S = 1.0
_MOST_NAMED = 10  # Scans in one line of the log.


class Publisher:
    """Connects a program to the bus; a context manager, safe to share between threads.

    Parameters
    ----------
    url : str, optional
        ``redis://host:port/db``, ``rediss://…`` or ``unix:///path``; by default that in
        ``SCANBUS_REDIS``, else ``redis://127.0.0.1:6379``.
    name : str, optional
        Name of the program; by default the name of its script.
    memory_bytes : int, optional
        Assumed memory of Redis, in bytes, if it has no maxmemory; by default 4 GiB.
    close_timeout_s : float
        Longest wait of `close` for final verdicts, in seconds.
    send_deadline_s : float
        Longest wait of a send for room, in seconds.
    reorder_window : int
        Largest distance, in points, of a numbered point from the next point of its
        lane.
    reorder_s : float
        Longest time, in seconds, that a numbered point waits for the points before it;
        then they are given up.
    encode_threads : int
        Threads that compress frames. They run in parallel for codecs that release the
        GIL, which is all but blosc2; for blosc2 they only keep the compression out of
        the caller's thread.
    spool : path, optional
        Folder on a local disk. All data are written there before they are sent and
        stay until they are durable, so that a scan survives the death of both this
        process and Redis; scans that a dead publisher left there are resumed at once.
        ``send`` returns before the data are written: if the process is killed, it
        loses what was not compressed yet, some milliseconds, and frames of a chunk
        that is not full, 0.2 s at most. ``scan.flush()`` waits until all that was sent
        is in the spool.
    memory_bytes_kept : int
        With a spool: bytes of a scan that stay in memory, at least two chunks of each
        detector. The quota then limits only what is on the bus, and the disk limits
        what is kept.
    spool_sync_s : float
        Interval, in seconds, between syncs of the spool to the disk (fdatasync): the
        data that a crash of this machine may lose. If only this process dies, none of
        them are lost.
    left_open : collection of str, optional
        Uids of scans in the spool that are not ended, but left for `reopen`.

    Raises
    ------
    ServerAddressError
        If `url` is no address of a Redis server.
    BusUnavailableError
        If Redis does not answer.
    BusUnsuitableError
        If Redis is older than 6.2.
    SpoolError
        If the spool is no folder that can be read, or its file system lacks what a
        spool needs.

    Examples
    --------
    >>> with Publisher("redis://localhost") as publisher:  # doctest: +SKIP
    ...     with publisher.scan(title="ascan th 0 1 10 0.1") as scan:
    ...         scan.channel("th", units="deg", role="axis")
    ...         scan.send("th", 0.5)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        name: str | None = None,
        memory_bytes: int | None = None,
        close_timeout_s: float = 60.0,
        send_deadline_s: float = 60.0,
        reorder_window: int = 64,
        reorder_s: float = 5.0,
        encode_threads: int = 2,
        spool: str | Path | None = None,
        memory_bytes_kept: int = 256 * 2**20,
        spool_sync_s: float = 0.5,
        left_open: Collection[str] | None = None,
    ) -> None:
        if time.sleep is not _SLEEP:
            raise ScanStateError(
                "threads were patched (gevent) after scanbus was imported, so half of "
                "it would block the other: call patch_all() first in the program"
            )
        if spool == "":
            raise SpoolError("", "the path is empty; leave it out for no spool")
        name = text_of(name or Path(sys.argv[0]).stem or "python")
        self._name = plain_text(name, MAX_INSTRUMENT)
        self._close_timeout_s = close_timeout_s
        self._process = OwnProcess("Publisher")
        # Without a lock: each use of it is one step.
        self._scans: dict[int, Scan] = {}
        self._is_closed = self._was_left_reported = False
        # Why a scan ends whose block is still open when this is closed.
        self._reason = (
            EndReason.FAILURE,
            "the publisher was closed inside the scan's block",
        )
        heartbeat = process_text(self._name)
        client_name = "scanbus-" + re.sub(r"[^0-9A-Za-z-]", "-", self._name)[:48]
        # Rebound: a traceback that shows variables then shows it without password.
        url = address_of(url)
        assumed_bytes = memory_bytes or DEFAULT_MEMORY_BYTES
        link = Link(url, client_name, assumed_bytes, threading.Event())
        self._link = link
        self._threads = ThreadPool(encode_threads, "scanbus-encoder")
        inbox = Inbox()
        self._inbox = inbox
        self._worker = Worker(inbox)
        self._monitor = ScanMonitor(
            link, heartbeat, on_exit=self._close_at_exit, on_end=self._end_threads
        )
        self._registrar = ScanRegistrar(
            link,
            self._monitor,
            self._threads,
            inbox,
            self._process,
            heartbeat=heartbeat,
            assumed_bytes=assumed_bytes,
            limits=SendLimits(
                send_deadline_s=send_deadline_s,
                reorder_window=reorder_window,
                reorder_s=reorder_s,
                memory_bytes_kept=memory_bytes_kept,
                spool_sync_s=spool_sync_s,
            ),
            spool=None if spool is None else Path(spool),
        )
        builder = threading.Thread(
            target=build_documents, name="scanbus-models", daemon=True
        )
        try:
            builder.start()
            wait_for_end(builder, _THREAD_END_S)
            self._registrar.check_server()
            self._worker.start()
            self._registrar.left_scans.resume(left_open or ())
            self._monitor.start()
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """End the threads of a publisher whose constructor failed."""
        self._is_closed = True
        if self._monitor.ident is not None:
            self._monitor.close_within(0)
        else:
            self._stop_threads(self._monitor.unreleased)

    def __enter__(self) -> Self:
        """Return the publisher."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the publisher; a scan in whose block it stands ends like the block."""
        if error is None:
            self._close("Ctrl-C")
        else:
            self._reason = reason_of(error)
            is_interrupt = isinstance(error, KeyboardInterrupt)
            self._close("Ctrl-C again" if is_interrupt else "Ctrl-C")

    def scan(
        self,
        *,
        title: str = "",
        proposal: str = "proposal",
        beamline: str = "id00",
        session: str | None = None,
        collection: str = "sample",
        dataset: str = "0001",
        scan_number: int | None = None,
        instrument: str = "",
        metadata: Mapping[str, Any] | None = None,
        positioners: Mapping[str, Any] | None = None,
        quota_bytes: int | None = None,
        compression: float = 1.0,
        require_writer: bool = False,
        plots: Sequence[PlotDescription] | None = None,
        layouts: Sequence[str] = (),
        uid: str | None = None,
    ) -> Scan:
        """Return a scan, to be used in a ``with`` block.

        Parameters
        ----------
        title : str
            The command of the scan, as the user typed it.
        proposal, beamline, session, collection, dataset : str
            Names of the folders of the scan; for a name that no folder can have there
            is another one, with a digest, and the file has both. The session is a date
            (YYYYMMDD); by default that of Redis's clock when the dataset began, for all
            its scans that come within a day of each other.
        scan_number : int, optional
            Unique in the dataset; by default the next one. One that is taken is refused
            when the block is entered, as far as a living writer knows; otherwise the
            writer gives the scan another one. From 90000000 on nothing is counted.
        instrument : str
            Name of the instrument.
        metadata : mapping
            A tree that is merged into the NXentry. Numbers, text, lists of one kind,
            arrays and mappings are stored as themselves; anything else as text or JSON,
            with an attribute ``stored_as``.
        positioners : mapping
            Positions of motors at the start: numbers, ``(units, value)`` or Positioner;
            anything else is stored as text.
        quota_bytes : int, optional
            Bytes that may be on the bus without being in a file. By default what the
            declared channels need, from 4 MiB to 1 GiB or a quarter of the bus's
            budget; it grows that far while the writer is behind and there is room.
        compression : float
            Expected compression ratio of the frames, raw over compressed bytes: with a
            higher ratio, frames that are not compressed yet wait less for the quota.
        require_writer : bool
            Refuse to start if no writer is alive.
        plots : sequence of PlotDescription, optional
            Default plots; by default counters of each unit over the axes.
        layouts : sequence of str
            Layouts of its files besides ESRF's, such as ``("nxmx",)``; by default those
            of the writer's settings, with ``("esrf",)`` none.
        uid : str, optional
            Never used before. A UUID loses its hyphens; of other text that is not 8 to
            40 letters and digits, a part stays with a digest of all.

        Raises
        ------
        ValueError
            If an argument is invalid; others are checked when the block is entered.
        ScanStateError
            If the publisher is closed, or was made before a fork to this process.
        """
        self._check_open()
        return self._scan(
            title=title,
            proposal=proposal,
            beamline=beamline,
            session=session,
            collection=collection,
            dataset=dataset,
            scan_number=scan_number,
            instrument=instrument,
            metadata=metadata,
            positioners=positioners,
            quota_bytes=quota_bytes,
            compression=compression,
            require_writer=require_writer,
            plots=plots,
            layouts=layouts,
            uid=uid,
        )

    def reopen(self, uid: str, **arguments: Any) -> Scan:
        """Return a scan that a publisher left when it died, to be used in a block.

        It goes on where it was: same uid, number, channels and lanes. The next point of
        each channel is the one after the last that the dead publisher's spool, or
        without a spool the bus, has; what it had taken and neither has is lost. Points
        that are numbered again may differ: those that are there stay.

        Without a spool, the quota on the bus is read once, and the publisher must have
        been silent for 10 s, or have died on this host.

        Parameters
        ----------
        uid : str
            The scan; with a spool it must have been in `left_open`.
        **arguments
            Those of `scan`. A scan that was prepared keeps what it has, but for the
            limit of its quota; one that was only announced is declared and begun.

        Raises
        ------
        ValueError
            If an argument is invalid. The following when the block is entered.
        UnknownScanError
            If neither the spool nor the bus has the scan.
        ScanStateError
            If it has ended, or its data are in another spool.
        PublisherAliveError
            If its publisher lives.
        SpoolError
            If its folder in the spool cannot be read.
        """
        self._check_open()
        return self._scan(**arguments, uid=uid, is_reopened=True)

    def _check_open(self) -> None:
        self._process.check()
        if self._is_closed:
            raise ScanStateError(_CLOSED)

    def _scan(self, **arguments: Any) -> Scan:
        statics = StaticArrays(self._link.budget_bytes // _STATIC_SHARE)
        options = scan_options(self._name, statics, **arguments)
        scan = Scan(self._registrar, options, self._process)
        for key, each in tuple(self._scans.items()):
            if each.is_closed:
                self._scans.pop(key, None)
        self._scans[id(scan)] = scan
        return scan

    @property
    def resumed(self) -> dict[str, Verdict | None]:
        """Uids of the scans that were resumed from the spool, with final verdicts."""
        resumed = self._registrar.left_scans.resumed
        return {queue.uid: queue.verdict for queue in resumed}

    @property
    def unreadable(self) -> tuple[SpoolError, ...]:
        """Errors of the scans in the spool that cannot be read; they stay there."""
        return tuple(self._registrar.left_scans.unreadable)

    def why_not_judged(self, uid: str) -> str:
        """Return why a resumed scan has no verdict; empty if that is not known."""
        resumed = self._registrar.left_scans.resumed
        found = (each.error for each in resumed if each.uid == uid)
        return str(next(found, None) or "")

    def close(self) -> None:
        """Wait for the final verdicts, at most `close_timeout_s`, then disconnect.

        Scans without a verdict by then are named in a warning: only Redis, or the
        spool, has their data. Ctrl-C ends the wait at once, with that warning. In a
        process that was forked after this was made, nothing is done.
        """
        self._close("Ctrl-C")

    def _close(self, how_to_leave: str) -> None:
        if not self._process.is_here:
            return
        try:
            self._end_open_scans(*self._reason)
            unreleased = self._monitor.unreleased
            if unreleased and not self._is_closed:
                log.info(
                    LogEvent.WAITING_FOR_VERDICTS,
                    scans=[queue.uid for queue in unreleased[:_MOST_NAMED]],
                    n_scans=len(unreleased),
                    at_most_s=self._close_timeout_s,
                    writers=self._monitor.n_writers,
                    to_leave=how_to_leave,
                )
            self._is_closed = True
            self._monitor.close_within(self._close_timeout_s)
            wait_for_end(self._monitor, self._close_timeout_s + 2 * _THREAD_END_S)
            wait_for_end(self._worker, _THREAD_END_S)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        """Disconnect without a wait, and say which points are where."""
        self._is_closed = True
        self._end_open_scans(EndReason.USER_ABORT, "interrupted from the keyboard")
        self._monitor.leave_at_once()
        wait_for_end(self._monitor, _LEAVE_S)
        if self._monitor.is_alive():  # Redis does not answer.
            self._report_left(self._monitor.unreleased)
            self._inbox.shut(_CLOSED)

    def _close_at_exit(self) -> None:
        """Start to close; the monitor calls this when the program ends without it."""
        self._is_closed = True
        text = "the program ended inside the scan's block"
        self._end_open_scans(EndReason.FAILURE, text)
        self._monitor.close_within(self._close_timeout_s)

    def _end_open_scans(self, end_reason: EndReason, text: str) -> None:
        """End the scans whose block was not left, or was left by an interrupt."""
        for key, scan in tuple(self._scans.items()):
            if scan.is_entered:
                try:
                    scan.finish(end_reason, text)
                except ScanStateError:
                    # Its threads have failed, and have reported what was left.
                    if not self._inbox.is_shut:
                        raise
            self._scans.pop(key, None)

    def _end_threads(self, left: list[ScanQueue]) -> None:
        """Stop all threads; the monitor calls this last.

        Parameters
        ----------
        left : list of ScanQueue
            Scans without a verdict.
        """
        is_hurried = self._monitor.is_hurried
        for queue in left:
            if queue.backlog is not None:
                queue.backlog.finish(_LEAVE_S / 2 if is_hurried else _THREAD_END_S)
        self._report_left(left)
        self._stop_threads(left)

    def _stop_threads(self, left: list[ScanQueue]) -> None:
        self._link.stop.set()
        for queue in left:
            queue.watch.release(None)
        for sender in self._registrar.senders:
            sender.join(0 if self._monitor.is_hurried else _THREAD_END_S)
        self._threads.pool.shutdown(wait=True, cancel_futures=True)
        self._inbox.shut(self._monitor.failure or _CLOSED)
        self._registrar.close()

    def _report_left(self, left: list[ScanQueue]) -> None:
        if self._was_left_reported:
            return
        self._was_left_reported = True
        for queue in left:
            sent, never_sent, never_spooled = queue.watch.undelivered_bytes()
            in_redis, in_spool, nowhere = queue.watch.undelivered_points()
            log.warning(
                LogEvent.CLOSED_WITHOUT_VERDICT,
                scan=queue.uid,
                number=queue.announced.scan.scan_number,
                sent_bytes=sent,
                never_sent_bytes=never_sent,
                never_spooled_bytes=never_spooled,
                points_only_in_redis=in_redis,
                points_only_in_spool=in_spool,
                points_nowhere=nowhere,
                spool=None if queue.spool is None else str(queue.spool.folder),
                reason=queue.why_waiting,
            )
