"""One scan, as a program uses it: declare channels, send, leave the block.

Only opening and preparing wait for the network; everything else goes to the queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from scanbus.bus.store import OwnProcess
from scanbus.publisher.buffers.group_buffer import Series
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.declare.subscans import Subscans
from scanbus.publisher.declare.times import GivenTimes
from scanbus.publisher.ingest.finish import ScanEnd, reason_of
from scanbus.publisher.ingest.send import ScanIntake
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.waiting import wait_durable, wait_flushed, wait_for_verdict
from scanbus.publisher.recovery.lost_data import LostPoints
from scanbus.publisher.transport.scan_block import ScanBlock
from scanbus.publisher.transport.scan_registrar import ScanRegistrar
from scanbus.schemas import EndReason, ScanIdentity, Verdict
from scanbus.schemas.errors import ScanStateError

__all__ = ["Scan"]


class Scan(Subscans):
    """One scan; a context manager, made by ``Publisher.scan`` or ``Publisher.reopen``.

    The first send fixes the channels. Threads may send different channels in parallel.

    Parameters
    ----------
    registrar : ScanRegistrar
        Opens and prepares the scans of the publisher.
    options : ScanOptions
        Arguments of ``Publisher.scan``.
    process : OwnProcess
        The process of the publisher.
    """

    def __init__(
        self, registrar: ScanRegistrar, options: ScanOptions, process: OwnProcess
    ) -> None:
        super().__init__()
        self._process = process
        self._block = ScanBlock(registrar, options, self._fixed)
        self._intake: ScanIntake | None = None
        self._fast: Mapping[str, Series] = {}
        self._end = ScanEnd()

    def __enter__(self) -> Self:
        """Announce the scan.

        Interrupted, it either never existed, or ends with the reason of the error.
        """
        self._process.check()
        if self._block.queue is not None:
            raise ScanStateError(f"scan {self.uid} was opened before; make a new one")
        self._block.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the scan with SUCCESS, or with the reason of `error`.

        A process that was forked inside the block leaves that to its parent.
        """
        if not self._process.is_here:
            return
        try:
            self.finish(*reason_of(error))
        except BaseException as interrupt:
            self.finish(*reason_of(interrupt))
            raise
        if error is None and self._queue.error is not None:
            raise self._queue.error

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self._queue.uid

    @property
    def is_entered(self) -> bool:
        """Whether its block was entered."""
        return self._block.queue is not None

    @property
    def is_open(self) -> bool:
        """Whether its block was entered and has not ended."""
        return self._block.queue is not None and not self._block.queue.is_over

    @property
    def is_closed(self) -> bool:
        """Whether its end was carried out."""
        return self._block.queue is not None and self._block.queue.is_closed

    @property
    def identity(self) -> ScanIdentity:
        """Uid, folders and number of the scan."""
        return self._queue.announced.scan

    @property
    def lengths(self) -> dict[str, int]:
        """Points of each channel so far; empty before they are fixed."""
        return self._block.lengths()

    @property
    def _queue(self) -> ScanQueue:
        self._process.check()
        if self._block.queue is None:
            raise ScanStateError("the scan is not open: use it in a `with` block")
        return self._block.queue

    def _check_may_declare(self, name: str) -> None:
        if self._queue.is_begun or self._queue.is_over:
            raise ScanStateError(
                f"scan {self.uid}: {name} is declared after the first send; channels "
                "are fixed then"
            )

    def prepare(self) -> None:
        """Fix the channels and start the scan; the first send does it too.

        Raises
        ------
        QuotaRefusedError
            If Redis has no room for the quota, or the quota none for the lanes.
        BusUnavailableError
            If Redis does not answer in time.
        """
        self._prepared()

    def _prepared(self) -> ScanIntake:
        self._queue  # noqa: B018 - raises if the scan is not open
        # In this order: an interrupt between them leaves the long way for numbers.
        self._intake = intake = self._block.prepare()
        self._fast = intake.fast
        return intake

    # ---------------------------------------------------------------- sending

    def send(
        self,
        name: str,
        values: Any = None,
        *,
        packed: Any = None,
        time: GivenTimes = None,
        point: int | None = None,
        copy: bool = True,
    ) -> None:
        """Send one point or many of one channel.

        Parameters
        ----------
        name : str
            The channel.
        values : array_like
            One point, or ``(n, *shape)``; strings or one-dimensional arrays, or a list
            of them, for variable channels.
        packed : bytes or sequence of bytes
            Frames that are compressed already: exactly the bytes that the channel's
            codec stores for a chunk of one frame.
        time : number, datetime, numpy.datetime64, or sequence of them, optional
            When they were taken, as :func:`~scanbus.publisher.declare.times.times_of`
            takes it: one for all, first and last, or one each. By default now.
        point : int, optional
            Number of the first point, from 0, of a detector or a channel without group
            whose points come out of order. Points ahead of a missing one are held
            (``reorder_window``, ``reorder_s``); then that one becomes a gap, and is a
            late point if it still comes. By default points follow the last one.
        copy : bool
            Whether the program may reuse an array of frames at once: it is copied, or,
            if large and of codec bitshuffle, compressed before this returns. With False
            it must never change; it is not copied if it is a chunk of declared type.

        Raises
        ------
        ValueError
            If shape, type or times do not fit, or a point was sent before; nothing was
            taken then.
        UnknownChannelError, ScanStateError
            If the channel was not declared, or the scan is over.
        DeadlineError
            If there was no room in time; what was sent before is safe.
        LaneConflictError
            If another publisher publishes this scan.
        """
        # Counters send single numbers very often: this path does nothing else.
        if type(values) is float and time is None and packed is None and point is None:
            series = self._fast.get(name)
            if series is not None:
                scalars = series.scalars
                scalars.append(values)
                if series.is_awaited or not len(scalars) & 1023:
                    assert self._intake is not None
                    self._intake.process_scalars(name)
                return
        self._intake_for(name).send(name, values, packed, time, point, copy)

    def _intake_for(self, name: str) -> ScanIntake:
        if self._intake is not None:
            return self._intake
        if not self._queue.is_begun:
            self._check_declared(name)
        return self._prepared()

    def skip(self, name: str, count: int = 1) -> None:
        """Declare that the next points of a channel will never come.

        They are gaps on the bus and fill values in the file.
        """
        if count < 0:
            raise ValueError(f"{name}: cannot skip {count} points")
        self._intake_for(name).skip(name, count)

    def update(
        self, metadata: Mapping[str, Any] | None = None, *, note: str = ""
    ) -> None:
        """Add metadata, merged into the earlier ones, or a note.

        What HDF5 cannot hold is stored as text or JSON; None withdraws a value.

        Raises
        ------
        DeclarationError
            If they do not fit a document; they are not added, and the scan goes on.
        ScanStateError
            If the scan is over.
        """
        if self._queue.is_over:
            raise ScanStateError(f"scan {self.uid} is over: nothing can be added")
        self._block.update(metadata, note)

    def end_positioners(self, positioners: Mapping[str, Any]) -> None:
        """Set motor positions at the end: a number, or a pair of units and value."""
        self._end.add_positioners(positioners, self.update)

    def abort(self, text: str = "") -> None:
        """Have the scan end with USER_ABORT, whatever else happens."""
        self._end.abort(text)

    def wait_durable(self, timeout_s: float) -> None:
        """Wait until everything sent so far is in the writer's files.

        The writer closes files by segment: inside the block this can take that long.

        Raises
        ------
        DeadlineError
            If they are not durable in time.
        """
        wait_durable(self._queue, timeout_s)

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait until everything sent so far is on the bus; with a spool, on the disk.

        ``send`` returns some milliseconds earlier; data that were flushed to a spool
        survive the death of this process. Points of a group that not all its channels
        have, and points that wait for those before them, are not ready to be sent.

        Raises
        ------
        DeadlineError
            If they are not flushed in time.
        """
        wait_flushed(self._queue, timeout_s)

    def verdict(self, timeout_s: float = 60.0) -> Verdict:
        """Return the writer's final verdict.

        Raises
        ------
        DeadlineError
            If there is none in time.
        ScanStateError
            If the publisher stopped waiting for it.
        """
        return wait_for_verdict(self._queue, timeout_s)

    def finish(
        self, end_reason: EndReason, text: str = "", *, lost: Iterable[LostPoints] = ()
    ) -> None:
        """End the scan without waiting; threads send what is still queued.

        The verdict names those points of `lost` that no file has.
        """
        self._queue  # noqa: B018 - raises if the scan is not open
        end_reason, text = self._end.said or (end_reason, text)
        self._block.end(end_reason, text, self._end.positioners, lost)
