"""Frames out of order, from the publisher to the writer's files."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.protocol import ANNOUNCEMENTS, lane_key
from scanbus.bus.store import connect
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.errors import DeadlineError
from scanbus.writer import WriterSettings, run_writer
from tests.conftest import RedisFactory
from tests.support.published import frames, read_scan, record_of
from tests.support.roots import made_root
from tests.support.waiting import found_below, wait_until
from tests.support.writers import final_verdict

pytestmark = pytest.mark.redis

SHAPE = (32, 48)
N_FRAMES = 120


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    with Publisher(
        redis_url, name="tests", close_timeout_s=0.2, reorder_window=16, reorder_s=0.3
    ) as publisher:
        yield publisher


def written(url: str, root: Path, scan: Scan) -> tuple[Verdict, Path]:
    with connect(url, name="test") as client:
        wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
        wait_until(lambda: record_of(client, scan.uid).ended is not None)
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)
    return final_verdict(url, scan.uid), found_below(root, "scan0001.h5")[0]


@pytest.mark.parametrize("per_chunk", [1, 4])
def test_what_was_shuffled_within_the_window_is_complete(
    publisher: Publisher, redis_url: str, tmp_path: Path, per_chunk: int
) -> None:
    images = frames(0, N_FRAMES, SHAPE)
    blocks = np.arange(N_FRAMES).reshape(-1, 8)
    shuffled = np.random.default_rng(3).permuted(blocks, axis=1).ravel()
    with publisher.scan(session="20260101") as scan:
        scan.detector("d", shape=SHAPE, dtype="uint32", points_per_chunk=per_chunk)
        scan.channel("c")
        scan.channel("label", dtype="string", max_point_bytes=32)
        buffer = np.empty(SHAPE, np.uint32)
        for point in shuffled:
            buffer[:] = images[point]
            scan.send("d", buffer, point=point)
            scan.send("c", point * 0.5, point=int(point))
            scan.send("label", f"no {point}", point=point)
        scan.send("c", [60.0, 60.5], point=N_FRAMES)
        scan.send("c", 61.0)

    verdict, master = written(redis_url, tmp_path, scan)
    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(master) as file:
        measurement = file["1.1/measurement"]
        np.testing.assert_array_equal(measurement["d"][()], images)
        np.testing.assert_array_equal(measurement["c"][()], np.arange(123) * 0.5)
        texts = measurement["label"].asstr()[()].tolist()
        assert texts == [f"no {point}" for point in range(N_FRAMES)]


def test_what_came_too_late_stands_apart_and_the_scan_is_partial(
    publisher: Publisher, redis_url: str, tmp_path: Path
) -> None:
    images = frames(0, N_FRAMES, SHAPE)
    with publisher.scan(session="20260101") as scan:
        scan.detector("d", shape=SHAPE, dtype="uint32")
        scan.channel("label", dtype="string", max_point_bytes=32)
        for point in (*range(10), *range(13, 60)):
            scan.send("d", images[point], point=point)
        scan.send("d", images[11:13], point=11)
        scan.send("d", images[60:])
        with pytest.raises(ValueError, match="d: point 59 was sent before"):
            scan.send("d", images[59], point=59)
        with pytest.raises(ValueError, match="d: point 12 was sent before"):
            scan.send("d", images[12], point=12)
        scan.send("label", "one", point=1)
        with connect(redis_url, name="test") as client:
            wait_until(lambda: client.xlen(lane_key(scan.uid, "label")) > 0)
        scan.send("label", "zero", point=0)
        scan.send("label", "three", point=3)

    with connect(redis_url, name="test") as client:
        wait_until(lambda: record_of(client, scan.uid).ended is not None)
        ended = record_of(client, scan.uid).ended
        assert ended is not None
        assert ended.late == {"d": 2, "label": 1}
    verdict, master = written(redis_url, tmp_path, scan)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.channels["d"].late == ((11, 13),)
    assert verdict.channels["d"].missing == ((10, 13),)
    assert verdict.channels["label"].late == ((0, 1),)
    assert verdict.channels["label"].missing == ((0, 1), (2, 3))
    with h5py.File(master) as file:
        data = file["1.1/measurement/d"]
        np.testing.assert_array_equal(data[:10], images[:10])
        np.testing.assert_array_equal(data[13:], images[13:])
        late = file["1.1/scanbus/late/d_0000"]
        np.testing.assert_array_equal(late["scanbus/point"][()], [11, 12])
        np.testing.assert_array_equal(late["measurement/data"][()], images[11:13])


def test_packed_frames_are_put_in_order_too(
    publisher: Publisher, redis_url: str
) -> None:
    images = frames(0, 6, SHAPE)
    with publisher.scan() as scan:
        scan.detector(
            "d", shape=SHAPE, dtype="uint32", codec="none", points_per_chunk=1
        )
        for point in (2, 0, 1, 5, 3, 4):
            scan.send("d", packed=images[point].tobytes(), point=point)
    with connect(redis_url, name="test") as client:
        wait_until(lambda: record_of(client, scan.uid).ended is not None)
        lane = read_scan(client, scan.uid)["d"]
        np.testing.assert_array_equal(lane.values("d"), images)


def test_channels_of_a_group_cannot_be_numbered(publisher: Publisher) -> None:
    with publisher.scan() as scan:
        scan.channel("a", group="g")
        scan.channel("b", group="g")
        with pytest.raises(ValueError, match="a: it shares the group 'g'"):
            scan.send("a", 1.0, point=3)
        scan.skip("a")


def test_a_skip_closes_what_came_and_the_points_behind_it(
    publisher: Publisher, redis_url: str
) -> None:
    with publisher.scan() as scan:
        scan.channel("a")
        scan.send("a", 0.0)
        scan.send("a", 2.0, point=2)
        scan.skip("a", 2)
        scan.send("a", 5.0)
        scan.send("a", 4.0, point=4)
    with connect(redis_url, name="test") as client:
        wait_until(lambda: record_of(client, scan.uid).ended is not None)
        record = record_of(client, scan.uid)
        assert record.ended is not None
        assert record.ended.late == {"a": 1}
        assert read_scan(client, scan.uid)["a"].length == 6


def test_held_frames_never_fill_the_quota_that_the_next_one_needs(
    redis_url: str,
) -> None:
    """Without a writer nothing leaves the quota: order must not make that worse."""
    quota = 40 * 4 * SHAPE[0] * SHAPE[1]
    with Publisher(redis_url, close_timeout_s=0.2, send_deadline_s=1.0) as publisher:
        with publisher.scan(quota_bytes=quota) as scan:
            scan.detector("d", shape=SHAPE, dtype="uint32", codec="none")
            for point in range(1, 15):
                scan.send("d", frames(point, 1, SHAPE), point=point)
            assert scan._queue.lanes["d"].held_bytes <= quota // 4
            with pytest.raises(DeadlineError, match=r"quota.*late points.*1 of d"):  # noqa: PT012
                for point in (0, *range(15, 100)):
                    scan.send("d", frames(point, 1, SHAPE), point=point)


def test_late_points_come_again_after_redis_came_back_empty(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server: PrivateRedis = redis_factory()
    with Publisher(server.url, close_timeout_s=20, reorder_window=2) as publisher:
        with publisher.scan(session="20260101") as scan:
            scan.detector("d", shape=SHAPE, dtype="uint32")
            for point in (0, 4, 5, 2, 1):
                scan.send("d", frames(point, 1, SHAPE), point=point)
            with connect(server.url, name="test") as client:
                key = lane_key(scan.uid, "late.d")
                wait_until(lambda: client.xlen(key) == 2)
            server.kill()
            server.start()
        verdict, master = written(server.url, tmp_path, scan)
    assert verdict.verdict is VerdictWord.PARTIAL
    with h5py.File(master) as file:
        late = file["1.1/scanbus/late/d_0000"]
        np.testing.assert_array_equal(late["scanbus/point"][()], [2, 1])
        np.testing.assert_array_equal(
            late["measurement/data"][1], frames(1, 1, SHAPE)[0]
        )
