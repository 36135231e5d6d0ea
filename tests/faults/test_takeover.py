"""Two writers, one killed in the middle of a scan of two detectors."""

import time
from pathlib import Path

import numpy as np
import pytest

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.writer import replay
from tests.conftest import RedisFactory
from tests.faults.processes import LEASE_S, WriterProcess, until
from tests.support.trees import differences

pytestmark = [pytest.mark.faults, pytest.mark.redis]

SHAPE = (200, 200)
N_POINTS = 300
AT_MOST_S = 5.0


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


def send(scan: Scan, start: int, stop: int) -> None:
    for number in range(start, stop):
        frame = np.full(SHAPE, number, np.uint16)
        scan.send("one", frame)
        scan.send("two", frame + 7)
        scan.send("counter", number * 1.0)


@pytest.mark.timeout(120)
def test_a_scan_is_complete_within_lease_and_five_seconds_of_its_writers_death(
    server: PrivateRedis, tmp_path: Path
) -> None:
    root = tmp_path / "files"
    writers = [WriterProcess(server.url, root, tmp_path, f"w{n}") for n in (0, 1)]
    try:
        assert until(lambda: all(one.is_ready for one in writers), 30)
        with Publisher(server.url, close_timeout_s=30) as publisher:
            with publisher.scan(scan_number=1, quota_bytes=40 * 2**20) as scan:
                for name in ("one", "two"):
                    scan.detector(name, shape=SHAPE, dtype="uint16")
                scan.channel("counter")
                send(scan, 0, N_POINTS // 2)
                assert until(lambda: any(map(_has_opened, writers)), 30)
                victim = next(one for one in writers if _has_opened(one))
                victim.kill()
                killed_at = time.monotonic()
                send(scan, N_POINTS // 2, N_POINTS)
            verdict = scan.verdict(30)
            took_s = time.monotonic() - killed_at
    finally:
        for one in writers:
            one.kill()

    assert verdict.verdict is VerdictWord.COMPLETE
    assert took_s < LEASE_S + AT_MOST_S
    replay(server.url, scan.uid, tmp_path / "again")
    assert differences(root, tmp_path / "again") == []


def _has_opened(writer: WriterProcess) -> bool:
    return '"scan_opened"' in writer.log.read_text()
