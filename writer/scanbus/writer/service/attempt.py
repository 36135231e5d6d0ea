"""One attempt to write a scan, in a worker: its authority, its errors, its outcome.

Leases, cursors and verdicts belong to the service: the attempt asks it for every change
of them. Any error ends the attempt and becomes a sentence in its outcome.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import Bus, connect, ends_of_streams, read_events, translated
from scanbus.schemas import Verdict, errors
from scanbus.schemas.errors import (
    BusUnavailableError,
    LeaseLostError,
    NameTakenError,
    NoNumberLeftError,
    ScanbusError,
)
from scanbus.schemas.file_names import scan_folder_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.scan.commit_queue import Stopped
from scanbus.writer.scan.disk_space import is_full, storage_sentence
from scanbus.writer.scan.entry_sandbox import Sandbox
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.scan_number import Renumbered
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.service.worker_channel import AttemptOrder, Channel, Outcome
from scanbus.writer.settings import WriterSettings
from scanbus.writer.steps import Steps, step, waiting
from scanbus.writer.storage.error_numbers import errno_of

__all__ = ["Attempt", "ServiceAuthority", "ServiceCalls"]

log = get_logger()
# The service waits for Redis at most 15 s per call, and answers one after the other.
_REPLY_TIMEOUT_S = 60.0
# So many numbers may be taken in a row: several scans settle theirs at one time.
_MOST_NUMBERS = 8


class ServiceCalls:
    """Calls of the service that wait for its reply; safe to share between threads.

    Parameters
    ----------
    channel : Channel
        The worker's end.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[tuple[str, list[Any]]]] = {}

    def call(self, attempt: int, name: str, *values: Any) -> None:
        """Call the service, and wait until it has done what was asked.

        Raises
        ------
        ScanbusError
            The error that the service had.
        TimeoutError
            If it does not answer.
        """
        number = next(self._numbers)
        reply: Future[tuple[str, list[Any]]] = Future()
        self._waiting[number] = reply
        try:
            with waiting():
                self.channel.send("call", attempt, number, name, *values)
                error, fields = reply.result(timeout=_REPLY_TIMEOUT_S)
        except TimeoutError as late:
            what = f"the service did not answer {name} in {_REPLY_TIMEOUT_S:.0f} s"
            raise TimeoutError(what) from late
        finally:
            del self._waiting[number]
        if error:
            kind = getattr(errors, error, RuntimeError)
            raise kind(*fields)

    def answer(self, number: int, error: str, fields: list[Any]) -> None:
        """Pass a reply to the thread that waits for it."""
        reply = self._waiting.get(number)
        if reply is not None:
            reply.set_result((error, fields))


class ServiceAuthority:
    """Authority of an attempt whose lease is held by the service.

    Parameters
    ----------
    calls : ServiceCalls
        The worker's.
    order : AttemptOrder
        The attempt.
    """

    is_replay = False

    def __init__(self, calls: ServiceCalls, order: AttemptOrder) -> None:
        self._calls = calls
        self._attempt = order.number
        self.fence = order.fence
        self.owner = order.identity.uid

    def check(self) -> None:
        """Have the lease renewed; raise LeaseLostError if it is lost."""
        with step("renew"):
            self._calls.call(self._attempt, "check")

    def keep(self) -> None:
        """Have it renewed if the service did not; LeaseLostError if it is lost."""
        with step("renew"):
            self._calls.call(self._attempt, "keep")

    def acknowledge(self, points: Mapping[str, int]) -> None:
        """Tell the service that all points of lanes before these are durable.

        It does not wait: the service acknowledges them together with others, and before
        it answers any later call.
        """
        with step("acknowledge"):
            self._calls.channel.send("acknowledge", self._attempt, dict(points))

    def show(self, points: Mapping[str, int]) -> None:
        """Tell the service which points a master shows; it does not wait either."""
        with step("acknowledge"):
            self._calls.channel.send("show", self._attempt, dict(points))

    def announce(self, verdict: Verdict) -> None:
        """Publish the verdict; raise LeaseLostError if the lease is lost."""
        with step("verdict"):
            said = verdict.model_dump_json()
            self._calls.call(self._attempt, "announce", said)

    def shrink(self, lanes: Iterable[str]) -> None:
        """Release the unused part of the quota of a scan without a publisher."""
        self._calls.call(self._attempt, "shrink", list(lanes))

    def renumber(self, dataset: str, last: int, number: int, text: str) -> None:
        """Give the scan another number; raise LeaseLostError if the lease is lost."""
        with step("renumber"):
            self._calls.call(self._attempt, "renumber", dataset, last, number, text)


class Attempt:
    """One attempt; it runs in a thread of its own.

    Parameters
    ----------
    order : AttemptOrder
        What the service wants.
    settings : WriterSettings
        The service's.
    authority : ServiceAuthority
        Authority of this attempt.
    is_stopped : callable
        Called often; the attempt ends when it returns True.
    on_points : callable
        Called with ``(channel, points stored, points expected or None)``.
    make_writer : callable
        Creates the scan writer.
    """

    def __init__(
        self,
        order: AttemptOrder,
        settings: WriterSettings,
        authority: ServiceAuthority,
        *,
        is_stopped: Callable[[], bool],
        on_points: Callable[[str, int, int | None], None],
        make_writer: type[ScanWriter],
    ) -> None:
        self._order = order
        self._settings = settings
        self._authority = authority
        self._is_stopped = is_stopped
        self._on_points = on_points
        self._make_writer = make_writer
        self._record = ScanRecord(order.identity, order.title)
        self._writer: ScanWriter | None = None
        self._steps = Steps(settings.slow_s)

    @property
    def stalled(self) -> str:
        """Sentence about a step that hangs; empty if none does."""
        return self._steps.stalled()

    def need_master(self) -> None:
        """Have the master of the running scan written soon; any thread may call."""
        if self._writer is not None:
            self._writer.need_master()

    def run(self) -> Outcome:
        """Write the scan; return how that ended. Errors are part of the outcome."""
        # By name: the folder of a hostile scan may be refused.
        folder = Path(scan_folder_name(self._record.identity.scan_number))
        with self._steps.working(folder):
            try:
                return self._outcome(verdict=self._write())
            except Stopped:
                return self._outcome()
            except Renumbered:
                return self._outcome(problem=_no_number(self._record))
            except Exception as error:  # noqa: BLE001 - it is the outcome
                return self._outcome_of(error)

    def _outcome_of(self, error: Exception) -> Outcome:
        if isinstance(error, LeaseLostError | BusUnavailableError):
            return self._outcome(problem=str(error))
        # HDF5 gives the number of some errors of the system only in the text.
        is_scanbus = isinstance(error, ScanbusError)
        is_system = isinstance(error, OSError) or errno_of(error) is not None
        if is_full(error) or (is_system and not is_scanbus):
            return self._storage_outcome(error)
        if is_scanbus:
            needs = isinstance(error, NameTakenError | NoNumberLeftError)
            return self._outcome(problem=f"paused: {error}", needs_operator=needs)
        said = f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return self._outcome(problem=said, trace=trace)

    def _outcome(self, **given: Any) -> Outcome:
        writer = self._writer
        needed = writer.bytes_needed if writer else 0
        return Outcome(
            # An attempt that failed early has no estimate: keep that of the one before.
            needed_bytes=needed or self._order.needed_bytes,
            last_event=self._record.last_id,
            met_publisher=writer is not None and writer.silence.was_alive,
            **given,
        )

    def _storage_outcome(self, error: BaseException) -> Outcome:
        with self._steps.phase("space", self._settings.root):
            needed = self._outcome().needed_bytes
            sentence = storage_sentence(error, self._settings.root, needed)
            return self._outcome(problem=sentence)

    def _write(self) -> Verdict:
        settings = self._settings
        client = connect(settings.redis, name="scanbus-scan")
        with translated(settings.redis), client, ExitStack() as stack:
            with waiting():
                read_events(client, self._record)
            judged = self._record.final_verdict
            if judged is not None:
                return judged  # Given by another writer, just before this lease.
            sandbox = None
            if self._order.examines:
                log.warning(LogEvent.EXAMINING_ENTRIES, scan=self._record.uid)
                sandbox = Sandbox(last_ids=_last_ids(client, self._record))
                stack.callback(sandbox.close)
            for _ in range(_MOST_NUMBERS - 1):
                with suppress(Renumbered):
                    return self._write_with(client, sandbox)
            return self._write_with(client, sandbox)

    def _write_with(self, client: Bus, sandbox: Sandbox | None) -> Verdict:
        """Write the scan under its number; raise Renumbered if it has another now."""
        settings = self._settings
        read_events(client, self._record)
        with self._steps.phase("look", settings.root):
            self._writer = self._make_writer(
                client,
                self._record,
                settings.root,
                self._authority,
                pace=_pace(settings),
                is_stopped=self._is_stopped,
                on_points=self._on_points,
                sandbox=sandbox,
                steps=self._steps,
            )
        return self._writer.run()


def _no_number(record: ScanRecord) -> str:
    scan = record.identity
    return (
        f"paused: {_MOST_NUMBERS} scan numbers in a row were taken, lastly "
        f"{scan.scan_number} of {scan.dataset_folder}; the next attempt takes others. "
        "Look for a program that makes scan folders there"
    )


def _last_ids(client: Bus, record: ScanRecord) -> dict[str, bytes]:
    """Return the id of the last entry of each lane that is on the bus."""
    names = [lane.name for lane in record.lanes]
    with waiting():
        ends = ends_of_streams(client, record.uid, names)
    return {
        name: found[1] if found else b""
        for name, found in zip(names, ends, strict=True)
    }


def _pace(settings: WriterSettings) -> Pace:
    return Pace(
        reference_wait_s=settings.reference_wait_s,
        flush_s=settings.flush_s,
        least_free_bytes=settings.least_free_bytes,
        low_water_bytes=settings.low_water_bytes,
        poll_s=settings.poll_s,
        master_s=settings.master_s,
        copied_bytes=settings.copied_bytes,
        check_s=settings.lease_s / 4,
        grace_s=settings.grace_s,
        manifest=settings.manifest,
        wanted_sources=settings.wanted_sources,
        read_bytes=settings.read_bytes,
        choice=LayoutChoice(settings.layouts, settings.template_texts, settings.users),
    )
