"""Reservations in any order of events: each is of a scan that needs it, and as large.

Publishers and the writer are processes, which are killed; Redis is emptied. The model
is what the living publishers say of their scans, and what the bus says of the others.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from scanbus.bus.protocol import ScanRecord, events_key, heartbeat_key, lane_key
from scanbus.bus.store import (
    Bus,
    announcements,
    connect,
    read_events,
    reserved_quotas,
    writers_alive,
)
from scanbus.cli.private_redis import PrivateRedis
from tests.support.room_publisher import FRAME_BYTES, Room, RoomPublisher
from tests.support.writers import WriterProcess, wait_until

# Each example starts several processes and waits for what they do.
pytestmark = [pytest.mark.redis, pytest.mark.timeout(900)]

N_PUBLISHERS = 2
SETTLED_S = 60.0


class RoomMachine(RuleBasedStateMachine):
    """Two publishers and a writer; whatever happens, no room is lost for good."""

    server: ClassVar[Any] = None

    @initialize()
    def begin(self) -> None:
        self.client: Bus = connect(self.server.url, name="machine")
        self.client.flushall()
        self.folder = Path(tempfile.mkdtemp(prefix="room-machine-"))
        self.config = self.folder / "scanbus.toml"
        self.config.write_text(
            "heartbeat_s = 0.3\nlease_s = 1.0\nretry_s = 0.2\npoll_s = 0.05\n"
            "least_free_bytes = 1000000\nlow_water_bytes = 0\n"
        )
        self.publishers = [RoomPublisher(self.server.url) for _ in range(N_PUBLISHERS)]
        self.writer: WriterProcess | None = None

    publisher = st.integers(0, N_PUBLISHERS - 1)

    @rule(which=publisher, n_frames=st.integers(0, 15))
    def open_and_send(self, which: int, n_frames: int) -> None:
        one = self.publishers[which]
        if not one.has_open_scan:
            one.open()
        if one.has_open_scan:
            one.send(n_frames)

    @rule(which=publisher)
    def finish(self, which: int) -> None:
        if self.publishers[which].has_open_scan:
            self.publishers[which].finish()

    @rule(which=publisher)
    def refuse(self, which: int) -> None:
        self.publishers[which].refuse()

    @rule(which=publisher)
    def kill_publisher(self, which: int) -> None:
        before = self.publishers[which]
        before.kill()
        self.publishers[which] = RoomPublisher(self.server.url)
        for uid in before.uids:  # It would last for another ten seconds.
            self.client.delete(heartbeat_key(uid))

    @rule()
    @precondition(lambda self: self.writer is None)
    def start_writer(self) -> None:
        root = self.folder / "root"
        self.writer = WriterProcess(self.server.url, root, "--config", str(self.config))

    @rule()
    @precondition(lambda self: self.writer is not None)
    def kill_writer(self) -> None:
        assert self.writer is not None
        self.writer.close()
        self.writer = None

    @rule()
    def empty_redis(self) -> None:
        self.client.flushall()

    @rule(seconds=st.floats(0.0, 3.0))
    def let_time_pass(self, seconds: float) -> None:
        time.sleep(seconds)

    @rule()
    def check(self) -> None:
        """What is said of room is right within seconds, whatever happened."""
        deadline = time.monotonic() + SETTLED_S
        while wrong := self.wrong():
            assert time.monotonic() < deadline, wrong
            time.sleep(0.5)

    def wrong(self) -> list[str]:
        """Return what is wrong with the reservations now."""
        rooms: dict[str, Room] = {}
        for one in self.publishers:
            rooms |= one.rooms()
        reserved = reserved_quotas(self.client)
        records = self.unfinished()
        found = [f"{uid} is over" for uid in reserved.keys() - records.keys()]
        for uid, record in records.items():
            quota = reserved.get(uid, 0)
            if uid in rooms:
                found += self.wrong_with(uid, quota, rooms[uid])
            elif self.writer is not None and quota > self.held_bytes(record):
                found.append(f"{uid} is left: {quota} > {self.held_bytes(record)}")
        return found

    def unfinished(self) -> dict[str, ScanRecord]:
        records = {}
        for line in announcements(self.client):
            if line.document is not None:
                record = ScanRecord(line.document.scan)
                read_events(self.client, record)
                if record.final_verdict is None:
                    records[record.uid] = record
        return records

    @staticmethod
    def wrong_with(uid: str, quota: int, room: Room) -> list[str]:
        """Return what is wrong with the reservation of a living publisher's scan."""
        found = []
        if quota != room.reserved:
            found.append(f"{uid} reserves {quota} instead of {room.reserved}")
        if room.kept > quota:
            found.append(f"{uid} keeps {room.kept} with {quota} reserved")
        if room.is_fully_sent and quota != room.wanted:
            found.append(f"{uid} reserves {quota}, needs {room.wanted}")
        return found

    def held_bytes(self, record: ScanRecord) -> int:
        """Return about what the bus has of a scan."""
        names = [] if record.prepared is None else record.prepared.lanes
        keys = [lane_key(record.uid, lane.name) for lane in names]
        keys.append(events_key(record.uid))
        usage = [self.client.memory_usage(key, samples=0) for key in keys]
        return sum(int(each or 0) for each in usage) + FRAME_BYTES

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        try:
            self.check()
            self.bring_to_an_end()
        finally:
            for one in self.publishers:
                one.kill()
            if self.writer is not None:
                self.writer.close()
            self.client.close()
            shutil.rmtree(self.folder)

    def bring_to_an_end(self) -> None:
        """Once all that can end has ended, only what nobody ended is reserved."""
        if self.writer is None:
            self.start_writer()
        wait_until(lambda: writers_alive(self.client))
        for one in self.publishers:
            if one.has_open_scan:
                one.finish()
        wait_until(lambda: not any(one.rooms() for one in self.publishers))
        self.check()
        assert reserved_quotas(self.client).keys() <= {
            uid for uid, record in self.unfinished().items() if record.ended is None
        }


@pytest.fixture(scope="module", autouse=True)
def _server() -> Any:
    options = {"maxmemory": "64mb", "maxmemory-policy": "noeviction"}
    with PrivateRedis(options=options) as server:
        RoomMachine.server = server
        yield


RoomMachine.TestCase.settings = settings(
    max_examples=40 if os.environ.get("LONG") else 3,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
TestRoomMachine = RoomMachine.TestCase
