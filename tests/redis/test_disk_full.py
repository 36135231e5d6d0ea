"""A full disk pauses a scan, says what it needs, and loses nothing."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.support.mounts import small_disk
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

DISK_MB = 64
FRAME = (512, 512)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB; needs to be root."""
    with small_disk(tmp_path / "disk", f"{DISK_MB}m") as folder:
        yield folder


def problems(url: str) -> str:
    with connect(url, name="test") as client:
        found = writers_alive(client).values()
        return "; ".join(text for info in found for text in info["problems"])


def fill(folder: Path, leave_mb: float) -> Path:
    blocker = folder / "somebody_elses_data"
    free = shutil.disk_usage(folder).free
    blocker.write_bytes(bytes(int(free - leave_mb * 2**20)))
    return blocker


def noise(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 2**16, FRAME, dtype=np.uint16)


def test_a_disk_that_fills_up_and_is_emptied_holds_the_complete_scan(
    redis_url: str, disk: Path
) -> None:
    blocker = fill(disk, leave_mb=12)
    options = ("--config", str(_config(disk.parent)))
    with (
        writer(redis_url, disk, *options),
        Publisher(redis_url, name="test") as publisher,
    ):
        with publisher.scan(title="noise", quota_bytes=64 * 2**20) as scan:
            scan.detector("camera", shape=FRAME, dtype="uint16", points=40)
            scan.channel("i0")
            for number in range(40):
                scan.send("camera", noise(number))
                scan.send("i0", float(number))
        wait_until(lambda: "no space" in problems(redis_url))
        said = problems(redis_url)
        assert re.search(r"need 0\.0[12]\d* GB", said)
        assert str(disk) in said

        blocker.unlink()

        verdict = final_verdict(redis_url, scan.uid)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.channels["camera"].written == 40


def test_a_scan_does_not_begin_on_a_disk_that_is_almost_full(
    redis_url: str, disk: Path
) -> None:
    with (
        writer(redis_url, disk),
        Publisher(redis_url, name="test", close_timeout_s=0.1) as publisher,
    ):
        with publisher.scan(title="one point") as scan:
            scan.channel("i0")
            scan.send("i0", 1.0)

        said = wait_until(lambda: problems(redis_url))

        assert "paused: no space" in said
        assert "need 0.2 GB" in said


def test_a_scan_that_runs_warns_and_then_waits_before_the_disk_is_full(
    redis_url: str, disk: Path
) -> None:
    settings = {"least_free_bytes": 20 * 2**20, "low_water_bytes": 40 * 2**20}
    options = ("--config", str(_config(disk.parent, **settings, lease_s=1)))
    with (
        writer(redis_url, disk, *options) as process,
        Publisher(redis_url, name="test") as publisher,
    ):
        with publisher.scan(title="noise", quota_bytes=8 * 2**20) as scan:
            scan.detector("camera", shape=FRAME, dtype="uint16", points=20)
            for number in range(10):
                scan.send("camera", noise(number))
            wait_until(lambda: found_below(disk, "camera_0000.h5"))
            blocker = fill(disk, leave_mb=30)
            time.sleep(1)
            assert not problems(redis_url)
            blocker.unlink()
            blocker = fill(disk, leave_mb=10)
            wait_until(lambda: "no space" in problems(redis_url))
            blocker.unlink()
            for number in range(10, 20):
                scan.send("camera", noise(number))
        verdict = final_verdict(redis_url, scan.uid)
        process.leave()
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.channels["camera"].written == 20
    assert process.said.count('"low_space"') == 1


def _config(folder: Path, **settings: int) -> Path:
    path = folder / "scanbus.toml"
    wanted = {"least_free_bytes": 1_000_000, "low_water_bytes": 0, **settings}
    lines = [f"{name} = {value}" for name, value in wanted.items()]
    path.write_text("\n".join([*lines, "retry_s = 0.3"]) + "\n")
    return path
