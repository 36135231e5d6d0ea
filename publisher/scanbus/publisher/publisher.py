"""The publisher: one per program, lives longer than its scans.

It owns the connections and threads, reserves quotas, and keeps what is not durable
until the writer has it, also after a scan's block has ended.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.store import DEFAULT_URL
from scanbus.publisher.declare.channels import positioners_of, tree_of
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.scan import Scan
from scanbus.publisher.transport.link import Link
from scanbus.publisher.transport.monitor import ScanMonitor
from scanbus.publisher.transport.registrar import ScanRegistrar
from scanbus.schemas import EndReason, PlotDescription, Verdict
from scanbus.schemas.errors import ScanStateError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["Publisher"]

log = get_logger()

# Redis's own deadline is 10 s: no sender that was told to stop needs longer.
_THREAD_END_S = 15.0


class Publisher:
    """A program's way to the bus; a context manager, safe to share between threads.

    Parameters
    ----------
    url : str
        ``redis://host:port/db``, ``rediss://…`` or ``unix:///path``.
    name : str, optional
        Name of the program; by default that of its script.
    memory_bytes : int, optional
        Taken as Redis's size where it has no maxmemory; by default 4 GiB.
    close_timeout_s : float
        How long closing waits for final verdicts.
    send_deadline_s : float
        How long a send waits for room.
    reorder_window : int
        How many points ahead of the next one of its lane a numbered point may come.
    reorder_s : float
        How long it waits for those before it until they are given up.
    encode_threads : int
        Threads that pack frames. They run side by side for codecs that release
        Python's lock, which is all but blosc2; for that one they merely keep the
        packing off the caller's path.
    spool : path, optional
        Folder on a local disk. Everything is written there before it is sent and stays
        until it is durable, so that a scan survives the death of this process and of
        Redis together; scans that a dead publisher left there are resumed at once.
        ``send`` returns before it is written: a kill loses what was not packed yet,
        some milliseconds, and frames of a chunk that is not full, 0.2 s at most.
        ``scan.flush()`` waits until all that was sent stands there.
    memory_bytes_kept : int
        With a spool: bytes of a scan that stay in memory, at least two chunks of each
        detector. The quota then bounds only what stands on the bus, and the disk what
        is kept.
    spool_sync_s : float
        How often the spool is brought to the disk (fdatasync): what a crash of this
        machine may cost. The death of this process alone costs nothing of it.

    Raises
    ------
    BusUnavailableError
        If Redis does not answer.
    BusUnsuitableError
        If it is older than 6.2.

    Examples
    --------
    >>> with Publisher("redis://localhost") as publisher:  # doctest: +SKIP
    ...     with publisher.scan(title="ascan th 0 1 10 0.1") as scan:
    ...         scan.channel("th", units="deg", role="axis")
    ...         scan.send("th", 0.5)
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
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
    ) -> None:
        self._name = name or Path(sys.argv[0]).stem or "python"
        self._close_timeout_s = close_timeout_s
        self._scans: list[Scan] = []
        self._lock = threading.Lock()
        self._is_closed = False
        heartbeat = f"{self._name} on {socket.gethostname()}, pid {os.getpid()}"
        client_name = "scanbus-" + re.sub(r"[^0-9A-Za-z-]", "-", self._name)[:48]
        link = Link(url, client_name, 0, threading.Event())
        self._link = link
        self._threads = ThreadPool(encode_threads, "scanbus-encoder")
        self._monitor = ScanMonitor(
            link, heartbeat, on_exit=self._close_at_exit, on_end=self._end_threads
        )
        self._registrar = ScanRegistrar(
            link,
            self._monitor,
            self._threads,
            heartbeat=heartbeat,
            memory_bytes=memory_bytes,
            limits=SendLimits(
                send_deadline_s=send_deadline_s,
                reorder_window=reorder_window,
                reorder_s=reorder_s,
                memory_bytes_kept=memory_bytes_kept,
                spool_sync_s=spool_sync_s,
            ),
            spool=None if spool is None else Path(spool),
        )
        self._registrar.check_server()
        self._resumed = self._registrar.resume()
        self._monitor.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

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
        uid: str | None = None,
    ) -> Scan:
        """Return a scan, to be used in a ``with`` block.

        Parameters
        ----------
        title : str
            What it does, as the user typed it.
        proposal, beamline, session, collection, dataset : str
            Where it belongs; the session is today (YYYYMMDD) by default.
        scan_number : int, optional
            Unique in the dataset; by default the next one that Redis counts.
        instrument : str
            Name of the instrument.
        metadata : mapping
            A tree that is laid over the NXentry; numbers, texts, lists, arrays.
        positioners : mapping
            Where motors stand: numbers, ``(units, value)`` or Positioner.
        quota_bytes : int, optional
            What may stand on the bus without being in a file; by default 1 GiB or
            half of what there is.
        compression : float
            Raw over packed bytes expected of the frames: larger segments fit the
            same quota. Where it is wrong by much, sending comes to a halt.
        require_writer : bool
            Refuse to start when no writer is alive.
        plots : sequence of PlotDescription, optional
            Default plots; by default counters over the first axis.
        uid : str, optional
            8 to 40 letters and digits, unique for ever.

        Raises
        ------
        ValueError
            If something does not fit; more is found when the block is entered.
        """
        if self._is_closed:
            raise ScanStateError("the publisher is closed")
        if compression < 1:
            raise ValueError(f"compression must be at least 1, got {compression}")
        identity = {
            "uid": uid or uuid.uuid4().hex,
            "proposal": proposal,
            "beamline": beamline,
            "session": session or _today(),
            "collection": collection,
            "dataset": dataset,
            "scan_number": scan_number,
        }
        options = ScanOptions(
            title=title,
            identity=identity,
            instrument=instrument,
            program=self._name,
            metadata=tree_of(metadata),
            positioners=positioners_of(positioners),
            plots=plots,
            quota_bytes=quota_bytes,
            compression=compression,
            require_writer=require_writer,
        )
        scan = Scan(self._registrar, options)
        with self._lock:
            self._scans = [each for each in self._scans if not each.is_over] + [scan]
        return scan

    @property
    def resumed(self) -> dict[str, Verdict | None]:
        """The scans that were resumed from the spool, and their final verdicts."""
        return {queue.uid: queue.verdict for queue in self._resumed}

    def why_not_judged(self, uid: str) -> str:
        """Why a scan that was resumed has no verdict; empty if nobody knows yet."""
        found = (each.error for each in self._resumed if each.uid == uid)
        return str(next(found, None) or "")

    def close(self) -> None:
        """Wait for the final verdicts, at most `close_timeout_s`, then let go.

        What has no verdict by then is named in a warning: Redis alone holds it, or
        the spool does.
        """
        self._end_open_scans("the publisher was closed inside the scan's block")
        unreleased = self._monitor.unreleased
        if unreleased and not self._is_closed:
            log.info(
                LogEvent.WAITING_FOR_VERDICTS,
                scans=[queue.uid for queue in unreleased],
                at_most_s=self._close_timeout_s,
                writers=self._monitor.n_writers,
            )
        self._is_closed = True
        self._monitor.close_within(self._close_timeout_s)
        try:
            self._monitor.join(self._close_timeout_s + 2 * _THREAD_END_S)
        except BaseException:
            # Somebody pressed Ctrl-C: they do not want to wait, but be told.
            self._monitor.close_within(0)
            self._monitor.join(2 * _THREAD_END_S)
            raise

    def _close_at_exit(self) -> None:
        """Do as `close` would: the program ends, and the monitor calls."""
        self._is_closed = True
        self._end_open_scans("the program ended inside the scan's block")
        self._monitor.close_within(self._close_timeout_s)

    def _end_open_scans(self, text: str) -> None:
        with self._lock:
            scans, self._scans = self._scans, []
        for scan in scans:
            if scan.is_open:
                scan.finish(EndReason.FAILURE, text)

    def _end_threads(self, left: list[ScanQueue]) -> None:
        """Stop everything; the monitor's last deed."""
        for queue in left:
            if queue.backlog is not None:
                queue.backlog.finish(_THREAD_END_S)
            sent, never_sent, never_spooled = queue.watch.undelivered_bytes()
            log.warning(
                LogEvent.CLOSED_WITHOUT_VERDICT,
                scan=queue.uid,
                number=queue.announced.scan.scan_number,
                sent_bytes=sent,
                never_sent_bytes=never_sent,
                never_spooled_bytes=never_spooled,
                spool=None if queue.spool is None else str(queue.spool.folder),
                reason=queue.why_waiting,
            )
        self._link.stop.set()
        for queue in left:
            queue.watch.release(None)
        for sender in self._registrar.senders:
            sender.join(_THREAD_END_S)
        self._threads.pool.shutdown(wait=True, cancel_futures=True)
        self._registrar.close()


def _today() -> str:
    return datetime.now(UTC).astimezone().strftime("%Y%m%d")
