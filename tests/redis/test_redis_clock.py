"""Redis's wall clock is put back: the dead do not count as alive for longer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scanbus.bus.protocol import (
    LONGEST_TTL_MS,
    heartbeat_key,
    hold_key,
    lease_key,
    writer_key,
)
from scanbus.bus.store import (
    Bus,
    Lease,
    acquire_lease,
    beat_publisher,
    beat_writer,
    connect,
    hold_scan,
    is_held,
    publisher_is_alive,
    renew_lease,
    writer_is_alive,
)
from scanbus.cli.private_redis import PrivateRedis, find_redis_server
from tests.support.clocks import NO_CLOCKS, FakeClock, clocks_can_jump
from tests.support.writers import wait_until

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(not clocks_can_jump(), reason=NO_CLOCKS),
]
UID = "feedbeef"
DAY_S = 86_400


@pytest.fixture
def clock(tmp_path: Path) -> FakeClock:
    return FakeClock(tmp_path, "clock")


@pytest.fixture
def bus(clock: FakeClock) -> Iterator[Bus]:
    with (
        PrivateRedis(binary=clock.program(find_redis_server())) as server,
        connect(server.url, name="test") as client,
    ):
        yield client


def put_back(clock: FakeClock, bus: Bus, key: str) -> None:
    """Put the clock back by a day; what was to expire soon expires tomorrow."""
    clock.jump(-DAY_S)
    wait_until(lambda: bus.pttl(key) > DAY_S * 1000)


def test_a_dead_writers_lease_counts_for_as_long_as_it_said(
    clock: FakeClock, bus: Bus
) -> None:
    dead = acquire_lease(bus, UID, "the dead one", 400)
    assert dead is not None
    put_back(clock, bus, lease_key(UID, dead.fence))

    assert acquire_lease(bus, UID, "its successor", 60_000) is None

    def take_over() -> Lease | None:
        return acquire_lease(bus, UID, "its successor", 60_000)

    successor = wait_until(take_over)
    assert successor.fence == dead.fence + 1
    assert not renew_lease(bus, dead, 400)


def test_others_do_not_shorten_the_lease_of_one_that_lives(
    clock: FakeClock, bus: Bus
) -> None:
    mine = acquire_lease(bus, UID, "mine", 30_000)
    assert mine is not None
    put_back(clock, bus, lease_key(UID, mine.fence))

    assert acquire_lease(bus, UID, "somebody with less patience", 100) is None

    left_ms = bus.pttl(lease_key(UID, mine.fence))
    assert 20_000 < left_ms <= 30_000


@pytest.mark.parametrize("sign", ["publisher", "writer", "hold"])
def test_a_sign_of_life_does_not_outlive_its_owner_by_a_day(
    clock: FakeClock, bus: Bus, sign: str
) -> None:
    if sign == "publisher":
        key = heartbeat_key(UID)
        beat_publisher(bus, UID, "me", 10_000)
    elif sign == "writer":
        key = writer_key("me")
        beat_writer(bus, "me", {}, 10_000)
    else:
        key = hold_key(UID)
        hold_scan(bus, UID, 10_000)
    put_back(clock, bus, key)

    assert is_there(bus, sign)

    assert 0 < bus.pttl(key) <= LONGEST_TTL_MS
    bus.delete(key)
    assert not is_there(bus, sign)


def is_there(bus: Bus, sign: str) -> bool:
    if sign == "publisher":
        return publisher_is_alive(bus, UID)
    if sign == "writer":
        return writer_is_alive(bus, "me")
    return is_held(bus, UID)
