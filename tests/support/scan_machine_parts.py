"""A publisher without threads and a writer that is meddled with, for a state machine.

Both are made of the parts that real ones are made of; who does what when is up to the
test.
"""

from collections.abc import Callable, Iterable
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
    beat_publisher,
    make_lane,
    read_cursor,
    read_events,
)
from scanbus.publisher.queue.lane_queue import Waker
from scanbus.publisher.queue.scan_queue import Limits, ScanQueue
from scanbus.publisher.transport.resync import (
    compare_lane,
    ensure_announced,
    restore_scan,
)
from scanbus.schemas import (
    EndReason,
    LaneDescription,
    ScanAnnounced,
    ScanEnded,
    ScanStarted,
    ScanUpdated,
    Verdict,
)
from scanbus.schemas.errors import LeaseLostError
from scanbus.writer.scan.authority import LeaseAuthority
from scanbus.writer.scan.scan_writer import Pace, ScanWriter, Stopped
from tests.support.descriptions import NOW, announced, prepared

__all__ = ["Meddling", "SteppedPublisher", "attempt"]

SESSION = b"stepped!"
_TTL_MS = 600_000
# Never used: nothing is packed here, but a queue has a threads.
_THREADS = ThreadPool(1, "unused")


class SteppedPublisher:
    """A publisher that does one thing at a time, when it is told."""

    def __init__(self, client: Bus, lanes: Iterable[LaneDescription]) -> None:
        self.client = client
        self.lanes = tuple(lanes)
        self.announced: ScanAnnounced = announced()
        self.queue = ScanQueue(
            self.announced,
            SESSION,
            limits=Limits(),
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
        self.queue.events = [said, ScanStarted(time=NOW)]
        self.queue.take_over(self.lanes, 0)
        ensure_announced(self.client, self.queue)
        for lane in self.lanes:
            make_lane(self.client, self.uid, lane.name)
        for event in self.queue.events:
            append_event(self.client, self.uid, event)
        self.queue.n_events_sent = 2

    def beat(self) -> None:
        beat_publisher(self.client, self.uid, "stepped", _TTL_MS)

    def leave(self) -> None:
        self.is_here = False
        self.client.delete(heartbeat_key(self.uid))

    def come_back(self) -> None:
        self.is_here = True
        self.beat()
        self.queue.request_compare()

    def put(self, lane: str, entry: EncodedEntry) -> None:
        with self.queue.lock:
            self.queue.lanes[lane].put(entry)

    def update(self, number: int) -> None:
        event = ScanUpdated(time=NOW + number, metadata={"number": number})
        self.queue.add_event(event)

    def end(self) -> None:
        self.is_ended = True
        for lane in self.queue.lanes.values():
            lane.ending = True
            lane.seal()
        end = ScanEnded(time=NOW, end_reason=EndReason.SUCCESS)
        self.queue.add_event(end)

    def deliver(self, waker: Waker, n_entries: int) -> None:
        """Do what one of its senders does in a round, with fewer entries.

        Raises
        ------
        LaneConflictError
            If somebody else sealed a lane.
        """
        queue = self.queue
        try:
            if waker.must_compare:
                for lane in waker.lanes:
                    compare_lane(self.client, queue, lane)
                restore_scan(self.client, queue)
                waker.must_compare = False
            for lane in waker.lanes:
                queue.note_durable(lane.name, self.cursor(lane.name))
                batch = lane.retransmit.to_send(2**30)[:n_entries]
                if batch:
                    append_entries(self.client, self.uid, lane.name, batch)
                    queue.note_sent(lane, len(batch))
            if waker is queue.main_waker:
                self._send_events()
        except VanishedError:
            queue.request_compare()

    def _send_events(self) -> None:
        while (event := self.queue.next_event()) is not None:
            append_event(self.client, self.uid, event)
            self.queue.n_events_sent += 1

    def cursor(self, lane: str) -> int:
        return read_cursor(self.client, self.uid, lane)


class Meddling(LeaseAuthority):
    """The lease of a writer to which something happens at its n-th use."""

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

    def acknowledge(self, lane: str, point: int) -> None:
        self._count()
        super().acknowledge(lane, point)

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
    """Let a new writer have the scan; return its verdict, None if it came to none.

    Parameters
    ----------
    n_turns : int
        After so many it is told to stop.
    at : int
        At which use of its lease `meddle` is called.
    """
    uid = scan.scan.uid
    record = ScanRecord(scan.scan, scan.title)
    read_events(client, record)
    if record.final_verdict is not None:
        return record.final_verdict  # As the service does.
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
