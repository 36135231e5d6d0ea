"""Open, prepare and end one scan, so that an interrupt leaves it in no half state.

A step that an exception of a signal handler cut short is done by the next call, or left
to the senders: a scan that may stand on the bus always ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import time as wall_clock
from typing import Any

from scanbus.publisher.declare.channel_names import renamed_notes
from scanbus.publisher.declare.json_text import text_of
from scanbus.publisher.declare.lane_plan import Declared
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.ingest.finish import end_scan, reason_of
from scanbus.publisher.ingest.send import ScanIntake
from scanbus.publisher.queue.locks import Backstop, refuse_reentry
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.recovery.lost_data import LostPoints, lost_data
from scanbus.publisher.transport.scan_registrar import ScanRegistrar
from scanbus.schemas import EndReason, LostData, Positioner, ScanUpdated

__all__ = ["ScanBlock"]


class ScanBlock:
    """The block of one scan: announced, prepared, ended.

    Parameters
    ----------
    registrar : ScanRegistrar
        Opens and prepares the scans of the publisher.
    options : ScanOptions
        Arguments of ``Publisher.scan``.
    declared : callable
        Returns what was declared; no more can be declared then.

    Attributes
    ----------
    queue : ScanQueue or None
        None before the scan is announced.
    intake : ScanIntake or None
        None before the scan is prepared.
    """

    def __init__(
        self,
        registrar: ScanRegistrar,
        options: ScanOptions,
        declared: Callable[[], Sequence[Declared]],
    ) -> None:
        self._registrar = registrar
        self._options = options
        self._declared = declared
        self._preparing = threading.RLock()
        self._early: list[ScanUpdated] = []
        self._is_cut = False  # Opening or preparing it was interrupted.
        self.queue: ScanQueue | None = None
        self.intake: ScanIntake | None = None

    def open(self) -> None:
        """Announce the scan, or reopen it.

        Interrupted, it never existed, or it ends so.
        """
        registrar = self._registrar
        begin = registrar.reopen if self._options.is_reopened else registrar.open
        try:
            begin(self._options, self._note_opened)
            if self.queue is not None and self.queue.is_begun:
                registrar.start(self.queue)  # What Redis lacks is sent at once.
        except Exception:
            self.queue = None
            raise
        except BaseException as interrupt:
            self._is_cut = True
            if self.queue is not None:
                self.end(*reason_of(interrupt), {})
            raise

    def _note_opened(self, queue: ScanQueue) -> None:
        """Note the queue before it is announced: whoever comes next may end it."""
        self.queue = queue

    def prepare(self) -> ScanIntake:
        """Prepare the scan, or do what an interrupted call has not done."""
        refuse_reentry(self._preparing)
        with Backstop(self._preparing), self._preparing:
            return self.intake or self._prepare()

    def _prepare(self) -> ScanIntake:
        queue = self.queue
        assert queue is not None
        queue.check_open()
        if not queue.is_begun:
            try:
                declared = self._options.chunked(self._declared())
                said = [*renamed_notes(declared), *self._options.plot_notes(declared)]
                notes = [ScanUpdated(time=wall_clock(), note=note) for note in said]
                early = [*notes, *self._early]
                self._registrar.prepare(queue, self._options, declared, early)
            except Exception:
                raise
            except BaseException:
                self._is_cut = True
                raise
            self._options.statics.note_queued(queue.lanes)
        self._registrar.start(queue)
        self.intake = ScanIntake(queue)
        return self.intake

    def lengths(self) -> dict[str, int]:
        """Return the number of points of each channel so far; see ``Scan.lengths``."""
        lanes = () if self.queue is None else self.queue.lanes.values()
        return {
            channel.given_name: lane.next_point
            for lane in lanes
            if lane.description.is_declared
            for channel in lane.description.channels
        }

    def update(self, metadata: Mapping[str, Any] | None, note: str) -> None:
        """Add metadata or a note, to be sent after the start; see ``Scan.update``."""
        assert self.queue is not None
        if not (metadata or note):
            return
        with Backstop(self._preparing), self._preparing:
            # Inside: which arrays are sent with the start is decided once.
            event = self._options.updated(metadata, note)
            if not self.queue.is_begun:
                self._early.append(event)
                return
            statics = self._options.statics.unsent([event])
            if statics:
                self.queue.add_event_with(event, statics)
                self._options.statics.note_queued(statics)
            else:
                self.queue.add_event(event)

    def end(
        self,
        reason: EndReason,
        text: str,
        positioners: Mapping[str, Positioner],
        lost: Iterable[LostPoints] = (),
    ) -> None:
        """End the scan without waiting, or do what an interrupted call has not done."""
        queue = self.queue
        assert queue is not None
        for each in lost:
            queue.note_lost(_lost_data(queue, each))
        # Here: the thread that ends the scan could only fail.
        reason, text = EndReason(reason), text_of(text)
        if queue.is_closed and (queue.is_started or queue.watch.is_lost):
            return
        if not queue.is_over:
            reason, text = self._prepared_end(queue, reason, text)
        # Once more if it is over already: the first call may have been interrupted.
        if not queue.is_closed:
            queue.inbox.hand_over_end(
                partial(end_scan, queue, reason, text, dict(positioners))
            )
        if not queue.watch.is_lost:
            self._registrar.start(queue)

    def _prepared_end(
        self, queue: ScanQueue, reason: EndReason, text: str
    ) -> tuple[EndReason, str]:
        """Prepare a scan that sent nothing; return why and how it ends."""
        if queue.error is not None and reason is EndReason.SUCCESS:
            reason, text = reason_of(queue.error)
        if queue.is_begun or queue.watch.is_lost or self._is_cut:
            return reason, text
        try:
            self.prepare()
        except Exception as error:  # noqa: BLE001 - the end must be sent all the same
            queue.fail(error)
            if reason is EndReason.SUCCESS:
                reason, text = reason_of(error)
        return reason, text


def _lost_data(queue: ScanQueue, lost: LostPoints) -> LostData:
    for lane in queue.lanes.values():
        for channel in lane.description.channels:
            if lost.channel in {channel.given_name, channel.name}:
                return lost_data(lane.description, lost.text, lost.first, lost.stop)
    return LostData(text=lost.text)
