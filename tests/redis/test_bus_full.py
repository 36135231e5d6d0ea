"""Everything that ends a scan and frees memory works on a Redis that takes nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from scanbus.bus.protocol import (
    ANNOUNCEMENTS,
    RESERVED,
    heartbeat_key,
    hold_key,
    number_key,
)
from scanbus.bus.store import (
    Bus,
    Evictor,
    Freed,
    Lease,
    NoRoomError,
    acknowledge,
    acquire_lease,
    announce,
    append_entries,
    append_event,
    beat_publisher,
    beat_writer,
    connect,
    find_scan,
    hold_scan,
    is_held,
    load_record,
    make_lane,
    move_position,
    next_scan_number,
    no_room_reason,
    publisher_is_alive,
    raise_scan_number,
    read_cursor,
    read_position,
    release_lease,
    release_quota,
    renew_lease,
    reserve_quota,
    stream_ends,
    used_memory,
    writers_alive,
)
from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import EndReason, ScanEnded, ScanJudged, Verdict, VerdictWord
from scanbus.schemas.errors import QuotaRefusedError
from tests.support.descriptions import NOW, UID, announced, bytes_lane, prepared
from tests.support.published import safe_and_shown
from tests.support.raw_entries import frozen

pytestmark = pytest.mark.redis
BUDGET = 10**9


@pytest.fixture(scope="module")
def started(redis_binary: Path) -> Iterator[Bus]:
    options = {"maxmemory": "16mb", "maxmemory-policy": "noeviction"}
    with PrivateRedis(options=options, binary=redis_binary) as server:
        with connect(server.url, name="test") as client:
            yield client


@pytest.fixture
def full(started: Bus) -> Bus:
    """A client of a Redis with one scan, filled to the brim."""
    started.config_set("maxmemory", "16mb")
    started.flushall()
    announce(started, announced())
    append_event(started, UID, prepared(bytes_lane()))
    make_lane(started, UID, "group")
    entries = [frozen(number, 1, b"x" * 1000) for number in range(300)]
    append_entries(started, UID, "group", entries)
    beat_publisher(started, UID, "me", 60_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        fill(started)
    # Buffers of connections come and go: without this it would be full by chance.
    started.config_set("maxmemory", used_memory(started) - 2**20)
    return started


def fill(client: Bus) -> None:
    """Write until nothing more is taken, not even the smallest value."""
    size = 4 << 20
    for number in range(1000):
        try:
            client.set(f"filler:{number}", b"x" * size)
        except redis.exceptions.OutOfMemoryError:
            if size == 1:
                raise
            size //= 4
    raise AssertionError("Redis never became full")


def is_full(client: Bus) -> bool:
    try:
        client.set("one more", b"x")
    except redis.exceptions.OutOfMemoryError:
        return True
    return False


Call = Callable[[Bus], object]
OTHER = UID[::-1]
# What is asked of it, and how one sees that it was done.
CALLS: dict[str, tuple[Call, Call, object]] = {
    "acknowledge": (
        lambda bus: acknowledge(bus, UID, "group", 100),
        lambda bus: read_cursor(bus, UID, "group"),
        100,
    ),
    "hold": (
        lambda bus: hold_scan(bus, UID, 60_000),
        lambda bus: is_held(bus, UID),
        True,
    ),
    "release": (
        lambda bus: release_quota(bus, UID),
        lambda bus: bus.hget(RESERVED, UID),
        None,
    ),
    "reserve": (
        lambda bus: reserve_quota(bus, UID, 1000, BUDGET),
        lambda bus: bus.hget(RESERVED, UID),
        b"1000",
    ),
    "acquire": (
        lambda bus: acquire_lease(bus, UID, "writer", 60_000),
        lambda bus: acquire_lease(bus, UID, "another", 60_000),
        None,
    ),
    "beat": (
        lambda bus: beat_publisher(bus, UID, "me", 60_000),
        lambda bus: publisher_is_alive(bus, UID),
        True,
    ),
    "beat of another scan": (
        lambda bus: beat_publisher(bus, OTHER, "me", 60_000),
        lambda bus: publisher_is_alive(bus, OTHER),
        True,
    ),
    "beat of a writer": (
        lambda bus: beat_writer(bus, "w", {}, 60_000),
        lambda bus: list(writers_alive(bus)),
        ["w"],
    ),
    "announce": (
        lambda bus: announce(bus, announced()),
        lambda bus: bus.xlen(ANNOUNCEMENTS),
        3,
    ),
    "move position": (lambda bus: move_position(bus, "5-1"), read_position, "5-1"),
    "raise number": (
        lambda bus: raise_scan_number(bus, "d", 7),
        lambda bus: bus.get(number_key("d")),
        b"7",
    ),
    "read events": (
        lambda bus: load_record(bus, announced()),
        lambda bus: load_record(bus, announced()).prepared,
        prepared(bytes_lane()),
    ),
    "find scan": (
        lambda bus: find_scan(bus, UID),
        lambda bus: find_scan(bus, UID).identity,
        announced().scan,
    ),
    "ends of a lane": (
        lambda bus: stream_ends(bus, UID, "group"),
        lambda bus: stream_ends(bus, UID, "group"),
        (b"0-1", b"299-1"),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_full_redis_takes(full: Bus, name: str) -> None:
    call, done, expected = CALLS[name]

    call(full)
    call(full)  # The second time, the keys are there.

    assert done(full) == expected
    assert is_full(full)


def test_a_full_redis_keeps_what_it_was_told(full: Bus) -> None:
    acknowledge(full, UID, "group", 100)
    acknowledge(full, UID, "group", 50)
    hold_scan(full, UID, 60_000)
    move_position(full, "5-1")
    beat_writer(full, "w", {"host": "here"}, 60_000)

    assert is_full(full)
    assert read_cursor(full, UID, "group") == 100
    assert 0 < int(full.pttl(hold_key(UID))) <= 60_000
    assert read_position(full) == "5-1"
    assert writers_alive(full) == {"w": {"host": "here"}}


def test_leases_change_hands_on_a_full_redis(full: Bus) -> None:
    first = acquire_lease(full, UID, "one", 60_000)
    assert first is not None
    assert acquire_lease(full, UID, "two", 60_000) is None
    assert renew_lease(full, first, 60_000)
    release_lease(full, first)
    second = acquire_lease(full, UID, "two", 60_000)
    assert second == Lease(UID, first.fence + 1)
    assert is_full(full)


def test_a_scan_ends_and_is_judged_on_a_full_redis(full: Bus) -> None:
    ended = ScanEnded(time=NOW, end_reason=EndReason.SUCCESS)
    judged = ScanJudged(
        time=NOW, verdict=Verdict(uid=UID, verdict=VerdictWord.COMPLETE)
    )
    append_event(full, UID, ended)
    append_event(full, UID, judged)

    record = load_record(full, announced())
    assert record.ended == ended
    assert record.state == "complete"
    assert is_full(full)


def test_heartbeats_are_renewed_and_begun_again_on_a_full_redis(full: Bus) -> None:
    assert beat_publisher(full, UID, "me", 60_000)
    full.delete(heartbeat_key(UID))
    assert not publisher_is_alive(full, UID)
    assert not beat_publisher(full, UID, "me", 60_000)
    assert publisher_is_alive(full, UID)


def test_quotas_are_counted_on_a_full_redis(full: Bus) -> None:
    reserve_quota(full, UID, 60, 100)
    with pytest.raises(QuotaRefusedError):
        reserve_quota(full, UID[::-1], 50, 100)
    release_quota(full, UID)
    reserve_quota(full, UID[::-1], 50, 100)


def test_a_full_redis_is_emptied_as_far_as_was_acknowledged(full: Bus) -> None:
    before = used_memory(full)
    assert not Evictor().free(full, 1)

    safe_and_shown(full, UID, "group", 250)

    assert Evictor().free(full, 1).entries == 250
    assert used_memory(full) < before - 200_000
    full.config_set("maxmemory", before)
    assert stream_ends(full, UID, "group") == (b"250-1", b"299-1")
    append_entries(full, UID, "group", [frozen(300, 1, b"x" * 1000)])


def test_a_full_redis_forgets_what_is_finished(full: Bus) -> None:
    ended = ScanEnded(time=NOW, end_reason=EndReason.SUCCESS)
    verdict = Verdict(uid=UID, verdict=VerdictWord.COMPLETE)
    append_event(full, UID, ended)
    append_event(full, UID, ScanJudged(time=NOW, verdict=verdict))
    acknowledge(full, UID, "group", 300)
    full.delete(heartbeat_key(UID))
    assert is_full(full)

    assert Evictor().free(full, 1, kept_scans=0) == Freed(entries=300, scans=1)

    assert not list(full.scan_iter(f"*{UID}*"))
    assert full.xlen(ANNOUNCEMENTS) == 0
    assert is_full(full)


def test_a_full_redis_takes_no_points_and_makes_no_lanes(full: Bus) -> None:
    for count in (1, 3):
        entries = [frozen(300 + number, 1) for number in range(count)]
        with pytest.raises(NoRoomError, match="OOM"):
            append_entries(full, UID, "group", entries)
    with pytest.raises(NoRoomError, match="OOM"):
        make_lane(full, UID, "another")
    assert stream_ends(full, UID, "group") == (b"0-1", b"299-1")


def test_a_number_cannot_be_given_by_a_full_redis(full: Bus) -> None:
    """It is wanted before a scan: there is nothing to end yet, and it will wait."""
    with pytest.raises(redis.exceptions.ResponseError) as refused:
        next_scan_number(full, "d", "numbered")
    assert "OOM" in (no_room_reason(refused.value) or "")
    assert not full.exists(number_key("d"))
