"""Redis is killed, emptied, cut or full: what the writer lacks comes again."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from scanbus.bus.protocol import (
    ANNOUNCEMENTS,
    RESERVED,
    events_key,
    heartbeat_key,
    lane_key,
)
from scanbus.bus.store import Bus, acknowledge, append_entries, connect, used_memory
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.buffers.entry_builder import gap_entry
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import DeadlineError, LaneConflictError
from tests.conftest import RedisFactory
from tests.support.proxy import Proxy
from tests.support.published import MemoryWriter, frames, read_scan, record_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

SHAPE = (300, 300)


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


@pytest.fixture
def publisher(server: PrivateRedis) -> Iterator[Publisher]:
    with Publisher(server.url, name="tests", close_timeout_s=0.2) as publisher:
        yield publisher


def declare(scan: Scan) -> None:
    scan.channel("a", group="g")
    scan.channel("b", group="g")
    scan.detector("d", shape=SHAPE, dtype="uint32")


def send(scan: Scan, first: int, stop: int) -> None:
    for point in range(first, stop):
        scan.send("a", point * 1.0)
        scan.send("b", point * 2.0)
        scan.send("d", frames(point, 1, SHAPE))


def assert_whole(client: Bus, uid: str, stop: int, durable: int = 0) -> None:
    """What stands on the bus are all points, those before `durable` perhaps as such."""
    lanes = read_scan(client, uid)
    for lane in lanes.values():
        assert lane.odd == []
    values = lanes["g"].values("a")
    assert values == [float(point) for point in range(stop)]
    assert lanes["g"].values("b") == [2.0 * point for point in range(stop)]
    images = lanes["d"].values("d")
    assert len(images) == stop
    for point, image in enumerate(images):
        if point >= durable:
            np.testing.assert_array_equal(image, frames(point, 1, SHAPE)[0])


def is_sealed(client: Bus, uid: str) -> bool:
    if record_of(client, uid).ended is None:
        return False
    return all(lane.length is not None for lane in read_scan(client, uid).values())


def test_everything_is_there_again_after_redis_came_back_empty(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with publisher.scan(metadata={"note": "once"}) as scan:
        declare(scan)
        send(scan, 0, 30)
        scan.update(metadata={"more": 1})
        feeding = threading.Thread(target=send, args=(scan, 30, 200))
        feeding.start()
        server.kill()
        server.start()
        feeding.join(30)
        scan.update(metadata={"later": 2})
    with connect(server.url, name="test") as client:
        wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
        wait_until(lambda: is_sealed(client, scan.uid), timeout_s=20)
        assert_whole(client, scan.uid, 200)
        record = record_of(client, scan.uid)
        assert record.metadata() == {"note": "once", "more": 1, "later": 2}
        assert client.hget(RESERVED, scan.uid)
        with publisher.scan(quota_bytes=10**6) as later:
            assert later.identity.scan_number == 2


def test_a_scan_is_announced_again_when_all_that_says_what_it_is_is_there(
    server: PrivateRedis, publisher: Publisher
) -> None:
    """Killed before, its publisher leaves no scan that was never prepared."""
    with publisher.scan() as scan, connect(server.url, name="test") as client:
        declare(scan)
        send(scan, 0, 10)
        scan.update(metadata={"more": 1})
        scan.flush()
        with client.monitor() as commands:
            client.flushall()
            wait_until(lambda: client.xlen(events_key(scan.uid)) >= 3)
            wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
            client.echo("over")
            added = []
            for each in commands.listen():
                word, _, rest = each["command"].partition(" ")
                if word.upper() == "ECHO":
                    break
                if word.upper() == "XADD":
                    added.append(rest.partition(" ")[0])
    events = events_key(scan.uid)
    assert added.count(events) == 3  # prepared, started, updated
    assert [key for key in added if key in (events, ANNOUNCEMENTS)] == [
        *([events] * 3),
        ANNOUNCEMENTS,
    ]


def test_a_scan_that_is_idle_notices_that_redis_came_back_empty(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with publisher.scan() as scan:
        declare(scan)
        send(scan, 0, 10)
    with connect(server.url, name="test") as client:
        wait_until(lambda: is_sealed(client, scan.uid))
    server.kill()
    server.start()
    with connect(server.url, name="test") as client:
        wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
        wait_until(lambda: is_sealed(client, scan.uid))
        assert_whole(client, scan.uid, 10)


def test_a_scan_notices_that_redis_was_flushed_under_its_connections(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with publisher.scan() as scan:
        declare(scan)
        send(scan, 0, 10)
        scan.detector  # noqa: B018 - nothing is sent from here on
        with connect(server.url, name="test") as client:
            wait_until(lambda: len(read_scan(client, scan.uid)["d"].entries) > 1)
            client.flushall()
            wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
            send(scan, 10, 20)
    with connect(server.url, name="test") as client:
        wait_until(lambda: is_sealed(client, scan.uid))
        assert_whole(client, scan.uid, 20)


def test_a_lane_that_vanishes_while_sending_is_made_again_without_a_hole(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with publisher.scan() as scan, connect(server.url, name="test") as client:
        declare(scan)
        send(scan, 0, 50)
        wait_until(lambda: bool(client.xlen(lane_key(scan.uid, "d"))))
        client.delete(lane_key(scan.uid, "d"), lane_key(scan.uid, "g"))
        send(scan, 50, 100)
    with connect(server.url, name="test") as client:
        wait_until(lambda: is_sealed(client, scan.uid))
        assert_whole(client, scan.uid, 100)


def test_durable_points_that_redis_lost_are_said_to_be_durable(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with publisher.scan() as scan:
        declare(scan)
        send(scan, 0, 20)
        with connect(server.url, name="test") as client:
            wait_until(lambda: len(read_scan(client, scan.uid)["d"].values("d")) == 20)
            first = read_scan(client, scan.uid)["d"].entries[0]
            acknowledge(client, scan.uid, "d", first.stop)
        lane = scan._queue.lanes["d"]
        wait_until(lambda: lane.durable == first.stop)
        server.kill()
        server.start()
    with connect(server.url, name="test") as client:
        wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
        wait_until(lambda: is_sealed(client, scan.uid))
        assert_whole(client, scan.uid, 20, durable=first.stop)
        stand_in = read_scan(client, scan.uid)["d"].entries[0]
        assert stand_in.is_durable
        assert stand_in.stop == first.stop


def test_the_tail_that_the_append_only_file_lost_is_sent_again(
    server: PrivateRedis, publisher: Publisher
) -> None:
    """As after SIGKILL with AOF everysec: the same lane without its last entries."""
    with publisher.scan() as scan:
        declare(scan)
        send(scan, 0, 40)
    with connect(server.url, name="test") as client:
        wait_until(lambda: is_sealed(client, scan.uid))
        for lane in ("d", "g"):
            shorten(client, scan.uid, lane)
        client.xtrim(events_key(scan.uid), maxlen=0)
        client.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda: is_sealed(client, scan.uid))
        assert_whole(client, scan.uid, 40)


def shorten(client: Bus, uid: str, lane: str) -> None:
    """Make a lane again with the first half of its entries."""
    entries: Any = client.xrange(lane_key(uid, lane))
    batch: Any = client.pipeline(transaction=True)
    with batch as pipe:
        pipe.delete(lane_key(uid, lane))
        for stream_id, fields in entries[: len(entries) // 2]:
            pipe.execute_command("XADD", lane_key(uid, lane), stream_id, *fields)
        pipe.execute()


def test_many_losses_in_a_row_with_a_writer_lose_nothing(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with MemoryWriter(server.url, judges=False) as writer:
        with publisher.scan(quota_bytes=30 * 2**20) as scan:
            declare(scan)
            for turn in range(3):
                feeding = threading.Thread(
                    target=send, args=(scan, turn * 60, turn * 60 + 60)
                )
                feeding.start()
                server.kill()
                server.start()
                feeding.join(30)
        with connect(server.url, name="test") as client:
            wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
            wait_until(lambda: is_sealed(client, scan.uid), timeout_s=20)
            lanes = writer.lanes
            wait_until(lambda: lanes[scan.uid, "d"].length == 180, timeout_s=20)
    seen = {}
    lane = lanes[scan.uid, "d"]
    for entry, image in zip(
        (e for e in lane.entries for _ in range(e.count)), lane.values("d"), strict=True
    ):
        if not entry.is_durable:
            seen[int(image[0, 0]) // 7] = image
    assert sorted(seen) == list(range(180))


def test_a_full_redis_is_waited_for_and_relieved_by_trimming(
    redis_factory: RedisFactory,
) -> None:
    """Publishers wait at maxmemory: the writer removes what is in its files."""
    server = redis_factory({"maxmemory": "60mb", "maxmemory-policy": "noeviction"})
    with (
        MemoryWriter(server.url, room_bytes=20 * 2**20),
        Publisher(server.url, close_timeout_s=10) as pub,
    ):
        for _ in range(4):
            with pub.scan(quota_bytes=16 * 2**20) as scan:
                scan.detector("d", shape=SHAPE, dtype="uint32", codec="none")
                scan.send("d", frames(0, 100, SHAPE))
            assert scan.verdict(20).verdict is VerdictWord.COMPLETE


def test_a_redis_without_room_is_named_when_the_deadline_comes(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory({"maxmemory": "60mb", "maxmemory-policy": "noeviction"})
    with (
        Publisher(server.url, close_timeout_s=0.2, send_deadline_s=0.5) as publisher,
        connect(server.url, name="test") as client,
    ):
        with publisher.scan(quota_bytes=8 * 2**20) as scan:
            scan.detector("d", shape=SHAPE, dtype="uint32", codec="none")
            scan.prepare()
            client.config_set("maxmemory", 1)
            with pytest.raises(DeadlineError, match="OOM"):
                scan.send("d", frames(0, 100, SHAPE))
            client.config_set("maxmemory", "60mb")
        wait_until(lambda: is_sealed(client, scan.uid))
        lane = read_scan(client, scan.uid)["d"]
        assert lane.length
        np.testing.assert_array_equal(lane.values("d"), frames(0, lane.length, SHAPE))


def test_what_does_not_fit_at_once_is_sent_entry_by_entry(
    redis_factory: RedisFactory,
) -> None:
    """The points of an open segment may be all that keeps a full Redis from relief."""
    server = redis_factory({"maxmemory": "60mb", "maxmemory-policy": "noeviction"})
    with (
        Publisher(server.url, close_timeout_s=0.2) as publisher,
        connect(server.url, name="test") as client,
    ):
        with publisher.scan(quota_bytes=16 * 2**20) as scan:
            scan.detector("d", shape=SHAPE, dtype="uint32", codec="none")
            scan.prepare()
            client.config_set("maxmemory", 1)
            scan.send("d", frames(0, 20, SHAPE))  # 7 MB: one batch
            wait_until(lambda: "OOM" in scan._queue.why_waiting)
            client.config_set("maxmemory", used_memory(client) + 3 * 2**20)
            wait_until(lambda: client.xlen(lane_key(scan.uid, "d")) >= 4)
            client.config_set("maxmemory", "60mb")
        wait_until(lambda: is_sealed(client, scan.uid))
        lane = read_scan(client, scan.uid)["d"]
        np.testing.assert_array_equal(lane.values("d"), frames(0, 20, SHAPE))


def test_a_full_redis_delays_the_start_of_a_scan_until_its_deadline(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory({"maxmemory": "60mb", "maxmemory-policy": "noeviction"})
    with (
        Publisher(server.url, close_timeout_s=0, send_deadline_s=0.3) as publisher,
        connect(server.url, name="test") as client,
    ):
        client.config_set("maxmemory", 1)
        with pytest.raises(DeadlineError, match=r"scan number.*OOM"):
            publisher.scan().__enter__()


def test_two_publishers_of_one_scan_are_told_apart(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with Publisher(server.url, close_timeout_s=0.2) as other:
        with publisher.scan(uid="samesamesame", quota_bytes=10**7) as scan:
            scan.channel("a")
            scan.send("a", 1.0)
            with connect(server.url, name="test") as client:
                wait_until(lambda: bool(client.xlen(lane_key(scan.uid, "a"))))
            with pytest.raises(LaneConflictError, match="two processes"):  # noqa: PT012
                with other.scan(uid="samesamesame", quota_bytes=10**7) as twin:
                    twin.channel("a")
                    # Two at once: Redis would take 0-2 behind the 0-1 that is there.
                    twin.send("a", [2.0, 2.0])
            scan.send("a", 3.0)
        with connect(server.url, name="test") as client:
            wait_until(lambda: is_sealed(client, scan.uid))
            assert read_scan(client, scan.uid)["a"].values("a") == [1.0, 3.0]
            ended = record_of(client, scan.uid).ended
            assert ended is not None
            assert ended.end_reason == "SUCCESS"
        with pytest.raises(LaneConflictError):
            twin.verdict(1)


def test_an_entry_of_somebody_else_is_seen_when_comparing(
    server: PrivateRedis, publisher: Publisher
) -> None:
    with (
        suppress(LaneConflictError),  # at the end of the block, once more
        publisher.scan() as scan,
        connect(server.url, name="test") as client,
    ):
        scan.channel("a")
        scan.prepare()
        wait_until(lambda: len(client.client_list()) > 2)  # the monitor, too
        append_entries(client, scan.uid, "a", [gap_entry(0, 5, b"stranger")])
        client.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda: scan._queue.error is not None)
        with pytest.raises(LaneConflictError):
            scan.send("a", 1.0)


def test_a_sign_of_life_comes_at_once_after_a_reconnect(redis_url: str) -> None:
    with Publisher(redis_url, close_timeout_s=0) as publisher:
        with publisher.scan() as scan, connect(redis_url, name="test") as client:
            scan.channel("a")
            scan.send("a", 1.0)
            key = heartbeat_key(scan.uid)
            client.delete(key)
            wait_until(lambda: bool(client.exists(key)))  # The next one: in 2 s.
            client.delete(key)
            client.client_kill_filter(_type="normal", skipme=True)
            wait_until(lambda: bool(client.exists(key)), timeout_s=1.5)


def test_a_connection_that_died_while_nobody_used_it_refuses_no_scan(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory(tcp=True)
    with Proxy(int(server.tcp_url.rpartition(":")[2])) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=0.5"
        with (
            connect(server.url, name="test") as client,
            Publisher(url, name="tests", close_timeout_s=0.2) as publisher,
        ):
            # As where a firewall forgets it: no answer, and no word that it is over.
            proxy.half_open()

            with publisher.scan(uid="afterapause") as scan:
                declare(scan)
                send(scan, 0, 3)
            wait_until(lambda: is_sealed(client, "afterapause"))
            assert_whole(client, "afterapause", 3)
