"""The scans of a dataset are in one session, whatever clocks and time zones say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from scanbus.bus.store import Bus, connect, session_of
from scanbus.publisher import Publisher
from tests.support.descriptions import identity

pytestmark = pytest.mark.redis

KEY = "scanbus:session:hg123/id00/sample/sample_0001"


@pytest.fixture
def bus(redis_url: str) -> Iterator[Bus]:
    with connect(redis_url, name="test") as client:
        yield client


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


def test_programs_of_all_time_zones_agree(bus: Bus, zone: pytest.MonkeyPatch) -> None:
    found = set()
    for name in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"):
        zone.setenv("TZ", name)
        time.tzset()
        found.add(session_of(bus, identity()))
    assert len(found) == 1


def test_a_session_goes_on_after_midnight_and_ends_after_a_day(
    redis_url: str, bus: Bus
) -> None:
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    bus.set(KEY, yesterday, ex=60)
    names = {"proposal": "hg123", "beamline": "id00", "dataset": "sample_0001"}
    with Publisher(redis_url, close_timeout_s=0) as publisher:
        with publisher.scan(**names) as scan:  # type: ignore[arg-type]
            assert scan.identity.session == yesterday
        assert 86_000 < int(bus.ttl(KEY)) <= 86_400
        bus.delete(KEY)
        with publisher.scan(**names) as scan:  # type: ignore[arg-type]
            assert scan.identity.session > yesterday


@pytest.mark.parametrize("junk", [{"set": "x"}, {"lpush": 1}])
def test_a_key_that_is_no_session_is_replaced(bus: Bus, junk: dict[str, str]) -> None:
    for command, value in junk.items():
        getattr(bus, command)(KEY, value)
    assert session_of(bus, identity()).isdigit()
    assert len(session_of(bus, identity())) == 8
