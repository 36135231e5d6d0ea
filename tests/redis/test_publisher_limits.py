"""What a publisher refuses or waits for: wrong calls, full quotas, deadlines."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from scanbus.bus.store import Bus, connect, publisher_is_alive, writers_alive
from scanbus.publisher import Publisher
from scanbus.schemas import EndReason
from scanbus.schemas.errors import (
    BusUnavailableError,
    BusUnsuitableError,
    DeadlineError,
    NoWriterError,
    QuotaRefusedError,
    ScanStateError,
    UnknownChannelError,
)
from tests.support.published import MemoryWriter, frames, read_scan, record_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def bus(redis_url: str) -> Iterator[Bus]:
    with connect(redis_url, name="test") as client:
        yield client


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    with Publisher(redis_url, name="tests", close_timeout_s=0.2) as publisher:
        yield publisher


@pytest.fixture
def writer(redis_url: str) -> Iterator[MemoryWriter]:
    with MemoryWriter(redis_url) as writer:
        yield writer


def test_a_required_writer_must_be_alive(
    publisher: Publisher, redis_url: str, bus: Bus
) -> None:
    with pytest.raises(NoWriterError, match="scanbus writer"):
        publisher.scan(require_writer=True).__enter__()
    with MemoryWriter(redis_url):
        assert writers_alive(bus)
        with publisher.scan(require_writer=True) as scan:
            assert publisher_is_alive(bus, scan.uid)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros((3, 3), np.uint32), r"d: expected a point of shape \(64, 64\)"),
        (np.zeros((64, 64), np.int32), "d: expected uint32, got int32"),
        (np.zeros((64, 64), np.uint64), "d: expected uint32, got uint64"),
        (np.zeros((64, 64), np.float32), "d: expected uint32, got float32"),
    ],
)
def test_frames_that_do_not_fit_get_a_sentence(
    publisher: Publisher, values: object, sentence: str
) -> None:
    with publisher.scan() as scan:
        scan.detector("d", shape=(64, 64), dtype="uint32")
        with pytest.raises(ValueError, match=sentence):
            scan.send("d", values)


def test_calls_at_the_wrong_time_get_a_sentence(publisher: Publisher) -> None:
    scan = publisher.scan()
    with pytest.raises(ScanStateError, match="with"):
        scan.channel("a")
    with scan:
        scan.channel("a")
        with pytest.raises(ValueError, match="declared twice"):
            scan.channel("a")
        with pytest.raises(UnknownChannelError):
            scan.send("b", 1.0)
        scan.send("a", 1.0)
        with pytest.raises(ScanStateError, match="after the first send"):
            scan.channel("c")
    with pytest.raises(ScanStateError, match="over"):
        scan.send("a", 1.0)
    with pytest.raises(ScanStateError, match="before"):
        scan.__enter__()


def test_folders_with_separators_are_refused(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match=r"proposal.*\.\./x"):
        publisher.scan(proposal="../x").__enter__()
    with publisher.scan() as scan, pytest.raises(ValueError, match="empty"):
        scan.channel("")


def test_a_quota_that_holds_no_chunk_is_refused(publisher: Publisher) -> None:
    with pytest.raises(QuotaRefusedError, match="one chunk"):  # noqa: PT012
        with publisher.scan(quota_bytes=1000) as scan:
            scan.detector("d", shape=(600, 600), dtype="uint32")
            scan.send("d", frames(0, 1, (600, 600)))


def test_an_unreachable_redis_is_one_sentence() -> None:
    with pytest.raises(BusUnavailableError, match="Is it running"):
        Publisher("redis://127.0.0.1:1")


def test_sending_waits_at_the_quota_and_goes_on_when_acknowledged(
    publisher: Publisher, redis_url: str, bus: Bus
) -> None:
    kept = []
    with publisher.scan(quota_bytes=8 * 2**20) as scan:
        scan.detector("d", shape=(512, 512), dtype="uint32", codec="none")
        scan.send("d", frames(0, 7, (512, 512)))
        blocked = threading.Thread(
            target=lambda: scan.send("d", frames(7, 93, (512, 512)))
        )
        blocked.start()
        blocked.join(0.5)
        assert blocked.is_alive()
        with MemoryWriter(redis_url) as writer:
            while blocked.is_alive():
                kept.append(scan._queue.watch.kept_bytes)
                blocked.join(0.01)
            scan.finish(EndReason.SUCCESS)
            scan.verdict(20)
        lane = writer.lanes[scan.uid, "d"]
    assert max(kept) <= 8 * 2**20
    assert lane.odd == []
    np.testing.assert_array_equal(lane.values("d"), frames(0, 100, (512, 512)))


def test_a_send_that_finds_no_room_gives_up_and_keeps_what_was_sent(
    redis_url: str, bus: Bus
) -> None:
    with Publisher(redis_url, close_timeout_s=0, send_deadline_s=0.3) as publisher:
        with pytest.raises(DeadlineError, match="no writer alive"):  # noqa: PT012
            with publisher.scan(quota_bytes=4 * 2**20) as scan:
                scan.detector("d", shape=(512, 512), dtype="uint32", codec="none")
                scan.send("d", frames(0, 10, (512, 512)))
        wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lane = read_scan(bus, scan.uid)["d"]
    # Four fit until the headers of their entries count.
    assert lane.length in (3, 4)
    sent = frames(0, lane.length, (512, 512))
    np.testing.assert_array_equal(lane.values("d"), sent)


@pytest.mark.parametrize("quota_mib", [3, 4, 9])
def test_frames_that_pack_worse_than_expected_do_not_stop_a_scan(
    redis_url: str, quota_mib: int
) -> None:
    noise = np.random.default_rng(1).integers(0, 2**32, (512, 512), np.uint32)
    with (
        MemoryWriter(redis_url) as writer,
        Publisher(redis_url, send_deadline_s=10) as publisher,
    ):
        with publisher.scan(quota_bytes=quota_mib * 2**20, compression=20) as scan:
            scan.detector("d", shape=(512, 512), dtype="uint32")
            for _ in range(20):
                scan.send("d", noise)
        scan.verdict(20)
    assert writer.lanes[scan.uid, "d"].length == 20


def test_a_channel_that_runs_ahead_of_its_group_is_named(redis_url: str) -> None:
    with Publisher(redis_url, close_timeout_s=0, send_deadline_s=0.3) as publisher:
        with pytest.raises(DeadlineError, match="points ahead of b in its group"):  # noqa: PT012
            with publisher.scan(quota_bytes=2**20) as scan:
                scan.channel("a", group="g")
                scan.channel("b", group="g")
                scan.send("a", np.zeros(10**6))


def test_single_values_wait_at_the_quota_too(redis_url: str) -> None:
    with Publisher(redis_url, close_timeout_s=0, send_deadline_s=0.3) as publisher:
        with pytest.raises(DeadlineError, match="no writer alive"):  # noqa: PT012
            with publisher.scan(quota_bytes=2**18) as scan:
                scan.channel("a")
                for _ in range(10**6):
                    scan.send("a", 1.0)


def test_small_frames_of_one_call_wait_at_the_quota(redis_url: str) -> None:
    quota = 2**18
    with Publisher(redis_url, send_deadline_s=0.3, close_timeout_s=0.2) as publisher:
        with publisher.scan(quota_bytes=quota) as scan:
            scan.detector("d", shape=(64, 64), dtype="uint32", codec="none")
            with pytest.raises(DeadlineError, match="no writer alive"):
                scan.send("d", frames(0, 60, (64, 64)))
            # Headers count once the entries are made.
            assert 0 < scan._queue.watch.kept_bytes < quota + 2**14


def test_waiting_has_deadlines(publisher: Publisher) -> None:
    with publisher.scan() as scan:
        scan.channel("a")
        scan.send("a", 1.0)
        with pytest.raises(DeadlineError, match="has not ended"):
            scan.verdict(0.1)
        with pytest.raises(DeadlineError, match="a at 0 of 1"):
            scan.wait_durable(0.1)


def test_a_scan_that_may_not_give_a_sign_of_life_gets_a_sentence(bus: Bus) -> None:
    # As for a Redis that dies between two questions of the one who opens a scan.
    keys = ["scanbus:scans", "scanbus:w*", "scanbus:number:*"]
    bus.acl_setuser("poor", enabled=True, nopass=True, categories=["+@all"], keys=keys)
    path = bus.connection_pool.connection_kwargs["path"]
    with Publisher(f"unix://poor:x@{path}", close_timeout_s=1) as publisher:
        scan = publisher.scan(scan_number=1)
        with pytest.raises(BusUnsuitableError, match="permissions"):
            scan.__enter__()
    bus.acl_deluser("poor")
