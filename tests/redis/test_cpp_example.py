"""The publisher in C++, compiled and run against the writer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scanbus.bus.store import Bus, connect, read_cursor
from scanbus.schemas import Verdict
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import check_files
from tests.conftest import RedisFactory
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

SOURCE = Path(__file__).parents[2] / "examples/cpp"
HEADERS = ("hiredis/hiredis.h", "msgpack.hpp", "xxhash.h")
POINTS = 160


def _lacking() -> str:
    """What is not installed here; in CI it must be."""
    if os.environ.get("CI"):
        return ""
    if shutil.which("g++") is None:
        return "g++"
    folders = [Path("/usr/include"), Path("/usr/local/include")]
    missing = [
        name for name in HEADERS if not any((each / name).exists() for each in folders)
    ]
    return ", ".join(missing)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, compiled as its README says, with every warning an error."""
    if _lacking():
        pytest.skip(f"not installed: {_lacking()}")
    made = tmp_path_factory.mktemp("cpp") / "publish_scan"
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-DMSGPACK_NO_BOOST"]
    strict = ["-Wall", "-Wextra", "-Werror"]
    source = str(SOURCE / "publish_scan.cpp")
    libraries = ["-lhiredis", "-lxxhash"]
    command = ["g++", *options, *strict, source, "-o", str(made), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


class Running:
    """The example while it publishes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        _, self.number, self.uid = process.stdout.readline().split()

    def end(self) -> str:
        """Return the verdict that it printed."""
        said, problems = self.process.communicate(timeout=60)
        assert self.process.returncode == ExitCode.PARTIAL, problems
        return said.strip()


@contextmanager
def started(program: Path, url: str, pause_ms: int = 0) -> Iterator[Running]:
    command = [str(program), url, str(POINTS), str(pause_ms)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def published(program: Path, url: str) -> Running:
    with started(program, url) as running:
        assert running.end() == "partial"  # It skips one point.
    return running


def assert_as_sent(root: Path, verdict: Verdict) -> None:
    master = root / verdict.master
    pixels = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    with h5py.File(master) as file:
        found = file["1.1/measurement"]
        points = np.arange(POINTS)
        np.testing.assert_array_equal(found["th"], 0.1 * points)
        diode = np.float32(1) / (points + 1).astype("f4")
        np.testing.assert_array_equal(found["diode"], diode)
        assert found["th"].attrs["units"] == "deg"
        notes = [*found["note"].asstr()]
        assert notes == [*(f"point {point}" for point in points), ""]
        expected = points[:, None, None].astype(np.uint16) + pixels
        np.testing.assert_array_equal(found["camera"], expected)
        assert file["1.1/sample/name"].asstr()[()] == "LaB6"
        assert file["1.1/title"].asstr()[()] == "a scan of C++"
    assert check_files([master], everything=True).ok
    assert {name: one.missing for name, one in verdict.channels.items()} == {
        "th": (),
        "diode": (),
        "note": ((POINTS, POINTS + 1),),
        "camera": (),
    }


def test_what_it_publishes_is_in_the_files(
    program: Path, redis_url: str, root: Path
) -> None:
    with writer(redis_url, root):
        running = published(program, redis_url)
        verdict = final_verdict(redis_url, running.uid)
        assert running.number == "1"
        assert_as_sent(root, verdict)
        with connect(redis_url, name="test") as client:
            assert not client.exists(f"scanbus:{{{running.uid}}}:publisher")
        assert published(program, redis_url).number == "2"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["redis://127.0.0.1:{port}"], "Redis does not answer: Connection refused"),
        (["redis://127.0.0.1:99999999"], "the URL is not redis://HOST:PORT or unix://"),
        (["/data"], "the URL is not redis://HOST:PORT or unix:///PATH"),
        (["{url}", "-1"], "POINTS is '-1', not a whole number"),
        (["{url}", "5", "1x"], "PAUSE_MS is '1x', not a whole number"),
        (["{url}", "99999999999999999999"], "POINTS is '99999999999999999999', not a"),
        (["{url}", "5", "1", "2"], "usage: publish_scan [URL] [POINTS] [PAUSE_MS]"),
        (["{url}", "5"], "a quota of 67108864 bytes does not fit into the bus"),
    ],
)
def test_what_cannot_be_published_is_a_sentence_and_an_exit_code(
    program: Path,
    redis_factory: RedisFactory,
    free_port: int,
    arguments: list[str],
    sentence: str,
) -> None:
    url = redis_factory({"maxmemory": "50mb"}).url
    given = [each.format(url=url, port=free_port) for each in arguments]
    done = subprocess.run(
        [program, *given], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == ExitCode.USAGE
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"publish_scan: {sentence}")
    assert done.stdout == ""
    with connect(url, name="test") as client:
        assert not client.exists("scanbus:scans")


def test_a_scan_that_is_given_up_has_failed(
    program: Path, redis_factory: RedisFactory
) -> None:
    server = redis_factory()
    with started(program, server.url, pause_ms=50) as running:
        with connect(server.url, name="test") as client:
            (lane,) = client.keys("scanbus:{*:note}:lane")
            last = "18446744073709551614-1"
            client.xadd(lane, {"h": "of another publisher"}, id=last)
        _, problems = running.process.communicate(timeout=60)
    assert running.process.returncode == ExitCode.FAILED
    assert "publish_scan: another publisher writes to the lane note" in problems


def test_a_number_that_only_the_disk_knows_is_not_drawn_again(
    program: Path, redis_url: str, root: Path
) -> None:
    with writer(redis_url, root):
        published(program, redis_url)
        with connect(redis_url, name="test") as client:
            client.delete(*client.keys("scanbus:number:*"))
        assert published(program, redis_url).number == "2"


def reaches(client: Bus, lane: str, point: int) -> bool:
    """Whether a lane has points up to there, also if Redis lost those before."""
    newest: Any = client.xrevrange(lane, count=1)
    return bool(newest) and int(newest[0][0].partition(b"-")[0]) >= point


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def flush(client: Bus) -> None:
    client.flushall()


def cut(client: Bus) -> None:
    client.client_kill_filter(_type="normal", skipme=True)


def lose_lanes(client: Bus) -> None:
    client.delete(*client.keys("scanbus:{*}:lane"))


def lose_events(client: Bus) -> None:
    # After an earlier loss they are there again when the publisher looks, every 2 s.
    wait_until(lambda: bool(client.keys("scanbus:{*}:events")), 30)
    client.delete(*client.keys("scanbus:{*}:events"))


def fill(client: Bus) -> None:
    client.config_set("maxmemory", 1)
    time.sleep(1.0)
    client.config_set("maxmemory", 0)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "lose", [flush, cut, lose_lanes, lose_events, fill], ids=lambda f: f.__name__
)
def test_whatever_redis_loses_meanwhile_is_sent_again(
    lose: object, program: Path, redis_factory: RedisFactory, root: Path
) -> None:
    server = redis_factory()
    assert callable(lose)
    with writer(server.url, root), connect(server.url, name="test") as client:
        with started(program, server.url, pause_ms=50) as running:
            lane = f"scanbus:{{{running.uid}:camera}}:lane"
            wait_until(partial(reaches, client, lane, 10), 30)
            lose(client)
            # Some frames are in files; meanwhile the scan stands still, or it is over.
            wait_until(partial(reaches, client, lane, 40), 30)
            with stopped(running.process):
                wait_until(partial(read_cursor, client, running.uid, "camera"))
            # The publisher asks for that every 2 s, or 40 points: by now it has.
            wait_until(partial(reaches, client, lane, 90), 30)
            lose(client)
            assert running.end() == "partial"
            if lose is lose_lanes:  # A stand-in for frames that only files have.
                first: Any = client.xrange(lane, count=1)
                assert b"durable" in b"".join(first[0][1])
        assert_as_sent(root, final_verdict(server.url, running.uid))
