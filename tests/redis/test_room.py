"""Room on the bus: who makes it, who waits for it, and how much a scan reserves."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from structlog.testing import capture_logs

from scanbus.bus.protocol import (
    ALLOCATED_SHARE,
    MOST_WATERMARK,
    budget_bytes,
    events_key,
    heartbeat_key,
    lane_key,
)
from scanbus.bus.store import (
    Bus,
    acknowledge,
    connect,
    release_quota,
    reserve_quota,
    reserved_quotas,
    used_memory,
)
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import ConfigurationError, DeadlineError, QuotaRefusedError
from scanbus.writer import WriterSettings
from tests.conftest import RedisFactory
from tests.support.mixed_scan import fill as fill_raw
from tests.support.raw_publisher import RawScan
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.redis

MIB = 2**20
FRAME = np.arange(2**16, dtype=np.uint32).reshape(256, 256)


def quick_writer(folder: Path, more: str = "") -> tuple[str, str]:
    """Settings of a quick writer."""
    path = folder / "scanbus.toml"
    path.write_text(
        "heartbeat_s = 0.3\nlease_s = 1.0\nretry_s = 0.2\npoll_s = 0.05\n"
        f"least_free_bytes = 1000000\nlow_water_bytes = 0\n{more}"
    )
    return "--config", str(path)


def fill(scan: Scan, n_frames: int) -> None:
    scan.detector("d", shape=FRAME.shape, dtype="uint32", codec="none")
    for _ in range(n_frames):
        scan.send("d", FRAME)


# The smallest, one that is no power of two, and one where Redis has no limit.
SHORT_BUDGETS = ((16, False), (24, True), (64, False))
BUDGETS = [
    pytest.param(
        memory_mib,
        is_assumed,
        id=f"{memory_mib}-{'assumed' if is_assumed else 'maxmemory'}",
        marks=() if (memory_mib, is_assumed) in SHORT_BUDGETS else pytest.mark.long,
    )
    for memory_mib in (16, 24, 40, 64, 256)
    for is_assumed in (False, True)
]


@pytest.mark.parametrize(("memory_mib", "is_assumed"), BUDGETS)
def test_publishers_find_their_budget_free_when_the_writer_is_gone(
    redis_factory: RedisFactory, tmp_path: Path, memory_mib: int, is_assumed: bool
) -> None:
    """Quotas and kept data fit together, of any size and where Redis has no limit.

    An entry is a little larger than a size of jemalloc, which allocates a quarter more.
    """
    memory = memory_mib * MIB
    server = redis_factory(None if is_assumed else {"maxmemory": memory})
    budget = budget_bytes(memory)
    config = quick_writer(tmp_path, f'memory_bytes = "{memory_mib}MiB"\n')
    with (
        connect(server.url, name="test") as client,
        Publisher(
            server.url, close_timeout_s=0.1, send_deadline_s=3, memory_bytes=memory
        ) as publisher,
        capture_logs() as logs,
    ):
        with writer(server.url, tmp_path / "root", *config) as process:
            n_frames = budget // (4 * FRAME.nbytes)
            for _ in range(20):
                with publisher.scan(quota_bytes=budget // 2) as scan:
                    fill(scan, n_frames)
                assert scan.verdict(60).verdict is VerdictWord.COMPLETE
            wait_until(lambda: used_memory(client) < memory - budget * ALLOCATED_SHARE)
            process.leave()
        kept = used_memory(client)
        with publisher.scan(quota_bytes=budget) as scan:
            # Its own quota stops it, not a Redis without memory.
            with pytest.raises(DeadlineError, match="no writer alive"):
                fill(scan, 2 * budget // FRAME.nbytes)
            assert scan._queue.watch.kept_bytes > budget - 2 * FRAME.nbytes
            assert kept < used_memory(client) < memory
    assert not [each for each in logs if each["event"] == "sending_paused"]


def test_a_writer_follows_a_maxmemory_that_is_lowered(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server = redis_factory({"maxmemory": "256mb"})
    with (
        connect(server.url, name="test") as client,
        writer(server.url, tmp_path / "root", *quick_writer(tmp_path)),
        Publisher(server.url, close_timeout_s=0.1) as publisher,
    ):
        for _ in range(20):
            with publisher.scan(quota_bytes=8 * MIB) as scan:
                fill(scan, 8)
            assert scan.verdict(60).verdict is VerdictWord.COMPLETE
        assert used_memory(client) > 40 * MIB
        client.config_set("maxmemory", "64mb")
        wait_until(lambda: used_memory(client) < (64 - 0.75 * 64) * MIB)


def one_scan(publisher: Publisher, quota_bytes: int, n_frames: int) -> None:
    with publisher.scan(quota_bytes=quota_bytes) as scan:
        fill(scan, n_frames)
    assert scan.verdict(60).verdict is VerdictWord.COMPLETE


def wait_until_below(client: Bus, most_bytes: float) -> None:
    wait_until(lambda: used_memory(client) < most_bytes, timeout_s=30)


@pytest.mark.parametrize("changes_mib", [(64, 32), (64, 256), (256, 40, 128)])
def test_quotas_and_kept_data_follow_a_maxmemory_that_is_changed(
    redis_factory: RedisFactory, tmp_path: Path, changes_mib: tuple[int, ...]
) -> None:
    """Both fit after each change: the next scan may reserve its new budget."""
    server = redis_factory({"maxmemory": f"{changes_mib[0]}mb"})
    with (
        connect(server.url, name="test") as client,
        writer(server.url, tmp_path / "root", *quick_writer(tmp_path)),
        Publisher(server.url, send_deadline_s=10, close_timeout_s=30) as publisher,
    ):
        for memory_mib in changes_mib:
            memory = memory_mib * MIB
            client.config_set("maxmemory", f"{memory_mib}mb")
            budget = budget_bytes(memory)
            with pytest.raises(QuotaRefusedError, match="never fits"):
                one_scan(publisher, budget + 1, 1)
            for _ in range(8):
                one_scan(publisher, budget // 2, budget // (4 * FRAME.nbytes))
            wait_until_below(client, memory - budget * ALLOCATED_SHARE)
            wait_until(lambda: not sum(reserved_quotas(client).values()))
            one_scan(publisher, budget, 4)


def test_a_redis_too_small_for_that_is_refused_at_the_start(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server = redis_factory({"maxmemory": "8mb"})
    with writer(server.url, tmp_path / "root", *quick_writer(tmp_path)) as process:
        assert process.wait() != 0
    assert "maxmemory is 8.0 MiB" in process.said
    assert "at least 16" in process.said
    assert "Traceback" not in process.said


def test_a_watermark_that_takes_the_publishers_budget_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.8 .* 123 %.*most 0\.4"):
        WriterSettings.load(root=tmp_path, watermark=0.8)
    settings = WriterSettings.load(root=tmp_path, watermark=MOST_WATERMARK)
    most = ALLOCATED_SHARE + settings.watermark
    assert budget_bytes(100) * most <= 100


def quick_scan(publisher: Publisher, number: int) -> Scan:
    """A scan of ten points, with all defaults."""
    with publisher.scan() as scan:
        scan.channel("th")
        scan.channel("i0")
        for point in range(10):
            scan.send("th", float(point))
            scan.send("i0", float(number))
    return scan


@pytest.mark.parametrize("n_scans", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_quick_scans_in_a_row_are_not_refused(
    redis_factory: RedisFactory, tmp_path: Path, n_scans: int
) -> None:
    server = redis_factory({"maxmemory": "1gb", "maxmemory-policy": "noeviction"})
    seconds = []
    with (
        writer(server.url, tmp_path / "root"),
        Publisher(server.url, close_timeout_s=120) as publisher,
    ):
        for number in range(n_scans):
            started = time.monotonic()
            scan = quick_scan(publisher, number)
            seconds.append(time.monotonic() - started)
        assert scan.verdict(300).verdict is VerdictWord.COMPLETE
    # 30 ms on a machine with nothing else to do: benchmarks/many_scans.py.
    assert median(seconds) < 0.5


@pytest.mark.parametrize("n_scans", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_small_scans_without_a_writer_reserve_what_they_hold(
    redis_factory: RedisFactory, n_scans: int
) -> None:
    server = redis_factory({"maxmemory": "1gb", "maxmemory-policy": "noeviction"})
    with (
        connect(server.url, name="test") as client,
        Publisher(server.url, close_timeout_s=0.1) as publisher,
    ):
        scans = [quick_scan(publisher, number) for number in range(n_scans)]
        wait_until(lambda: max(reserved_quotas(client).values()) < 40_000)
        reserved = reserved_quotas(client)
        assert set(reserved) == {scan.uid for scan in scans}
        lanes = [lane_key(scan.uid, name) for scan in scans for name in ("th", "i0")]
        keys = [*lanes, *(events_key(scan.uid) for scan in scans)]
        held = sum(int(client.execute_command("MEMORY", "USAGE", key)) for key in keys)
        assert held / 2 < sum(reserved.values()) < 4 * held


def test_scans_fit_until_their_bytes_fill_the_budget(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory({"maxmemory": "64mb", "maxmemory-policy": "noeviction"})
    with (
        connect(server.url, name="test") as client,
        Publisher(server.url, close_timeout_s=0.1, send_deadline_s=1) as publisher,
    ):
        n_scans = 0
        with suppress(DeadlineError):
            while True:
                with publisher.scan() as scan:
                    fill(scan, 8)
                n_scans += 1
        assert n_scans * 2 * MIB > 0.8 * budget_bytes(64 * MIB)
        assert sum(reserved_quotas(client).values()) <= budget_bytes(64 * MIB)


def test_a_scan_waits_for_room_and_goes_on_when_it_is_given_back(
    redis_url: str,
) -> None:
    with (
        connect(redis_url, name="test") as client,
        Publisher(redis_url, close_timeout_s=0.1) as publisher,
        ThreadPoolExecutor(1) as pool,
        capture_logs() as logs,
    ):
        reserve_quota(client, "another0", 2**31, 2**40)
        waiting = pool.submit(large_scan, publisher)
        wait_until(lambda: any(e["event"] == "waiting_for_quota" for e in logs))
        assert not waiting.done()
        release_quota(client, "another0")
        waiting.result(10)
    (said, *_) = [each for each in logs if each["event"] == "waiting_for_quota"]
    assert "2048.0 of 2457.6 MiB are reserved" in said["reason"]
    assert "no writer alive" in said["reason"]


def large_scan(publisher: Publisher) -> None:
    with publisher.scan(quota_bytes=2**30) as scan:
        scan.channel("a")
        scan.send("a", 1.0)


def test_a_scan_takes_less_than_its_default_before_it_waits(redis_url: str) -> None:
    with (
        connect(redis_url, name="test") as client,
        Publisher(redis_url, close_timeout_s=0.1, send_deadline_s=1) as publisher,
    ):
        budget = budget_bytes(4 * 2**30)
        reserve_quota(client, "another0", budget - 64 * MIB, 2**40)
        with publisher.scan() as scan:
            scan.detector("d", shape=FRAME.shape, dtype="uint32")
            scan.send("d", FRAME)
            assert 16 * MIB < reserved_quotas(client)[scan.uid] <= 64 * MIB


def test_a_quota_grows_while_the_writer_is_behind_and_there_is_room(
    redis_url: str,
) -> None:
    with (
        connect(redis_url, name="test") as client,
        Publisher(redis_url, close_timeout_s=0.1, send_deadline_s=5) as publisher,
    ):
        with publisher.scan() as scan:
            scan.channel("a", shape=(1000,))
            for _ in range(8000):  # 64 MB; the default begins with 8 MiB.
                scan.send("a", np.zeros(1000))
            assert 64 * 10**6 < reserved_quotas(client)[scan.uid] <= 2**28
        wait_until(lambda: reserved_quotas(client)[scan.uid] < 66 * 10**6)
        assert reserved_quotas(client)[scan.uid] > 64 * 10**6


@pytest.mark.parametrize("n_durable", [1, 2, 9, 19])
def test_a_stuck_scan_reserves_exactly_its_bytes(
    redis_url: str, n_durable: int
) -> None:
    """Points became durable one by one, then none any more, whatever the reason."""
    frame, n_frames = np.zeros((512, 512), np.uint32), 20
    with (
        connect(redis_url, name="test") as client,
        Publisher(redis_url, close_timeout_s=0.1) as publisher,
    ):
        with publisher.scan(quota_bytes=32 * MIB) as scan:
            scan.detector("d", shape=frame.shape, dtype="uint32", codec="none")
            for _ in range(n_frames):
                scan.send("d", frame)
        for point in range(n_durable + 1):
            acknowledge(client, scan.uid, "d", point)
            time.sleep(0.02)

        def surplus() -> int:
            payload = (n_frames - n_durable) * frame.nbytes
            return reserved_quotas(client)[scan.uid] - payload

        # Documents, and what Redis needs for an entry.
        wait_until(lambda: 0 < surplus() < 20_000, timeout_s=20)
        watch = scan._queue.watch
        assert reserved_quotas(client)[scan.uid] == watch.wanted_bytes


def test_without_publisher_the_writer_follows_the_reservation(
    redis_url: str, tmp_path: Path
) -> None:
    """A scan that nobody ended, of a publisher that was killed."""
    scan = fill_raw(RawScan(redis_url).prepare())
    reserve_quota(scan.client, scan.uid, 2**30, 2**31)
    reserve_quota(scan.client, "never-announced", 2**30, 2**31)
    scan.client.delete(heartbeat_key(scan.uid))

    with writer(redis_url, tmp_path / "root", *quick_writer(tmp_path)):
        wait_until(lambda: "never-announced" not in reserved_quotas(scan.client))
        wait_until(lambda: reserved_quotas(scan.client)[scan.uid] < 10**6)
    assert reserved_quotas(scan.client)[scan.uid] > 1000


def test_a_reservation_of_a_dead_publisher_is_given_back(
    redis_url: str, tmp_path: Path
) -> None:
    """Of one killed before it prepared its scan, and of one that put back too much."""
    unprepared = RawScan(redis_url)
    judged = RawScan(redis_url).prepare()
    judged.end()
    with (
        writer(redis_url, tmp_path / "root", *quick_writer(tmp_path)),
        connect(redis_url, name="test") as client,
    ):
        final_verdict(redis_url, judged.uid)
        for scan in (unprepared, judged):
            reserve_quota(client, scan.uid, 2**30, 2**40)
            client.delete(heartbeat_key(scan.uid))
        wait_until(lambda: judged.uid not in reserved_quotas(client))
        wait_until(lambda: reserved_quotas(client)[unprepared.uid] < 10_000)
