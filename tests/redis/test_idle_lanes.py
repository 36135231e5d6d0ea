"""Who waits for many lanes asks seldom, and hears at once what comes.

Waits grow while nothing happens; none of what ends them may be missed.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanbus.bus.protocol import Kind, LaneReader, ScanRecord, split_id
from scanbus.bus.store import (
    Bus,
    acknowledge_all,
    append_entries,
    append_event,
    connect,
    make_lanes,
    stream_ends,
)
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import ScanStarted, VerdictWord
from scanbus.writer.scan.bus_reader import BusReader
from scanbus.writer.scan.pace import Pace
from tests.support.descriptions import UID, channel, identity, lane_of, prepared
from tests.support.raw_entries import frozen, frozen_seal
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis

N_LANES = 100
NAMES = tuple(f"c{number}" for number in range(N_LANES))
# The longest wait of a reader is twelve times this.
PACE = Pace(poll_s=0.25)
# An answer that does not wait for the end of any grown wait.
AT_ONCE_S = 1.5


def n_calls(client: Bus, command: str) -> int:
    info: Any = client.info("commandstats")
    return int(info.get(f"cmdstat_{command}", {"calls": 0})["calls"])


class Idle:
    """A reader of many lanes to which nothing comes for so long that its waits grew."""

    def __init__(self, url: str, client: Bus) -> None:
        lanes = [lane_of(channel(name, name, dtype="uint8")) for name in NAMES]
        make_lanes(client, UID, NAMES)
        append_event(client, UID, prepared(*lanes))
        self.record = ScanRecord(identity())
        self.lanes = [LaneReader(UID, lane) for lane in lanes]
        self._client = connect(url, name="reader")
        self.reader = BusReader(self._client, self.record, PACE)
        while self.reader.poll_events() or not self.record.lanes:
            pass
        for _ in range(4):
            assert self.reader.read(self.lanes) == []

    def waits_for(self, act: Callable[[], object]) -> tuple[list[Any], float]:
        """Return what a read brings, and how long after it was sent, in seconds."""
        sent: list[float] = []

        def send() -> None:
            sent.append(time.monotonic())
            act()

        timer = threading.Timer(0.3, send)
        timer.start()
        found = self.reader.read(self.lanes)
        waited_s = time.monotonic() - (sent[0] if sent else 0.0)
        timer.join()
        assert sent, "the read ended before anything came"
        return found, waited_s


@pytest.fixture
def idle(redis_url: str) -> Idle:
    with connect(redis_url, name="tests") as client:
        return Idle(redis_url, client)


def test_points_of_any_lane_end_a_grown_wait(redis_url: str, idle: Idle) -> None:
    with connect(redis_url, name="tests") as client:
        found, waited_s = idle.waits_for(
            lambda: append_entries(client, UID, NAMES[-1], [frozen(0, 3)])
        )
        ((reader, arrivals),) = found
        assert reader.lane.name == NAMES[-1]
        assert [(one.start, one.stop) for one in arrivals] == [(0, 3)]
        assert waited_s < AT_ONCE_S

        # And the waits are short again: what comes next is not waited for either.
        for name in NAMES:
            append_entries(client, UID, name, [frozen(3, 1)])
        started = time.monotonic()
        assert len(idle.reader.read(idle.lanes)) == N_LANES
        assert time.monotonic() - started < AT_ONCE_S


def test_a_seal_ends_a_grown_wait_and_the_end_of_the_scan_is_looked_for(
    redis_url: str, idle: Idle
) -> None:
    with connect(redis_url, name="tests") as client:

        def seal_and_start() -> None:
            append_event(client, UID, ScanStarted(time=time.time()))
            append_entries(client, UID, NAMES[7], [frozen_seal(0)])

        found, _ = idle.waits_for(seal_and_start)
        kinds = {one.kind for _, part in found for one in part}
        deadline = time.monotonic() + 10.0
        while idle.record.started is None or Kind.SEAL not in kinds:
            assert time.monotonic() < deadline
            idle.reader.poll_events()
            found = idle.reader.read(idle.lanes)
            kinds |= {one.kind for _, part in found for one in part}


def test_an_event_ends_a_grown_wait(redis_url: str, idle: Idle) -> None:
    with connect(redis_url, name="tests") as client:
        started = ScanStarted(time=time.time())
        found, waited_s = idle.waits_for(lambda: append_event(client, UID, started))
    assert found == []
    assert waited_s < AT_ONCE_S
    assert idle.reader.poll_events()
    assert idle.record.started == started


def test_an_idle_reader_waits_in_one_command_for_all_lanes(
    redis_url: str, idle: Idle
) -> None:
    with connect(redis_url, name="tests") as client:
        before, started = n_calls(client, "xread"), time.monotonic()
        while time.monotonic() - started < 4.0:
            idle.reader.read(idle.lanes)
            idle.reader.poll_events()
        assert n_calls(client, "xread") - before < 8


# ------------------------------------------------------------------- publishers


def ungrouped(publisher: Publisher) -> Scan:
    scan = publisher.scan(quota_bytes=2**22)
    scan.__enter__()
    for name in NAMES:
        scan.channel(name)
    for name in NAMES:
        scan.send(name, 1.0)
    return scan


def acknowledge_what_is_there(client: Bus, uid: str) -> None:
    points = {}
    for name in NAMES:
        ends = stream_ends(client, uid, name)
        assert ends is not None
        points[uid, name] = sum(split_id(ends[1]))
    acknowledge_all(client, points)


def test_a_publisher_reads_cursors_of_idle_lanes_seldom_and_notes_them_when_asked(
    redis_url: str,
) -> None:
    with (
        connect(redis_url, name="tests") as client,
        Publisher(redis_url, name="tests", close_timeout_s=0.0) as publisher,
    ):
        scan = ungrouped(publisher)
        wait_until(lambda: n_calls(client, "xadd") >= N_LANES, 10.0)
        time.sleep(6.0)  # There is no writer: nothing becomes durable.
        before = n_calls(client, "hget")
        time.sleep(4.0)
        # One look at each lane is a hundred; at each tick it would be thousands.
        assert n_calls(client, "hget") - before <= 3 * N_LANES

        acknowledge_what_is_there(client, scan.uid)
        started = time.monotonic()
        scan.wait_durable(10.0)
        assert time.monotonic() - started < 2 * AT_ONCE_S
        before = n_calls(client, "hget")
        time.sleep(2.0)
        assert n_calls(client, "hget") - before <= N_LANES  # All is durable.


def test_points_after_a_long_silence_are_sent_and_written_at_once(
    redis_url: str, tmp_path: Path
) -> None:
    with (
        writer(redis_url, tmp_path),
        Publisher(redis_url, name="tests") as publisher,
    ):
        scan = ungrouped(publisher)
        time.sleep(8.0)
        with connect(redis_url, name="tests") as client:
            before = n_calls(client, "xadd")
            scan.send(NAMES[3], 2.0)
            started = time.monotonic()
            wait_until(lambda: n_calls(client, "xadd") > before, 10.0)
            assert time.monotonic() - started < AT_ONCE_S
        scan.__exit__(None, None, None)
        verdict = scan.verdict(30.0)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert {ledger.written for ledger in verdict.channels.values()} == {1, 2}
