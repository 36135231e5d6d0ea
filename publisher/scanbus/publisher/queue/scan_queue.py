"""The queue of one scan, between the program's threads and the senders.

The program's threads hand over values and frames, the worker adds them, encoders
compress frames, senders send entries, the monitor reports what is durable. All but the
program's threads share this state under one lock, which each method takes and no thread
holds during a call to Redis. The bytes kept never exceed the scan's quota: a send waits
for room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.buffers.group_buffer import Series
from scanbus.publisher.buffers.reorder_buffer import ReorderBuffer
from scanbus.publisher.declare.static_arrays import PackedArrays
from scanbus.publisher.queue.backpressure import Backpressure, late_counts
from scanbus.publisher.queue.frame_lane import EncoderPool, FrameLaneQueue
from scanbus.publisher.queue.inbox import Inbox, ScanInbox
from scanbus.publisher.queue.lane_factory import (
    LaneRest,
    chunk_bytes,
    late_lane,
    open_lane,
    recovered_lane,
    reopened_lane,
    static_lane,
)
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.locks import Backstop
from scanbus.publisher.queue.reservation import Reservation
from scanbus.publisher.queue.scan_state import ScanState
from scanbus.publisher.queue.scan_watch import ScanWatch
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.queue.send_share import SendShare
from scanbus.publisher.queue.spool_backlog import SpoolBacklog
from scanbus.publisher.spool import ScanSpool
from scanbus.schemas import Event, LaneDescription, LostData, ScanAnnounced, Verdict

__all__ = ["ScanQueue"]


_NO_ARRAYS: Final[PackedArrays] = {}
# What Redis uses, about, for the keys of a scan and of each lane, and their ends.
_SCAN_BYTES = 4096
_LANE_BYTES = 1024


class ScanQueue:
    """The queue of one scan; safe to share between threads.

    Parameters
    ----------
    announced : ScanAnnounced
        The scan.
    session : bytes
        Names this publisher in the headers of entries.
    inbox : Inbox
        Where the program's threads hand over points.
    limits : SendLimits
        Longest waits and most bytes kept.
    threads : ThreadPool
        Compresses frames.
    why_full : callable
        Returns why nothing becomes durable, for messages.
    spool : ScanSpool, optional
        Where everything is written before it is sent.

    Attributes
    ----------
    inbox : ScanInbox
        Where the program's threads hand over points.
    encoders : EncoderPool
        Compresses frames.
    check_open : callable
        Raises the scan's error if it failed, or ScanStateError if it is over.
    is_started : bool
        Whether its threads were started; only the worker uses this.
    watch : ScanWatch
        Interface of the monitor and of restoring the scan.
    """

    def __init__(
        self,
        announced: ScanAnnounced,
        session: bytes,
        *,
        inbox: Inbox,
        limits: SendLimits,
        threads: ThreadPool,
        why_full: Callable[[], str],
        spool: ScanSpool | None = None,
    ) -> None:
        self.announced = announced
        self.session = session
        self.limits = limits
        self.spool = spool
        self._why_full = why_full
        self._is_begun = self.is_started = False
        self._state = state = ScanState(
            self.uid, limits, inbox, is_spooled=spool is not None
        )
        # The state's own: each send calls it.
        self.check_open: Final = self._state.check_open
        self.inbox = ScanInbox(state, inbox)
        self._backpressure = Backpressure(self._state, why_full)
        self.encoders = EncoderPool(
            threads, state.lock, state.room, session, state.fail_with
        )
        self.watch = ScanWatch(self._state)

    # ---------------------------------------------------------------------- state

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self.announced.scan.uid

    @property
    def announcement(self) -> str:
        """Id of its announcement on the bus; empty before it is announced."""
        return self._state.announcement

    @property
    def quota_bytes(self) -> int:
        """Bytes reserved on the bus; 0 before the scan is prepared."""
        return self._state.quota_bytes

    @property
    def lanes(self) -> Mapping[str, LaneQueue]:
        """Its lanes by name."""
        return self._state.lanes

    @property
    def late(self) -> dict[str, int]:
        """Number of late points of each channel that has any."""
        return late_counts(self._state.lanes.values())

    @property
    def error(self) -> BaseException | None:
        """Why the scan failed; None if it did not."""
        return self._state.error

    @property
    def verdict(self) -> Verdict | None:
        """The final verdict; None before it came."""
        return self._state.verdict

    @property
    def is_over(self) -> bool:
        """Whether no more points are accepted."""
        return self._state.is_over

    @property
    def is_closed(self) -> bool:
        """Whether its end was carried out: all points that came are in the lanes."""
        return self._state.is_closed

    @property
    def is_begun(self) -> bool:
        """Whether it has lanes."""
        return self._is_begun

    @property
    def is_released(self) -> bool:
        """Whether its entries were released."""
        return self._state.is_released

    @property
    def has_blocked_send(self) -> bool:
        """Whether a send waits for room."""
        return self._backpressure.is_waiting

    @property
    def why_waiting(self) -> str:
        """Why nothing becomes durable."""
        return self._state.trouble or self._why_full()

    # ------------------------------------------------------------------- opening

    def set_announcement(self, announcement: str) -> None:
        """Set the id of its announcement on the bus."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.set_announcement(announcement)

    def continue_as(self, announced: ScanAnnounced, begins: Mapping[str, int]) -> None:
        """Be a new scan from now on, whose lanes begin at these points."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.events.begin_again(announced.scan, self.uid)
            self._state.begin_again(announced.scan.uid, begins)
            self.announced = announced

    def begin(
        self,
        events: Sequence[Event],
        lanes: Sequence[LaneDescription],
        *,
        quota_bytes: int,
        most_quota_bytes: int,
        compression: float,
        statics: PackedArrays = _NO_ARRAYS,
    ) -> None:
        """Accept points from now on: Redis has two events, a spool has all of them.

        Parameters
        ----------
        statics : mapping
            The arrays to which the events refer, packed, with their lanes.
        """
        document_bytes = _document_bytes(events, len(lanes) + len(statics))
        with Backstop(self._state.lock), self._state.lock:
            self._state.events.begin(events, n_sent=2)
            room = Reservation(quota_bytes, most_quota_bytes, document_bytes)
            self._state.plan(room, chunk_bytes(lanes))
            self._state.add_lanes(
                open_lane(
                    self._state, each, self.session, self._backpressure, compression
                )
                for each in lanes
            )
            self._add_statics(statics)
            self._is_begun = True

    def _add_statics(self, statics: PackedArrays) -> None:
        new = [each for name, each in statics.items() if name not in self.lanes]
        self._state.add_lanes(
            static_lane(self._state, lane, packed, self.session) for lane, packed in new
        )

    def take_over(
        self,
        announcement: str,
        events: Sequence[Event],
        *,
        n_sent: int,
        quota_bytes: int,
        lanes: Iterable[LaneRest],
        lost: Iterable[LostData] = (),
    ) -> None:
        """Load a scan that its publisher left in the spool; it accepts no more points.

        Parameters
        ----------
        n_sent : int
            Number of events that are sent again only if Redis lacks one.
        lanes : iterable of LaneRest
            What is left of each lane.
        lost : iterable of LostData
            What the spool lost.
        """
        with Backstop(self._state.lock), self._state.lock:
            self._load(announcement, events, n_sent, lost)
            self._state.plan(Reservation(quota_bytes), 0)
            self._state.add_lanes(
                recovered_lane(self._state, each, self.session) for each in lanes
            )
            self._state.close()
            self._is_begun = True

    def reopen(
        self,
        announcement: str,
        events: Sequence[Event],
        *,
        quota_bytes: int,
        most_quota_bytes: int,
        compression: float,
        lanes: Sequence[LaneRest],
        lost: Iterable[LostData] = (),
    ) -> None:
        """Load a scan that its publisher left; more points come after those it has.

        Parameters are those of `begin` and `take_over`; all events count as sent.
        """
        document_bytes = _document_bytes(events, len(lanes))
        with Backstop(self._state.lock), self._state.lock:
            self._load(announcement, events, len(events), lost)
            room = Reservation(quota_bytes, most_quota_bytes, document_bytes)
            self._state.plan(room, chunk_bytes(each.description for each in lanes))
            self._state.add_lanes(
                reopened_lane(
                    self._state, each, self.session, self._backpressure, compression
                )
                for each in lanes
            )
            self._is_begun = True

    def _load(
        self,
        announcement: str,
        events: Sequence[Event],
        n_sent: int,
        lost: Iterable[LostData],
    ) -> None:
        self._state.set_announcement(announcement)
        self._state.events.begin(events, n_sent=n_sent)
        for each in lost:
            self._state.events.note_lost(each)

    def note_lost(self, lost: LostData) -> None:
        """Name points that the program had and lost in the end of the scan."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.events.note_lost(lost)

    def shares(self) -> list[SendShare]:
        """Return the shares of the senders: one per detector, and one for the rest."""
        return [SendShare(self._state, waker) for waker in self._state.wakers]

    @property
    def backlog(self) -> SpoolBacklog | None:
        """Entries and events not in the spool yet; None if there is no spool."""
        waker = self._state.spool_waker
        return None if waker is None else SpoolBacklog(self._state, waker)

    # -------------------------------------------------------------------- points

    @property
    def fast_series(self) -> Mapping[str, Series]:
        """Series to which a program's thread appends plain floats without a lock.

        The mapping itself, not a copy: it is emptied when the scan is over.
        """
        return self._state.fast_series

    def offer_fast_series(self, series: Mapping[str, Series]) -> None:
        """Let the program append plain floats of these channels without a lock."""
        self._state.offer_fast(series)

    def withdraw_fast(self, channel: str) -> None:
        """Have points of a channel take the long way from now on."""
        self._state.withdraw_fast([channel])

    def use_order(self, lane: LaneQueue, order: ReorderBuffer[Any]) -> None:
        """Use a reorder buffer for a lane from now on; its `input_lock` is held."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.withdraw_fast(each.name for each in lane.description.channels)
            lane.order = order

    def room_to_hold(self, lane: LaneQueue) -> int:
        """Return how many bytes of a lane may be held for points before them."""
        lanes = self._state.lanes.values()
        held = sum(each.held_bytes for each in lanes)
        return self._state.max_held_bytes - held + lane.held_bytes

    def wake(self, lane: LaneQueue) -> None:
        """Wake the thread that makes a lane's entries and sends or spools them."""
        with Backstop(self._state.lock), self._state.lock:
            lane.wake()

    def put_late(
        self,
        lane: LaneQueue,
        build: Callable[[int], EncodedEntry],
        *,
        reserved_bytes: int,
    ) -> int:
        """Add a late point: its place became a gap before; `input_lock` is held.

        Parameters
        ----------
        build : callable
            Returns its entry, given its index among the late points of its channel.
        reserved_bytes : int
            Bytes that were reserved for it.

        Returns
        -------
        int
            Number of late points of the channel, with this one.
        """
        with Backstop(self._state.lock), self._state.lock:
            late = late_lane(self._state, lane, self.session)
        # `input_lock` covers this lane too, so its length cannot change meanwhile.
        entry = build(late.length)
        with Backstop(self._state.lock), self._state.lock:
            lane.unreserve(reserved_bytes)
            late.put(entry)
            late.wake()
            return late.length

    # -------------------------------------------------------------------- the end

    def add_event(self, event: Event) -> None:
        """Queue an event to be sent after all earlier ones."""
        self._state.events.add(event)
        (self._state.spool_waker or self._state.main_waker).wake()

    def add_event_with(self, event: Event, statics: PackedArrays) -> None:
        """Queue an event, and the arrays to which it refers; wait for room for these.

        Raises
        ------
        DeadlineError
            If there is no room in time.
        ScanStateError
            If the scan is over; the scan's own error if it failed.
        """
        for lane, packed in statics.values():
            new = LaneQueue(lane, self.session, self._state.main_waker)
            self._backpressure.admit(new, len(packed))

        def add() -> None:
            with self._state.lock:
                self._add_statics(statics)
            self.add_event(event)

        # By the worker, which nothing interrupts: neither is there without the other.
        self.inbox.ask(add)

    def close_input(self) -> None:
        """Accept no more points: all that came are in the lanes."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.close()

    def end_lanes(self) -> None:
        """End all lanes: they are sealed when all their points are entries."""
        for lane in self.lanes.values():
            if isinstance(lane, FrameLaneQueue):
                with lane.input_lock:
                    self.encoders.end(lane)
        with Backstop(self._state.lock), self._state.lock:
            for lane in self.lanes.values():
                lane.end()

    def fail(self, error: BaseException) -> None:
        """Let every further send raise `error`, or the scan's first error."""
        with Backstop(self._state.lock), self._state.lock:
            self._state.fail(error)

    def forsake(self, error: BaseException) -> None:
        """Refuse every call in a forked process, and leave the spool to the parent."""
        self._state.forsake(error)
        if self.spool is not None:
            self.spool.leave()


def _document_bytes(events: Sequence[Event], n_lanes: int) -> int:
    """Return about how many bytes of a scan on the bus are no points."""
    documents = sum(len(event.to_json()) for event in events)
    return documents + _SCAN_BYTES + n_lanes * _LANE_BYTES
