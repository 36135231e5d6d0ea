"""The programs of examples/ and of the README, run as a user runs them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import pytest
import redis

from tests.support.roots import made_root
from tests.support.waiting import found_below, wait_until

pytestmark = [pytest.mark.redis, pytest.mark.acceptance]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


def start(url: str, *command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, "SCANBUS_REDIS": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = TIMEOUT_S) -> str:
    """Return what a process printed; it must end well."""
    out, problems = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, problems
    return out


@pytest.fixture
def writer(redis_url: str, tmp_path: Path) -> Iterator[Path]:
    """The root of a writer that runs."""
    root = made_root(tmp_path / "data")
    process = start(redis_url, "-m", "scanbus.cli", "writer", "--root", root)
    try:
        yield root
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


def test_the_examples_publish_a_scan_and_see_it_live(
    redis_url: str, writer: Path
) -> None:
    live = start(redis_url, ROOT / "examples/live_mean.py")
    _wait_for_subscriber(redis_url)
    published = finish(start(redis_url, ROOT / "examples/publish_scan.py"))
    seen = finish(live).splitlines()

    assert "scan 1: complete" in published
    master = next(line for line in published.splitlines() if line.endswith(".h5"))
    with h5py.File(writer / master, "r") as file:
        camera = file["1.1/measurement/camera"]
        assert camera.shape == (100, 512, 512)
        assert 5 < camera[99].mean() < 55
    assert seen[-1].startswith("frame 99: ")
    assert seen[-1].endswith("at 200 pixels")


def _wait_for_subscriber(url: str) -> None:
    """Wait until the example waits for scans: only those that come later count."""
    with redis.Redis.from_url(url) as client:
        wait_until(
            lambda: any(
                "subscriber" in each["name"] and each["cmd"].startswith("xread")
                for each in client.client_list()
            ),
            timeout_s=TIMEOUT_S,
        )


def python_blocks(path: Path) -> list[str]:
    block = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return block.findall(path.read_text())


def test_the_programs_of_the_readme_run(
    redis_url: str, writer: Path, tmp_path: Path
) -> None:
    printed = []
    for number, block in enumerate(python_blocks(ROOT / "README.md")):
        program = tmp_path / f"block{number}.py"
        program.write_text(block.replace("redis://127.0.0.1:6379", redis_url))
        printed.append(finish(start(redis_url, program)))

    _, live = printed
    assert "diode 0 0.25" in live
    assert "eiger 9 1.0" in live
    assert found_below(writer, "scan0001.h5")
