"""A publisher without threads and a writer with interruptions, for a state machine.

Both consist of the parts of the real ones; the test decides the order of their steps.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from scanbus.bus.codecs import ThreadPool
from scanbus.bus.protocol import EncodedEntry, ScanRecord, heartbeat_key, lease_key
from scanbus.bus.store import (
    Bus,
    Lease,
    VanishedError,
    acquire_lease,
    append_entries,
    append_event,
    append_events,
    beat_publisher,
    make_lane,
    read_cursor,
    read_events,
    take_bus_id,
)
from scanbus.publisher.queue.inbox import Inbox
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.queue.send_share import SendShare
from scanbus.publisher.transport.resync import (
    compare_lanes,
    ensure_announced,
    restore_scan,
)
from scanbus.schemas import (
    EndReason,
    Event,
    LaneDescription,
    ScanAnnounced,
    ScanEnded,
    ScanStarted,
    ScanUpdated,
    Storage,
    Verdict,
)
from scanbus.schemas.errors import LeaseLostError
from scanbus.writer.scan.commit_queue import Stopped
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.scan.write_authority import LeaseAuthority
from tests.support.descriptions import NOW, announced, prepared

__all__ = ["Meddling", "SteppedPublisher", "attempt"]

SESSION = b"stepped!"
_TTL_MS = 600_000
# Required by a queue, but not used, as nothing is packed here.
_THREADS = ThreadPool(1, "unused")


class SteppedQueue(ScanQueue):
    """A queue whose entries are created by the test."""

    def open_lanes(self, lanes: Iterable[LaneDescription], events: list[Event]) -> None:
        state = self._state
        with state.lock:
            state.events.begin(events, n_sent=len(events))
            for lane in lanes:
                has_frames = lane.storage is Storage.FILES
                waker = state.new_waker() if has_frames else state.main_waker
                state.add_lanes([LaneQueue(lane, self.session, waker)])

    def put(self, lane: str, entry: EncodedEntry) -> None:
        with self._state.lock:
            self._state.lanes[lane].put(entry)

    def seal_all(self) -> None:
        with self._state.lock:
            for lane in self._state.lanes.values():
                lane.end()
                lane.seal()


class SteppedPublisher:
    """A publisher that performs one step at a time, when the test calls it."""

    def __init__(self, client: Bus, lanes: Iterable[LaneDescription]) -> None:
        self.client = client
        self.lanes = tuple(lanes)
        self.announced: ScanAnnounced = announced()
        self.queue = SteppedQueue(
            self.announced,
            SESSION,
            inbox=Inbox(),
            limits=SendLimits(),
            threads=_THREADS,
            why_full=lambda: "",
        )
        self.uid = self.queue.uid
        self.is_here = True
        self.is_shut_out = False
        self.is_ended = False
        self.beat()
        ensure_announced(client, self.queue)

    @property
    def is_prepared(self) -> bool:
        return bool(self.queue.lanes)

    def prepare(self) -> None:
        said = prepared(*self.lanes, uid=self.uid)
        events: list[Event] = [said, ScanStarted(time=NOW)]
        self.queue.open_lanes(self.lanes, events)
        ensure_announced(self.client, self.queue)
        for lane in self.lanes:
            make_lane(self.client, self.uid, lane.name)
        for event in events:
            append_event(self.client, self.uid, event)

    def beat(self) -> None:
        beat_publisher(self.client, self.uid, "stepped", _TTL_MS)

    def leave(self) -> None:
        self.is_here = False
        self.client.delete(heartbeat_key(self.uid))

    def come_back(self) -> None:
        self.is_here = True
        self.beat()
        self.queue.watch.request_compare()

    def put(self, lane: str, entry: EncodedEntry) -> None:
        self.queue.put(lane, entry)

    def update(self, number: int) -> None:
        event = ScanUpdated(time=NOW + number, metadata={"number": number})
        self.queue.add_event(event)

    def end(self) -> None:
        self.is_ended = True
        self.queue.seal_all()
        end = ScanEnded(time=NOW, end_reason=EndReason.SUCCESS)
        self.queue.add_event(end)

    def deliver(self, index: int, n_entries: int) -> None:
        """Run one round of one sender with at most `n_entries` entries of each lane.

        Raises
        ------
        LaneConflictError
            If another publisher sealed a lane.
        """
        queue, share = self.queue, self.queue.shares()[index]
        try:
            if share.take_compare_request():
                self._compare(share)
            for lane in share.lanes:
                queue.watch.note_durable(
                    lane.name, self.cursor(lane.name), of=queue.uid
                )
                batch = share.to_send(lane, 2**30)[:n_entries]
                if batch:
                    append_entries(self.client, self.uid, lane.name, batch)
                    share.note_sent(lane, len(batch))
            if share.is_main:
                self._send_events(share)
        except VanishedError:
            queue.watch.request_compare()

    def _compare(self, share: SendShare) -> None:
        try:
            compare_lanes(self.client, self.queue, share.lanes)
            restore_scan(self.client, self.queue)
        except BaseException:
            share.request_compare()
            raise

    def _send_events(self, share: SendShare) -> None:
        while events := share.next_events():
            share.note_events_sent(append_events(self.client, self.uid, events))

    def cursor(self, lane: str) -> int:
        return read_cursor(self.client, self.uid, lane)


class Meddling(LeaseAuthority):
    """Authority of a writer that calls a function at the n-th use of its lease."""

    def __init__(
        self, client: Bus, lease: Lease, at: int, meddle: Callable[[], None]
    ) -> None:
        super().__init__(client, lease, _TTL_MS)
        self._left = at
        self._meddle = meddle

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._meddle()

    def check(self) -> None:
        self._count()
        super().check()

    def acknowledge(self, points: Mapping[str, int]) -> None:
        self._count()
        super().acknowledge(points)

    def announce(self, verdict: Verdict) -> None:
        self._count()
        super().announce(verdict)


def attempt(
    client: Bus,
    scan: ScanAnnounced,
    root: Path,
    *,
    n_turns: int = 100,
    at: int = 0,
    meddle: Callable[[], None] = lambda: None,
) -> Verdict | None:
    """Write the scan with a new writer; return its verdict, None if there is none.

    Parameters
    ----------
    n_turns : int
        Number of turns after which it is told to stop.
    at : int
        The use of its lease, from 1, at which `meddle` is called; 0 for never.
    """
    uid = scan.scan.uid
    record = ScanRecord(scan.scan, scan.title)
    read_events(client, record)
    if record.final_verdict is not None:
        return record.final_verdict  # As the service does.
    take_bus_id(client, "machine")  # As the service.
    lease = acquire_lease(client, uid, "writer", _TTL_MS)
    if lease is None:
        return None
    authority = Meddling(client, lease, at, meddle)
    turns = iter(range(n_turns))
    pace = Pace(
        flush_s=0, poll_s=0.001, master_s=0, lapse_s=0, check_s=0.05, read_bytes=2**16
    )
    writer = ScanWriter(
        client,
        record,
        root,
        authority,
        pace=pace,
        is_stopped=lambda: next(turns, None) is None,
    )
    try:
        return writer.run()
    except (Stopped, LeaseLostError):
        return None
    finally:
        client.delete(lease_key(uid, lease.fence))
