"""Room on the bus: who makes it, who waits for it, and how much a scan reserves."""

from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.protocol import ALLOCATED_SHARE, MOST_WATERMARK, budget_bytes
from scanbus.bus.store import connect, used_memory
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import ConfigurationError, DeadlineError
from scanbus.writer import WriterSettings
from tests.conftest import RedisFactory
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis

MIB = 2**20
FRAME = np.arange(2**16, dtype=np.uint32).reshape(256, 256)


@pytest.fixture
def config(tmp_path: Path) -> tuple[str, str]:
    """Settings of a quick writer."""
    path = tmp_path / "scanbus.toml"
    path.write_text(
        "heartbeat_s = 0.3\nlease_s = 1.0\nretry_s = 0.2\npoll_s = 0.05\n"
        "least_free_bytes = 1000000\nlow_water_bytes = 0\n"
    )
    return "--config", str(path)


def fill(scan: Scan, n_frames: int) -> None:
    scan.detector("d", shape=FRAME.shape, dtype="uint32", codec="none")
    for _ in range(n_frames):
        scan.send("d", FRAME)


def test_publishers_find_their_budget_free_when_the_writer_is_gone(
    redis_factory: RedisFactory, tmp_path: Path, config: tuple[str, str]
) -> None:
    server = redis_factory({"maxmemory": "256mb", "maxmemory-policy": "noeviction"})
    budget = budget_bytes(256 * MIB)
    with (
        connect(server.url, name="test") as client,
        Publisher(server.url, close_timeout_s=0.1, send_deadline_s=1) as publisher,
    ):
        with writer(server.url, tmp_path / "root", *config) as process:
            for _ in range(60):
                with publisher.scan(quota_bytes=8 * MIB) as scan:
                    fill(scan, 10)
                assert scan.verdict(60).verdict is VerdictWord.COMPLETE
            wait_until(lambda: used_memory(client) < 256 * MIB - budget)
            process.leave()
        assert used_memory(client) > 10 * MIB  # What is kept for readers.
        with publisher.scan(quota_bytes=budget) as scan:
            # Its own quota stops it, not a Redis without memory.
            with pytest.raises(DeadlineError, match="no writer alive"):
                fill(scan, 700)
            assert scan._queue.watch.kept_bytes > 0.95 * budget


def test_a_watermark_that_takes_the_publishers_budget_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.8 .* 123 %.*most 0\.4"):
        WriterSettings.load(root=tmp_path, watermark=0.8)
    settings = WriterSettings.load(root=tmp_path, watermark=MOST_WATERMARK)
    most = ALLOCATED_SHARE + settings.watermark
    assert budget_bytes(100) * most <= 100
