"""Open scans without points ask Redis for little, however many they are."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from scanbus.bus.store import Bus, connect
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import VerdictWord
from tests.support.waiting import found_below
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis

WATCH_S = 6.0


def n_commands(client: Bus) -> int:
    info: Any = client.info("commandstats")
    return sum(each["calls"] for each in info.values())


def rate(client: Bus) -> float:
    """Return the commands per second, those inside scripts included."""
    before, started = n_commands(client), time.monotonic()
    time.sleep(WATCH_S)
    return (n_commands(client) - before) / (time.monotonic() - started)


@contextmanager
def open_scans(publisher: Publisher, count: int) -> Iterator[list[Scan]]:
    with ExitStack() as stack:
        scans = [
            stack.enter_context(publisher.scan(quota_bytes=2**20)) for _ in range(count)
        ]
        for scan in scans:
            scan.channel("counter")
            scan.send("counter", 0.0)
        yield scans


def test_twenty_idle_scans_cost_few_commands_and_are_awake_at_once(
    redis_url: str, tmp_path: Path
) -> None:
    with (
        connect(redis_url, name="tests") as client,
        writer(redis_url, tmp_path),
        Publisher(redis_url, name="tests") as publisher,
    ):
        with open_scans(publisher, 1) as (scan,):
            pass
        scan.verdict(30.0)
        none = rate(client)
        with open_scans(publisher, 20) as scans:
            time.sleep(8.0)  # Waits grow to their full length.
            twenty = rate(client) - none
            # It was 840/s, and is 27: under load commands are late, not more. Some are
            # sent every 5 s, so that a look of 6 s may see them twice.
            assert twenty < 55

            started = time.monotonic()
            scans[0].send("counter", 1.0)
        verdicts = [scan.verdict(30.0) for scan in scans]
        waited_s = time.monotonic() - started
    assert [one.verdict for one in verdicts] == [VerdictWord.COMPLETE] * 20
    assert waited_s < 30


def test_an_idle_scan_costs_as_much_however_many_lanes_it_has(
    redis_url: str, tmp_path: Path
) -> None:
    with (
        connect(redis_url, name="tests") as client,
        writer(redis_url, tmp_path),
        Publisher(redis_url, name="tests") as publisher,
    ):
        with open_scans(publisher, 1) as (scan,):
            pass
        scan.verdict(30.0)
        none = rate(client)
        with publisher.scan() as scan:
            for number in range(200):
                scan.detector(f"d{number}", shape=(2, 2), dtype="uint16", points=1)
            scan.prepare()
            time.sleep(8.0)
            # It was 30/s, most of it one TYPE for each lane.
            assert rate(client) - none < 10


def test_a_stop_is_seen_by_an_idle_scan_and_its_successor_goes_on(
    redis_url: str, tmp_path: Path
) -> None:
    """Waits that grew are bounded."""
    with Publisher(redis_url, name="tests") as publisher:
        with open_scans(publisher, 1) as (scan,):
            with writer(redis_url, tmp_path) as service:
                wait_until(lambda: found_below(tmp_path, "events.jsonl"), 20.0)
                time.sleep(5.0)
                started = time.monotonic()
                service.process.terminate()
                service.process.communicate(timeout=20)
                assert time.monotonic() - started < 8
            with writer(redis_url, tmp_path):
                scan.send("counter", 1.0)
        with writer(redis_url, tmp_path):
            assert scan.verdict(60.0).channels["counter"].written == 2
