"""Whoever waits for a scan hears from its publisher what its writer waits for."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scanbus.bus.store import connect, why_paused, writers_alive
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import DeadlineError
from tests.support.mounts import small_disk
from tests.support.waiting import wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

Obstacle = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def no_space(root: Path) -> Iterator[None]:
    free = shutil.disk_usage(root).free
    blocker = root / "somebody_elses_data"
    blocker.write_bytes(bytes(free - 2**20))
    try:
        yield
    finally:
        blocker.unlink()


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)


@contextmanager
def root_gone(root: Path) -> Iterator[None]:
    hidden = root / ".scanbus"
    away = hidden.rename(root / "away")
    try:
        yield
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        away.rename(hidden)


def send_without_end(scan: Scan) -> None:
    while True:
        scan.send("i0", [0.0] * 1000)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "48m") as folder:
        yield folder


@pytest.fixture
def config(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "scanbus.toml"
    path.write_text(
        "heartbeat_s = 0.3\nlease_s = 1.0\nretry_s = 0.2\n"
        "least_free_bytes = 8000000\nlow_water_bytes = 0\n"
    )
    return "--config", str(path)


@pytest.mark.parametrize(
    ("obstacle", "sentence"),
    [
        (no_space, "paused: no space on "),
        (read_only, "Read-only file system"),
        (root_gone, "is no root"),
    ],
)
def test_a_send_that_waits_says_what_the_writer_waits_for(
    redis_url: str,
    root: Path,
    config: tuple[str, str],
    obstacle: Obstacle,
    sentence: str,
) -> None:
    with (
        writer(redis_url, root, *config),
        connect(redis_url, name="test") as client,
        Publisher(redis_url, send_deadline_s=6, close_timeout_s=60) as publisher,
    ):
        wait_until(lambda: bool(writers_alive(client)), timeout_s=60)
        with obstacle(root):
            with publisher.scan(quota_bytes=2**16) as scan, capture_logs() as logs:
                scan.channel("i0")
                with pytest.raises(DeadlineError) as failed:
                    send_without_end(scan)
            said = [str(each.get("reason", "")) for each in logs]
            assert sentence in str(failed.value)
            assert any(sentence in text for text in said)
            with pytest.raises(DeadlineError, match=sentence):
                scan.verdict(0.1)
        assert scan.verdict(60).verdict is VerdictWord.COMPLETE
        # What is over is not said any more.
        wait_until(lambda: not why_paused(writers_alive(client), scan.uid))


def test_what_one_writer_says_of_a_scan_counts_more_than_its_own_troubles() -> None:
    one = {"paused": {"u": "no space"}, "problems": ["no space", "root gone"]}
    other = {"paused": {}, "problems": ["root gone"]}

    assert why_paused({"one": one, "other": other}, "u") == "no space"
    assert why_paused({"one": one, "other": other}, "v") == "root gone"
    assert why_paused({"one": one, "other": {"problems": []}}, "v") == ""
    assert why_paused({}, "u") == ""


@pytest.mark.parametrize("info", [{}, {"paused": 3}, {"problems": {"a": [1]}}])
def test_a_status_of_other_types_says_nothing(info: dict[str, object]) -> None:
    assert why_paused({"one": info, "two": {"paused": {"u": 7}}}, "u") == ""
