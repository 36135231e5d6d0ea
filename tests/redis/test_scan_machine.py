"""A scan as a state machine: publisher, writers, operator and Redis in any order.

The parts are real, and so are Redis and the files; only the threads are not there, so
that every run can be repeated. The model is what the publisher said and what Redis or
the operator did to it.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from scanbus.bus.protocol import SEAL_ID, events_key, heartbeat_key, lane_key, lease_key
from scanbus.bus.store import Bus, announcements, connect
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher.faulty.content import points_of
from scanbus.publisher.faulty.raw_entries import RawEntryBuilder
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import (
    ScanJudged,
    ScanPrepared,
    Storage,
    Verdict,
    VerdictWord,
    parse_event,
)
from scanbus.schemas.errors import LaneConflictError, ScanStateError, UnknownScanError
from scanbus.schemas.file_names import values_file_name
from scanbus.writer.model.ledger import joined
from scanbus.writer.scan.commit_queue import Stopped
from scanbus.writer.storage.data_root import scan_folder, scan_master
from scanbus.writer.storage.scan_file import read_scan_file
from tests.support.descriptions import channel, lane_of
from tests.support.roots import made_root
from tests.support.scan_machine_parts import SESSION, SteppedPublisher, attempt

pytestmark = pytest.mark.redis

PER_SEGMENT = 4
SEED = 5
LANES = (
    lane_of(channel("th"), per_segment=PER_SEGMENT, per_chunk=PER_SEGMENT),
    lane_of(
        channel("d", "d", dtype="uint16", shape=(3, 2), codec="bitshuffle-lz4"),
        per_segment=PER_SEGMENT,
        per_chunk=2,
        storage=Storage.FILES,
    ),
)
NAMES = tuple(lane.name for lane in LANES)
CHANNELS = {lane.name: lane.channels[0] for lane in LANES}
MOST_CALLS = 12


class ScanMachine(RuleBasedStateMachine):
    """One scan; nothing that happens may change a final verdict or lose a point."""

    server: ClassVar[Any] = None

    @initialize()
    def open(self) -> None:
        self.client: Bus = connect(self.server.url, name="machine")
        self.client.flushall()
        self.root = made_root(Path(tempfile.mkdtemp(prefix="scan-machine-")))
        self.publisher = SteppedPublisher(self.client, LANES)
        self.scan = self.publisher.announced
        self.crafters = {
            lane.name: RawEntryBuilder(lane, seed=SEED, session=SESSION)
            for lane in LANES
        }
        self.reached = dict.fromkeys(NAMES, 0)
        self.gaps: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}
        self.n_updates = 0
        # Whether lanes in Redis have an operator's seals.
        self.is_closed = False
        self.final: Verdict | None = None

    # What the publisher does

    @rule()
    @precondition(lambda self: self.can_speak and not self.publisher.is_prepared)
    def prepare(self) -> None:
        self.publisher.prepare()

    @property
    def can_speak(self) -> bool:
        one = self.publisher
        return one.is_here and not one.is_shut_out and not one.is_ended

    @property
    def can_send(self) -> bool:
        return self.can_speak and self.publisher.is_prepared

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 9), is_gap=st.booleans())
    @precondition(lambda self: self.can_send)
    def send(self, name: str, count: int, is_gap: bool) -> None:
        for _ in range(count):
            first = self.reached[name]
            boundary = (first // PER_SEGMENT + 1) * PER_SEGMENT
            stop = min(first + 2, boundary)
            is_gap = is_gap and count == 1
            make = self.crafters[name].gap if is_gap else self.crafters[name].good
            self.publisher.put(name, make(first, stop))
            self.reached[name] = stop
            if is_gap:
                self.gaps[name].append((first, stop))

    @rule()
    @precondition(lambda self: self.can_send)
    def update(self) -> None:
        self.n_updates += 1
        self.publisher.update(self.n_updates)

    @rule()
    @precondition(lambda self: self.can_send)
    def end(self) -> None:
        self.publisher.end()

    @rule(index=st.integers(0, 1), n_entries=st.integers(1, 6))
    @precondition(lambda self: self.publisher.is_here and self.publisher.is_prepared)
    def deliver(self, index: int, n_entries: int) -> None:
        if self.publisher.is_shut_out:
            return
        self.publisher.beat()
        try:
            self.publisher.deliver(index, n_entries)
        except LaneConflictError:
            assert self.is_closed
            self.publisher.is_shut_out = True

    @rule()
    @precondition(lambda self: self.publisher.is_here)
    def leave(self) -> None:
        self.publisher.leave()

    @rule()
    @precondition(lambda self: not self.publisher.is_here)
    def come_back(self) -> None:
        self.publisher.come_back()

    # What the operator does

    @rule()
    def close(self) -> None:
        if self.client.exists(heartbeat_key(self.publisher.uid)):
            expected = ScanStateError if self.is_announced() else UnknownScanError
            with pytest.raises(expected):
                close_scan(self.server.url, self.publisher.uid)
            return
        before = {name: self.sealed_at(name) for name in NAMES}
        with suppress(UnknownScanError, ScanStateError):
            close_scan(self.server.url, self.publisher.uid)
        found = {name: self.sealed_at(name) for name in NAMES}
        # One that was judged before it was prepared stays as it is.
        if self.is_prepared_on_the_bus() and self.final is None:
            assert None not in found.values()
        if before != found:
            self.is_closed = True

    def is_prepared_on_the_bus(self) -> bool:
        return any(isinstance(event, ScanPrepared) for event in self.events())

    def events(self) -> list[Any]:
        if not self.is_announced():
            return []
        entries: Any = self.client.xrange(events_key(self.publisher.uid))
        return [parse_event(fields[1]) for _, fields in entries]

    def sealed_at(self, name: str) -> int | None:
        """The length that a lane's seal says; None if there is no seal."""
        key = lane_key(self.publisher.uid, name)
        found: Any = self.client.xrange(key, SEAL_ID, SEAL_ID)
        return None if not found else int(msgpack.unpackb(found[0][1][1])["length"])

    def is_announced(self) -> bool:
        return any(line.document for line in announcements(self.client))

    # What happens to Redis

    @rule()
    def lose_redis(self) -> None:
        self.client.flushall()
        self.is_closed = False
        if self.final is not None and not self.final.channels:
            # No file has the verdict on a scan that was closed before it had files.
            self.final = None
        self.publisher.is_shut_out = False
        self.publisher.queue.watch.request_compare()

    @rule(n_entries=st.integers(1, 4), lane=st.sampled_from(NAMES))
    @precondition(lambda self: not self.is_closed)
    def lose_the_tail(self, n_entries: int, lane: str) -> None:
        """What an append-only file lacks after a power cut: the last of a stream."""
        key = lane_key(self.publisher.uid, lane)
        entries: Any = self.client.xrange(key)
        if len(entries) <= n_entries:
            return
        self.client.delete(key)
        for stream_id, fields in entries[:-n_entries]:
            pairs: Any = dict(zip(fields[::2], fields[1::2], strict=True))
            self.client.xadd(key, pairs, id=stream_id)
        self.publisher.queue.watch.request_compare()

    # What the writers do

    @rule(n_turns=st.integers(1, 12))
    def write_for_a_while(self, n_turns: int) -> None:
        self.note(attempt(self.client, self.scan, self.root, n_turns=n_turns))

    @rule(at=st.integers(1, MOST_CALLS), n_turns=st.integers(5, 20))
    def write_until_killed(self, at: int, n_turns: int) -> None:
        def die() -> None:
            raise Stopped

        self.write(at, die, n_turns)

    @rule(at=st.integers(1, MOST_CALLS), n_turns=st.integers(5, 20))
    def write_until_replaced(self, at: int, n_turns: int) -> None:
        """It is paused for so long that another one has the scan, then goes on."""

        def be_replaced() -> None:
            for key in self.client.scan_iter(lease_key(self.publisher.uid, "*")):
                self.client.delete(key)
            self.note(attempt(self.client, self.scan, self.root, n_turns=n_turns))

        self.write(at, be_replaced, n_turns)

    @rule(at=st.integers(1, MOST_CALLS), n_turns=st.integers(5, 20))
    def write_until_redis_is_lost(self, at: int, n_turns: int) -> None:
        self.write(at, self.lose_redis, n_turns)

    def write(self, at: int, meddle: Any, n_turns: int) -> None:
        found = attempt(
            self.client, self.scan, self.root, n_turns=n_turns, at=at, meddle=meddle
        )
        self.note(found)

    def note(self, verdict: Verdict | None) -> None:
        path = self.folder / values_file_name(self.scan.scan.scan_number)
        if path.exists():
            stored = read_scan_file(path).verdict
            assert self.final in (None, stored)
            self.final = stored
        if verdict is None or verdict.provisional:
            assert verdict is None or verdict.verdict is not VerdictWord.COMPLETE
            return
        assert self.final in (None, verdict)
        self.final = verdict

    @property
    def folder(self) -> Path:
        return scan_folder(self.root, self.scan.scan)

    # What must hold

    @invariant()
    def a_final_verdict_stays(self) -> None:
        if not hasattr(self, "client"):
            return
        said = [
            event.verdict for event in self.events() if isinstance(event, ScanJudged)
        ]
        finals = [verdict for verdict in said if not verdict.provisional]
        assert all(verdict == self.final for verdict in finals)
        # A provisional one may only stand before.
        assert said[len(said) - len(finals) :] == finals

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        try:
            self.bring_to_an_end()
            self.check_files()
        finally:
            self.client.close()
            shutil.rmtree(self.root)

    def bring_to_an_end(self) -> None:
        one = self.publisher
        if not one.is_here:
            one.come_back()
        if not one.is_prepared and self.final is None:
            one.prepare()
        if self.can_send:
            one.end()
        for _ in range(3):
            for index in range(len(one.queue.shares())):
                self.deliver(index, 10**6)
        if self.final is not None:
            assert attempt(self.client, self.scan, self.root) in (None, self.final)
            return
        if one.is_shut_out:
            # Closed by an operator, and perhaps its end was lost with Redis's tail.
            one.leave()
            self.close()
        self.note(attempt(self.client, self.scan, self.root))

    def check_files(self) -> None:
        """Whatever happened, the verdict is what the files hold."""
        assert self.final is not None
        if not self.final.channels:  # It ended before it was prepared.
            assert self.final.verdict is VerdictWord.PARTIAL
            return
        is_complete = self.final.verdict is VerdictWord.COMPLETE
        with h5py.File(scan_master(self.root, self.scan.scan)) as file:
            own = file["1.1/scanbus"]
            assert own["verdict"].asstr()[()] == self.final.verdict
            for name in NAMES:
                self.check_channel(name, file["1.1/measurement"])
        ledgers = self.final.channels.values()
        assert is_complete == all(one.is_complete for one in ledgers)

    def check_channel(self, name: str, measurement: Any) -> None:
        only, ledger = CHANNELS[name], self.final.channels[CHANNELS[name].name]  # type: ignore[union-attr]
        length = ledger.expected
        gaps = [(a, min(b, length)) for a, b in self.gaps[name] if a < length]
        assert ledger.missing == joined(gaps)
        if self.was_ended_by_its_publisher:
            assert length == self.reached[name]
        values = measurement[only.name][()] if length else np.empty(0)
        assert len(values) == length
        wanted = points_of(SEED, only, 0, length)
        for point in range(length):
            is_gap = any(a <= point < b for a, b in gaps)
            if not is_gap:
                np.testing.assert_array_equal(values[point], wanted[point])

    @property
    def was_ended_by_its_publisher(self) -> bool:
        assert self.final is not None
        return self.final.end_reason == "SUCCESS"


@pytest.fixture(scope="module", autouse=True)
def _server() -> Any:
    # Redis ends a read that waits in vain at its next tick only: ten times a second.
    with PrivateRedis(options={"hz": 500}) as server:
        ScanMachine.server = server
        yield


ScanMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Shrinking takes minutes here; what was done is printed as it was.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
TestScanMachine = ScanMachine.TestCase
