"""A small Redis that is full, or would be: whole scans through it, by several programs.

`test_bus_full.py` asks one call after the other; here are the processes that call.
"""

import re
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
import redis

from scanbus.bus.protocol import RESERVED, lane_key
from scanbus.bus.store import (
    Bus,
    Evictor,
    connect,
    read_cursor,
    stream_ends,
    used_memory,
)
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import DeadlineError
from tests.conftest import RedisFactory
from tests.support.published import frames
from tests.support.writers import wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.faults]

MIB = 2**20
SHAPE = (256, 256)
FRAMES_PER_MIB = 4


@pytest.fixture
def options(tmp_path: Path) -> tuple[str, str]:
    """A quick writer, of whose replies no large part stands in so small a Redis."""
    path = tmp_path / "scanbus.toml"
    path.write_text(
        "lease_s = 1.0\nheartbeat_s = 0.3\nretry_s = 0.2\npoll_s = 0.05\n"
        "read_bytes = 500000\n"
        "least_free_bytes = 1000000\nlow_water_bytes = 0\n"
    )
    return "--config", str(path)


def send(scan: Scan, numbers: Iterable[int]) -> None:
    scan.channel("i0")
    scan.detector("d", shape=SHAPE, dtype="uint32", codec="none")
    for number in numbers:
        scan.send("i0", float(number))
        scan.send("d", frames(number, 1, SHAPE))


@contextmanager
def meanwhile(scan: Scan, n_points: int, *, halt: int = -1) -> Iterator[Event]:
    """Run a whole scan in a thread; afterwards, everything of it was taken.

    Before the point `halt` it waits until the event that this yields is set.
    """
    goes_on = Event()

    def numbers() -> Iterator[int]:
        for number in range(n_points):
            if number == halt:
                assert goes_on.wait(60)
            yield number

    def run() -> None:
        with scan:
            send(scan, numbers())

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        try:
            yield goes_on
        finally:
            goes_on.set()
        future.result(60)


def check(root: Path, scan: Scan, n_points: int) -> None:
    """Every point is in the files, and is what was sent."""
    verdict = scan.verdict(20)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    with h5py.File(root / verdict.master) as file:
        measurement = file[f"{scan.identity.scan_number}.1/measurement"]
        np.testing.assert_array_equal(measurement["i0"][()], np.arange(n_points))
        images = measurement["d"][()]
    np.testing.assert_array_equal(images, frames(0, n_points, SHAPE))


def is_at(client: Bus, scan: Scan, quota_mib: int) -> bool:
    """Whether nearly all of a scan's quota stands on the bus and in no file."""
    if not scan.is_open:
        return False
    ends = stream_ends(client, scan.uid, "d")
    reached = int(ends[1].partition(b"-")[0]) + 1 if ends else 0
    most = 0.8 * quota_mib * FRAMES_PER_MIB
    return reached - read_cursor(client, scan.uid, "d") > most


def fill(client: Bus) -> None:
    """Take all the room that there is, as another program on this Redis would."""
    size = MIB
    while size:
        try:
            client.append(f"of somebody else: {size}", b"x" * size)
        except redis.exceptions.OutOfMemoryError:
            size //= 4
    # Buffers of connections come and go: without them it is full, too.
    client.config_set("maxmemory", used_memory(client) - MIB)


def is_full(client: Bus) -> bool:
    try:
        client.set("one more", b"x")
    except redis.exceptions.OutOfMemoryError:
        return True
    return False


@pytest.mark.timeout(120)
def test_a_writer_killed_on_a_full_redis_has_a_successor_that_loses_nothing(
    redis_factory: RedisFactory, tmp_path: Path, options: tuple[str, str]
) -> None:
    quota_mib, n_points = 10, 120  # 30 MiB of frames: more than Redis has room for.
    server = redis_factory({"maxmemory": "24mb", "maxmemory-policy": "noeviction"})
    with (
        connect(server.url, name="test") as client,
        Publisher(server.url, close_timeout_s=1) as publisher,
    ):
        scan = publisher.scan(quota_bytes=quota_mib * MIB)
        with writer(server.url, tmp_path, *options) as victim:
            with meanwhile(scan, n_points, halt=30) as goes_on:
                wait_until(lambda: scan.is_open and read_cursor(client, scan.uid, "d"))
                victim.pause()
                goes_on.set()
                # At its quota, a whole segment is there to be written.
                wait_until(lambda: is_at(client, scan, quota_mib))
                Evictor().free(client, 1)  # Else it makes room when Redis is full.
                fill(client)
                victim.kill()
                durable = read_cursor(client, scan.uid, "d")
                assert is_full(client)
                assert 0 < durable <= 30
                with writer(server.url, tmp_path, *options):
                    wait_until(lambda: read_cursor(client, scan.uid, "d") > durable)
                    check(tmp_path, scan, n_points)


@pytest.mark.timeout(120)
def test_three_publishers_that_together_would_fill_redis_lose_nothing(
    redis_factory: RedisFactory, tmp_path: Path, options: tuple[str, str]
) -> None:
    quota_mib, n_points = 8, 100  # 25 MiB each; the budget is 60 % of 32 MiB.
    server = redis_factory({"maxmemory": "32mb", "maxmemory-policy": "noeviction"})
    with (
        connect(server.url, name="test") as client,
        Publisher(server.url, name="one", close_timeout_s=1) as one,
        Publisher(server.url, name="two", close_timeout_s=1) as two,
        Publisher(
            server.url, name="three", close_timeout_s=1, send_deadline_s=2
        ) as three,
    ):
        first, second = (each.scan(quota_bytes=quota_mib * MIB) for each in (one, two))
        with meanwhile(first, n_points), meanwhile(second, n_points):
            # No writer yet: they come to their quotas, and Redis has room for both.
            for scan in (first, second):
                wait_until(partial(is_at, client, scan, quota_mib))
            assert not is_full(client)
            refused = three.scan(quota_bytes=quota_mib * MIB)
            with pytest.raises(DeadlineError, match=r"16\.0 of 19\.2 MiB.*no writer"):
                with refused:
                    send(refused, range(n_points))
            assert not is_reserved(client, refused)
            assert not client.exists(lane_key(refused.uid, "d"))
            with writer(server.url, tmp_path, *options):
                check(tmp_path, first, n_points)
                wait_until(lambda: not is_reserved(client, first))
                third = three.scan(quota_bytes=quota_mib * MIB)
                with meanwhile(third, n_points):
                    check(tmp_path, second, n_points)
                    check(tmp_path, third, n_points)


def is_reserved(client: Bus, scan: Scan) -> bool:
    return bool(client.hexists(RESERVED, scan.uid))


class StalledReader:
    """A program that asks for frames and does not take what it is given."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5)
        self._socket.connect(url.removeprefix("unix://").partition("?")[0])
        self._socket.sendall(b"CLIENT SETNAME %s\r\n" % name.encode())
        assert self._socket.recv(5, socket.MSG_WAITALL) == b"+OK\r\n"

    def ask(self, key: str, n_entries: int) -> None:
        words = f"XRANGE {key} - + COUNT {n_entries}\r\n"
        self._socket.sendall(words.encode())

    def close(self) -> None:
        self._socket.close()


def readers_left(client: Bus) -> list[dict[str, Any]]:
    found: Any = client.client_list()
    return [each for each in found if each["name"].startswith("stalled")]


def in_proportion(conf: Path, maxmemory: int) -> dict[str, str | int]:
    """Return a small memory and the output buffers that redis.conf would give it.

    What may stay for 30 s there may stay for one here: scans are shorter, too.
    """
    text = conf.read_text()
    pattern = r"(?m)^maxmemory (\d+)gb$"
    limits = r"(?m)^client-output-buffer-limit normal (\d+)gb (\d+)mb 30$"
    sizes = [*re.findall(pattern, text), *re.findall(limits, text)]
    assert len(sizes) == 2, "redis.conf states them in other units now"
    whole, (hard, soft) = sizes
    share = int(whole) * 2**30 // maxmemory
    normal = f"{int(hard) * 2**30 // share} {int(soft) * MIB // share}"
    return {
        "maxmemory": maxmemory,
        "client-output-buffer-limit": f"normal {normal} 1",
    }


@pytest.mark.timeout(120)
def test_three_readers_that_stop_reading_are_cut_off_and_the_scan_goes_on(
    redis_factory: RedisFactory,
    repository: Path,
    tmp_path: Path,
    options: tuple[str, str],
) -> None:
    n_points, maxmemory = 240, 64 * MIB  # 60 MiB of frames
    conf = repository / "deploy" / "redis" / "redis.conf"
    server = redis_factory(in_proportion(conf, maxmemory), config=conf)
    with (
        connect(server.url, name="test") as client,
        Publisher(server.url, close_timeout_s=1) as publisher,
        writer(server.url, tmp_path, *options),
        ExitStack() as stack,
    ):
        scan = publisher.scan()
        with meanwhile(scan, n_points, halt=50) as goes_on:
            wait_until(lambda: scan.is_open and read_cursor(client, scan.uid, "d"))
            # Two beyond the hard limit of 8 MiB, one between that and the soft one.
            for number, n_entries in enumerate((1000, 24, 1000)):
                reader = StalledReader(server.url, f"stalled-{number}")
                stack.enter_context(closing(reader))
                reader.ask(lane_key(scan.uid, "d"), n_entries)
            goes_on.set()
            wait_until(lambda: not readers_left(client))
            check(tmp_path, scan, n_points)
        memory: Any = client.info("memory")
    assert memory["used_memory_peak"] < maxmemory
