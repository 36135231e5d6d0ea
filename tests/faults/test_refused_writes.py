"""Writes are refused at random: the service lives, and every scan is complete."""

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.faults.processes import WriterProcess, until
from tests.support.mounts import small_disk
from tests.support.roots import made_root
from tests.support.writers import final_verdict

pytestmark = [pytest.mark.faults, pytest.mark.redis]

DISK = "24m"
SHAPE = (128, 128)
N_FRAMES = 60
VERDICT_S = 90.0
SETTINGS = {
    "SCANBUS_LEAST_FREE_BYTES": "0",
    "SCANBUS_LOW_WATER_BYTES": "0",
    "SCANBUS_RETRY_S": "0.1",
}


@contextmanager
def refused_at_random(folder: Path, seed: int) -> Iterator[None]:
    """Fill and empty the file system of a folder at random until the block ends."""
    is_over = threading.Event()
    thread = threading.Thread(target=_refuse, args=(folder, seed, is_over))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _refuse(folder: Path, seed: int, is_over: threading.Event) -> None:
    chance = random.Random(seed)
    while not is_over.is_set():
        ballast = folder / f"ballast{chance.random()}"
        disk = os.statvfs(folder)
        n_left = chance.randrange(0, 400) << 10
        with ballast.open("wb") as file:
            try:
                n_bytes = disk.f_bavail * disk.f_bsize - n_left
                os.posix_fallocate(file.fileno(), 0, max(1, n_bytes))
            except OSError:
                pass  # The writer was faster: it is full as well.
        is_over.wait(chance.uniform(0.02, 0.4))
        ballast.unlink()
        is_over.wait(chance.uniform(0.1, 0.4))


def frame(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 2**16, SHAPE, dtype=np.uint16)


FRAMES = np.stack([frame(number) for number in range(N_FRAMES)])


@pytest.mark.parametrize(
    "n_scans",
    [
        15,
        pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_fast_scan_is_complete_though_writes_are_refused(
    redis_url: str, tmp_path: Path, n_scans: int
) -> None:
    with small_disk(tmp_path / "disk", DISK) as root:
        made_root(root)
        one = WriterProcess(redis_url, root, tmp_path, "writer", environment=SETTINGS)
        try:
            assert until(lambda: one.is_ready, 60), one.log_tail()
            for number in range(n_scans):
                with refused_at_random(root, number):
                    uid = scan_quickly(redis_url)
                verdict = final_verdict(redis_url, uid, VERDICT_S)
                assert one.is_running, one.log_tail()
                assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
                assert_holds_all(root / verdict.master)
                # The disk is small; masters above it may be written meanwhile.
                shutil.rmtree((root / verdict.master).parent, ignore_errors=True)
            assert one.leave() < 30
            assert one.process.returncode == 0
        finally:
            one.kill()
    said = one.log.read_text()
    assert said.count('"scan_paused"') >= n_scans // 5


def scan_quickly(url: str) -> str:
    with Publisher(url, close_timeout_s=VERDICT_S) as publisher:
        with publisher.scan(quota_bytes=2**22) as scan:
            options: dict[str, Any] = {
                "shape": SHAPE,
                "dtype": "uint16",
                "points_per_chunk": 1,
            }
            scan.detector("camera", codec="none", **options)
            scan.channel("i0")
            for number in range(N_FRAMES):
                scan.send("camera", FRAMES[number])
                scan.send("i0", float(number))
        return scan.uid


def assert_holds_all(master: Path) -> None:
    deadline = time.monotonic() + 30
    while not master.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with h5py.File(master) as file:
        found = file[file.attrs["default"]]["measurement"]
        np.testing.assert_array_equal(found["camera"], FRAMES)
        np.testing.assert_array_equal(found["i0"], np.arange(float(N_FRAMES)))
