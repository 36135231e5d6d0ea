"""One scan, as a program sees it: declare channels, send, leave the block.

Only opening and preparing wait for the network; the rest goes to the queue.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from time import time as wall_clock
from types import TracebackType
from typing import Any, Self

from scanbus.publisher.buffers.group_buffer import Series
from scanbus.publisher.declare.channels import (
    checked,
    declare_channel,
    declare_detector,
    positioners_of,
    tree_of,
)
from scanbus.publisher.declare.lane_plan import Declared
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.ingest.dispatch import Dispatch
from scanbus.publisher.ingest.finish import end_scan
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.waiting import wait_durable, wait_flushed, wait_for_verdict
from scanbus.publisher.transport.registrar import ScanRegistrar
from scanbus.schemas import (
    EndReason,
    NexusHints,
    Positioner,
    Role,
    ScanIdentity,
    ScanStarted,
    ScanUpdated,
    Verdict,
)
from scanbus.schemas.errors import ScanStateError, UnknownChannelError

__all__ = ["Scan"]


class Scan:
    """One scan; a context manager, opened by ``Publisher.scan``.

    Channels are declared first; the first send fixes them. Different channels may be
    sent from different threads.

    Parameters
    ----------
    registrar : ScanRegistrar
        The publisher.
    options : ScanOptions
        What the program said.
    """

    def __init__(self, registrar: ScanRegistrar, options: ScanOptions) -> None:
        self._registrar = registrar
        self._options = options
        self._declared: dict[str, Declared] = {}
        self._opened: ScanQueue | None = None
        self._preparing = threading.Lock()
        self._dispatch: Dispatch | None = None
        self._fast: Mapping[str, Series] = {}
        self._early: list[ScanUpdated] = []
        self._end_positioners: dict[str, Positioner] = {}
        self._end: tuple[EndReason, str] | None = None

    # ------------------------------------------------------------- the block

    def __enter__(self) -> Self:
        """Announce the scan."""
        if self._opened is not None:
            raise ScanStateError(f"scan {self.uid} was opened before; make a new one")
        self._opened = self._registrar.open(self._options)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the scan: SUCCESS, or why not."""
        if error is None:
            self.finish(EndReason.SUCCESS)
        elif isinstance(error, KeyboardInterrupt):
            self.finish(EndReason.USER_ABORT, "interrupted from the keyboard")
        else:
            self.finish(EndReason.FAILURE, f"{type(error).__name__}: {error}")
        if error is None and self._delivery.error is not None:
            raise self._delivery.error

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self._delivery.uid

    @property
    def is_open(self) -> bool:
        """Whether its block was entered and has not ended."""
        return self._opened is not None and not self._opened.is_over

    @property
    def is_over(self) -> bool:
        """Whether its block has ended."""
        return self._opened is not None and self._opened.is_over

    @property
    def identity(self) -> ScanIdentity:
        """Which scan this is."""
        return self._delivery.announced.scan

    @property
    def _delivery(self) -> ScanQueue:
        if self._opened is None:
            raise ScanStateError("the scan is not open: use it in a `with` block")
        return self._opened

    # ---------------------------------------------------------- declarations

    def channel(
        self,
        name: str,
        *,
        units: str = "",
        role: Role | str = Role.COUNTER,
        dtype: Any = "float64",
        shape: tuple[int, ...] = (),
        group: str | None = None,
        device: str | None = None,
        points: int | None = None,
        codec: str = "none",
        max_point_bytes: int | None = None,
        fill_value: float | None = None,
        display_name: str = "",
        nexus: NexusHints | Mapping[str, Any] | None = None,
    ) -> None:
        """Declare a channel of small values: a counter, an axis, a spectrum, a text.

        Parameters
        ----------
        name : str
            Unique in the scan.
        units : str
            As NeXus wants it.
        role : {"axis", "counter", "timer", "spectrum"}
            What it is for.
        dtype : str or numpy.dtype
            numpy's name of the type, or ``"string"``.
        shape : tuple of int
            Of one point; ``(-1,)`` if the length differs from point to point.
        group : str, optional
            Channels of one group advance together and share entries; by default a
            channel is a group of its own.
        device : str, optional
            What produces it, by default `name`.
        points : int, optional
            Points expected.
        codec : str
            How blocks are packed.
        max_point_bytes : int, optional
            Bound of one point; needed for strings and ragged channels.
        fill_value : int or float, optional
            What stands in the file for a missing point.

        Raises
        ------
        ScanStateError
            After the first send.
        ValueError
            If the description does not hold together.
        """
        self._declare(
            declare_channel(
                name,
                units=units,
                role=role,
                dtype=dtype,
                shape=shape,
                group=group,
                device=device,
                points=points,
                codec=codec,
                max_point_bytes=max_point_bytes,
                fill_value=fill_value,
                display_name=display_name,
                nexus=nexus,
            )
        )

    def detector(
        self,
        name: str,
        *,
        shape: tuple[int, ...],
        dtype: Any,
        codec: str = "bitshuffle-lz4",
        points: int | None = None,
        points_per_chunk: int | None = None,
        device: str | None = None,
        units: str = "",
        fill_value: float | None = None,
        display_name: str = "",
        nexus: NexusHints | Mapping[str, Any] | None = None,
    ) -> None:
        """Declare a detector: a lane and data files of its own.

        Parameters
        ----------
        shape : tuple of int
            Of one frame, ``(i, j)``.
        points_per_chunk : int, optional
            Frames of one HDF5 chunk; by default one, or about 1 MiB of small frames.

        Other parameters are those of `channel`.

        Raises
        ------
        ScanStateError
            After the first send.
        ValueError
            If the description does not hold together.
        """
        self._declare(
            declare_detector(
                name,
                shape=shape,
                dtype=dtype,
                codec=codec,
                points=points,
                points_per_chunk=points_per_chunk,
                device=device,
                units=units,
                fill_value=fill_value,
                display_name=display_name,
                nexus=nexus,
            )
        )

    def _declare(self, declared: Declared) -> None:
        name = declared.channel.name
        if self._dispatch is not None or self._delivery.is_over:
            raise ScanStateError(
                f"scan {self.uid}: {name} is declared after the first send; channels "
                "are fixed then"
            )
        if name in self._declared:
            raise ValueError(f"{name}: declared twice")
        self._declared[name] = declared

    def prepare(self) -> None:
        """Fix the channels and say that the scan starts; the first send does it too.

        Raises
        ------
        QuotaRefusedError
            If the scan's quota does not fit, or not into the quota.
        BusUnavailableError
            If Redis does not answer for too long.
        """
        self._prepared()

    def _prepared(self) -> Dispatch:
        with self._preparing:
            if self._dispatch is not None:
                return self._dispatch
            queue, options = self._delivery, self._options
            prepared = options.prepared(
                self.identity,
                tuple(self._declared.values()),
                self._registrar.quota_bytes(options.quota_bytes),
            )
            queue.events = [prepared, ScanStarted(time=wall_clock()), *self._early]
            self._registrar.prepare(queue, prepared)
            queue.n_events_sent = 2
            compression = options.compression
            queue.prepare(prepared.lanes, prepared.quota_bytes, compression)
            self._dispatch = Dispatch(queue)
            self._fast = self._dispatch.fast
            self._registrar.start(queue)
            return self._dispatch

    # ---------------------------------------------------------------- sending

    def send(
        self,
        name: str,
        values: Any = None,
        *,
        packed: Any = None,
        time: float | Sequence[float] | None = None,
        point: int | None = None,
        copy: bool = True,
    ) -> None:
        """Send one point or many of one channel.

        Parameters
        ----------
        name : str
            The channel.
        values : array_like
            One point, or ``(n, *shape)``; texts or one-dimensional arrays, or a list
            of them, for variable channels.
        packed : bytes or sequence of bytes
            Frames that are packed already: exactly what the channel's codec stores
            for a chunk of one frame.
        time : float or sequence of float, optional
            When they were taken, seconds since 1970: of all, or of first and last.
        point : int, optional
            Number of the first of them, from 0, for detectors whose frames come out of
            order: a detector, or a channel without group. What is ahead is held for a
            while (``reorder_window``, ``reorder_s``); what is missing then becomes a
            gap, and comes into a lane of late points should it still come. Without
            it, points follow the last one that came.
        copy : bool
            Whether the program may use an array of frames again at once: it is copied,
            or, if it is large and packed by bitshuffle, packed before this returns.
            With False it must never change it again, and this returns sooner. Frames
            are taken as they are only where a chunk is one frame, and the array is
            C-contiguous and of the declared type; all others are copied.

        Raises
        ------
        ValueError
            If shape or type do not fit, or a point was sent before; nothing of it was
            taken then.
        DeadlineError
            If there was no room for too long; what was sent before is safe.
        LaneConflictError
            If somebody else publishes this scan.
        """
        # Counters come by single numbers, very often: nothing else is done for those.
        if type(values) is float and time is None and packed is None and point is None:
            series = self._fast.get(name)
            if series is not None:
                scalars = series.scalars
                scalars.append(values)
                if series.is_awaited or not len(scalars) & 1023:
                    assert self._dispatch is not None
                    self._dispatch.advance(name)
                return
        self._dispatch_for(name).send(name, values, packed, time, point, copy)

    def _dispatch_for(self, name: str) -> Dispatch:
        if self._dispatch is not None:
            return self._dispatch
        if name not in self._declared:
            raise UnknownChannelError(name, tuple(self._declared))
        return self._prepared()

    def skip(self, name: str, count: int = 1) -> None:
        """Say that the next points of a channel will never come.

        They stand as gaps on the bus and as fill values in the file. Where points are
        numbered, the next ones are those behind the last one that came.
        """
        if count < 0:
            raise ValueError(f"{name}: cannot skip {count} points")
        self._dispatch_for(name).skip(name, count)

    # ---------------------------------------------------------------- the rest

    def update(
        self, metadata: Mapping[str, Any] | None = None, *, note: str = ""
    ) -> None:
        """Add metadata, laid over what was said before, or a note."""
        if self._delivery.is_over:
            raise ScanStateError(f"scan {self.uid} is over: nothing can be added")
        event = checked(
            ScanUpdated, time=wall_clock(), metadata=tree_of(metadata), note=note
        )
        with self._preparing:
            if self._dispatch is not None:
                self._delivery.add_event(event)
            else:
                self._early.append(event)

    def end_positioners(self, positioners: Mapping[str, Any]) -> None:
        """Say where motors stand at the end; a number, or a pair of units and value."""
        self._end_positioners |= positioners_of(positioners)

    def abort(self, text: str = "") -> None:
        """Have the scan end as aborted by the user, whatever else happens."""
        self._end = (EndReason.USER_ABORT, text)

    def wait_durable(self, timeout_s: float) -> None:
        """Wait until everything sent so far is in the writer's files.

        The writer closes files segment by segment: inside the block this can take as
        long as the segment.

        Raises
        ------
        DeadlineError
            If it is not so in time.
        """
        wait_durable(self._delivery, timeout_s)

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait until everything sent so far is on the bus; with a spool, on the disk.

        Sending returns before frames are packed and values gathered, a few
        milliseconds of work that the death of this process takes along; what was
        flushed to a spool survives it. Points of a group that not all its channels
        have, and those ahead of their order, are not ready to be sent.

        Raises
        ------
        DeadlineError
            If it is not so in time.
        """
        wait_flushed(self._delivery, timeout_s)

    def verdict(self, timeout_s: float = 60.0) -> Verdict:
        """Return the writer's final verdict.

        Raises
        ------
        DeadlineError
            If there is none in time.
        ScanStateError
            If the publisher stopped waiting for it.
        """
        return wait_for_verdict(self._delivery, timeout_s)

    # ----------------------------------------------------------------- the end

    def finish(self, end_reason: EndReason, text: str = "") -> None:
        """End the scan; what was sent goes out behind the caller's back."""
        queue = self._delivery
        if queue.is_over:
            return
        error = queue.error
        if error is not None and end_reason is EndReason.SUCCESS:
            end_reason = EndReason.FAILURE
            text = f"{type(error).__name__}: {error}"
        end_reason, text = self._end or (end_reason, text)
        problem = None if self._dispatch is not None else self._prepare_at_last()
        if problem is not None and end_reason is EndReason.SUCCESS:
            end_reason = EndReason.FAILURE
            text = f"{type(problem).__name__}: {problem}"
        end_scan(queue, end_reason, text, self._end_positioners)
        if problem is not None:
            self._registrar.start(queue)

    def _prepare_at_last(self) -> Exception | None:
        """Prepare a scan that sent nothing; return why that failed, if it did."""
        try:
            self.prepare()
        except Exception as error:  # noqa: BLE001 - the end must be said all the same
            self._delivery.fail(error)
            self._delivery.events = []
            return error
        return None
