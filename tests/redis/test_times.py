"""Every point keeps the time that it was given, bit by bit, from send to the files."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from time import time as wall_clock
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanbus.bus.store import Bus, connect
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher, Scan
from scanbus.subscriber import Batch, Subscriber
from scanbus.writer import replay
from tests.support.published import record_of
from tests.support.waiting import found_below, wait_until

pytestmark = pytest.mark.redis

SHAPE = (4, 3)
any_time = st.floats(allow_infinity=False, allow_nan=True) | st.floats(1.6e9, 1.7e9)
splits = st.lists(st.lists(any_time, min_size=1, max_size=9), min_size=1, max_size=12)
CHANNELS = {"a": "a", "b": "g", "c": "g", "n": "n", "s": "s", "d": "d", "u": "u"}


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateRedis]:
    with PrivateRedis() as server:
        yield server


@pytest.fixture(scope="module")
def publisher(server: PrivateRedis) -> Iterator[Publisher]:
    with Publisher(server.url, name="tests", close_timeout_s=0) as publisher:
        yield publisher


@pytest.fixture
def bus(server: PrivateRedis) -> Iterator[Bus]:
    with connect(server.url, name="test") as client:
        yield client


def same_bits(found: Any, expected: Any) -> None:
    ours = np.asarray(found, np.float64).view(np.uint64)
    theirs = np.asarray(expected, np.float64).view(np.uint64)
    np.testing.assert_array_equal(ours, theirs)


def batches_of(bus: Bus, server: PrivateRedis, scan: Scan, name: str) -> list[Batch]:
    """Return the batches of a channel when all of the scan is on the bus."""
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    with Subscriber(server.url) as subscriber:
        return list(subscriber.scan(scan.uid).batches(name))


def declare(scan: Scan) -> None:
    scan.channel("a", dtype="float32")
    scan.channel("b", group="g")
    scan.channel("c", group="g", dtype="int16")
    scan.channel("n", dtype="uint8")
    scan.channel("s", dtype="string", max_point_bytes=16)
    scan.detector("d", shape=SHAPE, dtype="uint16", points_per_chunk=4)
    scan.detector("u", shape=SHAPE, dtype="uint16", points_per_chunk=1)


def send_parts(scan: Scan, parts: list[list[float]], flushes: bool) -> list[float]:
    """Send points with these times to all channels, in the given parts."""
    times = [time for part in parts for time in part]
    first = 0
    for number, part in enumerate(parts):
        points = np.arange(first, first + len(part))
        many = np.zeros((len(part), *SHAPE), np.uint16)
        scan.send("a", points.astype(np.float32), time=part)
        scan.send("b", points)
        scan.send("c", points.astype(np.int16), time=np.array(part))
        scan.send("s", ["x"] * len(part), time=tuple(part))
        scan.send("d", many, time=part)
        scan.send("u", many, time=part)
        # Numbered, in pairs that came in the wrong order.
        for point in (points ^ 1).tolist():
            one = min(point, len(times) - 1)  # The last one may have no partner.
            scan.send("n", np.uint8(one), time=times[one], point=one)
        if flushes and number % 2:
            scan.flush()
        first += len(part)
    return times


@pytest.mark.parametrize("flushes", [False, True])
@settings(max_examples=20)
@given(parts=splits)
def test_arbitrary_times_in_arbitrary_parts_come_out_equal_bit_by_bit(
    publisher: Publisher, server: PrivateRedis, flushes: bool, parts: list[list[float]]
) -> None:
    with publisher.scan(quota_bytes=2**18) as scan:
        declare(scan)
        times = send_parts(scan, parts, flushes)
    with TemporaryDirectory() as folder:
        replay(server.url, scan.uid, Path(folder))
        found = times_in_files(Path(folder))
    with connect(server.url, name="test") as bus:
        read = {name: batches_of(bus, server, scan, name) for name in CHANNELS}
    for name, lane in CHANNELS.items():
        same_bits(np.concatenate([one.times for one in read[name]]), times)
        same_bits(found[lane], times)
        if name in "du":
            same_bits(found[f"{lane} segments"], times)


def times_in_files(root: Path) -> Mapping[str, Any]:
    """Return the times of each lane in the master, and those in detectors' files."""
    (master,) = found_below(root, "scan[0-9][0-9][0-9][0-9].h5")
    with h5py.File(master) as file:
        entry = file[next(name for name in file if name.endswith(".1"))]
        found = {name: one[()] for name, one in entry["scanbus/times"].items()}
    for lane in "du":
        parts = []
        for path in sorted(master.parent.glob(f"{lane}_*.h5")):
            with h5py.File(path) as file:
                parts.append(file["entry_0000/scanbus/time"][()])
        found[f"{lane} segments"] = np.concatenate([np.empty(0), *parts])
    return found


def test_a_late_point_has_the_time_of_its_own(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with Publisher(server.url, close_timeout_s=0, reorder_window=1) as publisher:
        with publisher.scan(quota_bytes=2**20) as scan:
            scan.channel("n")
            scan.detector("d", shape=SHAPE, dtype="uint16", points_per_chunk=1)
            for point, time in ((0, 5.0), (2, 0.1), (3, 7.0), (4, 7.5), (1, -3.25)):
                scan.send("n", 1.0 * point, point=point, time=time)
                frame = np.zeros(SHAPE, np.uint16)
                scan.send("d", frame, point=point, time=time)
        replay(server.url, scan.uid, tmp_path)
    (master,) = found_below(tmp_path, "scan[0-9][0-9][0-9][0-9].h5")
    with h5py.File(master) as file:
        entry = file[next(name for name in file if name.endswith(".1"))]
        for name in "nd":
            late = entry[f"scanbus/late/{name}_0000/scanbus"]
            assert late["point"][()].tolist() == [1]
            assert late["time"][()].tolist() == [-3.25]
    found = times_in_files(tmp_path)
    for name in "nd":
        same_bits(found[name], [5.0, np.nan, 0.1, 7.0, 7.5])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (7, [7.0, 7.0, 7.0, 7.0, 7.0]),
        ([7.5], [7.5, 7.5, 7.5, 7.5, 7.5]),
        ((0, 1), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (np.array([1, 2, 3, 4, 9]), [1.0, 2.0, 3.0, 4.0, 9.0]),
        (datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC), [1.5] * 5),
        ([datetime(2024, 1, 1, second=s, tzinfo=UTC) for s in (0, 4)], None),
    ],
)
@pytest.mark.parametrize("name", ["a", "d", "u"])
def test_one_two_or_as_many_times_as_points(  # noqa: PLR0917
    publisher: Publisher,
    server: PrivateRedis,
    bus: Bus,
    name: str,
    given: Any,
    expected: list[float] | None,
) -> None:
    if expected is None:
        expected = [1704067200.0 + second for second in range(5)]
    with publisher.scan(quota_bytes=2**20) as scan:
        declare(scan)
        points = np.zeros((5, *SHAPE), np.uint16) if name in "du" else np.zeros(5, "f4")
        scan.send(name, points, time=given)
    batches = batches_of(bus, server, scan, name)
    same_bits(np.concatenate([one.times for one in batches]), expected)


SENDS: dict[str, Callable[[Scan, Any], None]] = {
    "values": lambda scan, time: scan.send("a", np.zeros(5, "f4"), time=time),
    "texts": lambda scan, time: scan.send("s", ["x"] * 5, time=time),
    "frames": lambda scan, time: scan.send(
        "d", np.zeros((5, *SHAPE), np.uint16), time=time
    ),
    "packed": lambda scan, time: scan.send(
        "u", packed=[b"1" * 24] * 5, time=time, point=0
    ),
    "numbered": lambda scan, time: scan.send(
        "n", np.zeros(5, "u1"), time=time, point=7
    ),
}


@pytest.mark.parametrize("kind", SENDS)
@pytest.mark.parametrize(
    ("time", "sentence"),
    [
        ([1.0, 2.0, 3.0], "3 times for 5 points"),
        (np.arange(7), "7 times for 5 points"),
        ([], "0 times for 5 points"),
        (float("inf"), "infinite"),
        (datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None), "has no time zone"),
        ("now", "expected times in seconds"),
    ],
)
def test_times_that_do_not_fit_are_refused_and_nothing_is_taken(  # noqa: PLR0917
    publisher: Publisher,
    server: PrivateRedis,
    bus: Bus,
    kind: str,
    time: Any,
    sentence: str,
) -> None:
    with publisher.scan(quota_bytes=2**20) as scan:
        declare(scan)
        with pytest.raises(ValueError, match=sentence):
            SENDS[kind](scan, time)
    assert [batches_of(bus, server, scan, name) for name in CHANNELS] == [[]] * 7


def test_points_of_a_group_have_one_time(publisher: Publisher) -> None:
    with publisher.scan(quota_bytes=2**20) as scan:
        declare(scan)
        scan.send("b", np.arange(3.0), time=[1.0, 5.0, 6.0])
        with pytest.raises(
            ValueError, match=r"c: point 2 has the time 6.0 .*'g'.* 7.0"
        ):
            scan.send("c", np.arange(3, dtype="i2"), time=[1.0, 5.0, 7.0])
        scan.send("c", np.arange(3, dtype="i2"), time=[1.0, 5.0, 6.0])


def test_without_times_points_have_theirs_to_within_a_millisecond(
    publisher: Publisher, server: PrivateRedis, bus: Bus
) -> None:
    """Also when many of them, with pauses in between, become one entry."""
    taken = []
    with publisher.scan(quota_bytes=2**20) as scan:
        scan.channel("b", group="g")
        scan.channel("c", group="g")
        for number in range(30):
            scan.send("b", 1.0)
            if number % 10 == 0:
                sleep(0.05)
            taken.append(wall_clock())
            scan.send("c", 1.0)
    batches = batches_of(bus, server, scan, "b")
    found = np.concatenate([one.times for one in batches])
    # The test may be stopped between its own clock and that of send.
    assert np.median(np.abs(found - taken)) < 2e-3
    assert np.all(found - taken < 0.5)
