"""Live scans and live data: as they come, until the end, or with a named reason."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from scanbus.bus.store import acknowledge
from scanbus.schemas.errors import (
    BusUnavailableError,
    DeadlineError,
    NoLongerError,
    ScanInterruptedError,
)
from scanbus.subscriber import ScanReader, Subscriber
from tests.conftest import RedisFactory
from tests.support.raw_publisher import RawScan, frames
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def subscriber(redis_url: str) -> Iterator[Subscriber]:
    with Subscriber(redis_url, lapse_s=0.3) as subscriber:
        yield subscriber


@pytest.fixture
def raw(redis_url: str) -> Iterator[RawScan]:
    scan = RawScan(redis_url).prepare()
    yield scan
    scan.close()


@pytest.fixture
def scan(subscriber: Subscriber, raw: RawScan) -> ScanReader:
    return subscriber.scan(raw.uid)


def test_a_stream_gives_past_and_live_points_and_ends_with_the_seals(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_group(0, 5)

    def publish() -> None:
        for start in range(5, 50, 5):
            raw.send_group(start, start + 5)
        raw.send_frames(0, 4)
        raw.send_frames(4, 8)
        raw.end()

    publisher = threading.Thread(target=publish)
    got: dict[str, list[np.ndarray]] = {"th": [], "eiger": []}
    for batch in scan.stream("th", "eiger", timeout_s=20):
        if not publisher.ident:
            publisher.start()
        assert batch.start == sum(len(part) for part in got[batch.channel])
        assert len(batch) == len(batch.values) == batch.stop - batch.start
        assert batch.times[0] > 0
        got[batch.channel].append(batch.values)
    publisher.join()

    np.testing.assert_array_equal(np.concatenate(got["th"]), np.arange(50) * 0.5)
    np.testing.assert_array_equal(np.concatenate(got["eiger"]), frames(0, 8))


def test_a_stream_may_begin_inside_an_entry_or_with_a_point_to_come(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_group(0, 10)
    early = scan.stream("c1", start=7)
    later = scan.stream("c1", start=12)
    raw.send_group(10, 20)
    raw.end()

    assert [batch.values.tolist() for batch in early] == [
        [70, 80, 90],
        list(range(100, 200, 10)),
    ]
    assert [batch.values.tolist() for batch in later] == [list(range(120, 200, 10))]


def test_now_means_what_comes_after_the_call(raw: RawScan, scan: ScanReader) -> None:
    raw.send_group(0, 5)
    stream = scan.stream("th", start="now")
    raw.send_group(5, 6)
    raw.end()
    assert [(batch.start, batch.stop) for batch in stream] == [(5, 6)]
    assert list(scan.stream(start="now")) == []


def test_all_channels_are_streamed_if_none_is_named(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_group(0, 2)
    raw.send("hits", {"hits": [np.zeros(2)]})
    raw.end()
    channels = [batch.channel for batch in scan.stream()]
    assert channels == ["th", "c1", "label", "hits"]


def test_latest_only_skips_to_the_newest_and_still_sees_the_end(
    raw: RawScan, scan: ScanReader
) -> None:
    for start in range(0, 20, 4):
        raw.send_frames(start, start + 4)
    seen = []
    for batch in scan.stream("eiger", latest_only=True, timeout_s=10):
        seen.append((batch.start, batch.stop, int(batch.values[-1].max())))
        if len(seen) == 1:
            raw.send_frames(20, 24)
        elif len(seen) == 2:
            raw.send_frames(24, 28)
            raw.send_frames(28, 30)
            raw.end()
    assert seen == [(16, 20, 19), (20, 24, 23), (28, 30, 29)]


def test_latest_only_of_a_trimmed_lane_ends(raw: RawScan, scan: ScanReader) -> None:
    raw.send_frames(0, 4)
    raw.seal("eiger")
    acknowledge(raw.client, raw.uid, "eiger", 4)
    raw.trim("eiger", 4)
    assert list(scan.stream("eiger", latest_only=True, timeout_s=5)) == []


def test_missing_points_come_as_batches_that_name_them(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_group(0, 1)
    raw.gap("g", 1)
    raw.send(
        "g",
        {"th": [1.0, 1.5], "c1": [20, 30], "label": ["", ""]},
        gaps={"th": ((3, 4),)},
    )
    raw.send("g", {"th": [9.0], "c1": [9], "label": ["bad"]}, damaged=True)
    raw.lose("g", 2)
    raw.end()

    batches = list(scan.stream("th"))
    assert [batch.missing for batch in batches] == [
        (),
        ((1, 2),),
        ((3, 4),),
        ((4, 5),),
        ((5, 7),),
    ]
    values = np.concatenate([batch.values for batch in batches])
    np.testing.assert_array_equal(np.isnan(values), [0, 1, 0, 1, 1, 1, 1])


def test_trimmed_points_are_an_error_unless_only_the_latest_matter(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_frames(0, 4)
    raw.send_frames(4, 8)
    acknowledge(raw.client, raw.uid, "eiger", 4)
    raw.trim("eiger", 4)
    raw.end()

    with pytest.raises(NoLongerError) as no_longer:
        list(scan.stream("eiger"))
    assert no_longer.value.point == 0
    assert [batch.start for batch in scan.stream("eiger", start=4)] == [4]
    assert [batch.start for batch in scan.stream("eiger", latest_only=True)] == [4]


def test_a_wait_without_data_has_a_deadline(scan: ScanReader) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        list(scan.stream("th", timeout_s=0.2))
    assert 0.2 <= time.monotonic() - began < 2


def test_a_silent_publisher_ends_the_iteration_with_a_name(
    subscriber: Subscriber, redis_url: str
) -> None:
    raw = RawScan(redis_url, heartbeat_s=0.1).prepare()
    raw.send_group(0, 3)
    batches = iter(subscriber.scan("last").stream("th", "eiger"))
    assert next(batches).stop == 3
    with pytest.raises(ScanInterruptedError) as interrupted:
        next(batches)
    assert interrupted.value.points == {"th": 3, "eiger": 0}
    raw.close()


def test_scans_are_followed_from_now_or_from_the_beginning(
    subscriber: Subscriber, redis_url: str
) -> None:
    RawScan(redis_url, number=1).close()
    live = subscriber.follow(timeout_s=5)
    everything = subscriber.follow(from_now=False, timeout_s=0.1)
    RawScan(redis_url, number=2).close()

    assert next(live).record.identity.scan_number == 2
    later = threading.Timer(0.2, lambda: RawScan(redis_url, number=3).close())
    later.start()
    assert next(live).record.identity.scan_number == 3
    later.join()
    numbers = [next(everything).record.identity.scan_number for _ in range(3)]
    assert numbers == [1, 2, 3]
    with pytest.raises(DeadlineError):
        next(everything)


def test_a_stream_goes_on_after_redis_restarted(redis_factory: RedisFactory) -> None:
    server = redis_factory({"appendonly": "yes", "appendfsync": "always"}, tcp=True)
    raw = RawScan(server.url).prepare()
    raw.send_group(0, 3)
    with Subscriber(server.url, reconnect_s=20) as subscriber:
        batches = iter(subscriber.scan("last").stream("c1", timeout_s=20))
        assert next(batches).values.tolist() == [0, 10, 20]

        def restart() -> None:
            wait_until(lambda: raw.client.info("clients")["blocked_clients"] > 0)
            server.kill()
            server.restart()
            raw.send_group(3, 5)
            raw.end()

        breaker = threading.Thread(target=restart)
        breaker.start()
        assert [batch.values.tolist() for batch in batches] == [[30, 40]]
        breaker.join()
    raw.close()


def test_a_redis_that_stays_away_is_given_up_at_the_deadline(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory()
    with Subscriber(server.url, reconnect_s=0.3) as subscriber:
        assert subscriber.scans() == []
        server.kill()
        with pytest.raises(BusUnavailableError):
            subscriber.scans()


def test_scalars_arrive_as_arrays_within_a_millisecond(
    raw: RawScan, scan: ScanReader
) -> None:
    """Median from just before XADD to the decoded array; a busy machine gets slack."""
    sent_at: list[float] = []
    delays: list[float] = []

    def publish() -> None:
        for number in range(300):
            time.sleep(0.002)
            sent_at.append(time.perf_counter())
            raw.send_group(number, number + 1)
        raw.end()

    stream = scan.stream("th", timeout_s=20)
    publisher = threading.Thread(target=publish)
    publisher.start()
    for batch in stream:
        assert batch.values[-1] == (batch.stop - 1) * 0.5
        delays.append(time.perf_counter() - sent_at[batch.stop - 1])
    publisher.join()
    median_s = sorted(delays)[len(delays) // 2]
    print(f"median {median_s * 1e6:.0f} us")  # noqa: T201 - shown by pytest -s
    assert median_s < 5e-3
