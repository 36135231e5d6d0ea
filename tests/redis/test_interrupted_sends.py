"""Ctrl-C at every step of a call: a point is accepted whole or not at all.

And points that were accepted before are neither lost nor changed.
"""

import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from scanbus.bus.codecs import find_codec
from scanbus.bus.store import Bus, connect
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import EndReason
from tests.support.interrupts import Interruption, interrupt_everywhere
from tests.support.published import MemoryWriter, read_scan, record_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

SHAPE = (40, 30)
LARGE = (1100, 1100)


@pytest.fixture
def bus(redis_url: str) -> Iterator[Bus]:
    with connect(redis_url, name="test") as client:
        yield client


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    with Publisher(redis_url, name="tests", close_timeout_s=0) as publisher:
        yield publisher


def image(value: int, shape: tuple[int, int] = SHAPE) -> Any:
    return np.full(shape, value, np.uint16)


def packed(value: int) -> bytes:
    return bytes(find_codec("bitshuffle-lz4").encode(image(value)))


# What is declared, and how one value is sent; a large frame is packed in the call.
KINDS: dict[str, tuple[dict[str, Any], Callable[[Scan, int], None]]] = {
    "float": ({}, lambda scan, n: scan.send("x", float(n))),
    "integer": ({"dtype": "int64"}, lambda scan, n: scan.send("x", n)),
    "list": ({}, lambda scan, n: scan.send("x", [n])),
    "array": ({}, lambda scan, n: scan.send("x", np.array([n], float))),
    "timed": ({}, lambda scan, n: scan.send("x", n, time=1e9 + n)),
    "vector": ({"shape": (3,)}, lambda scan, n: scan.send("x", np.full(3, float(n)))),
    "text": (
        {"dtype": "string", "max_point_bytes": 9},
        lambda scan, n: scan.send("x", str(n)),
    ),
    "numbered": ({}, lambda scan, n: scan.send("x", float(n), point=n)),
    "frame": (
        {"shape": SHAPE, "points_per_chunk": 3},
        lambda scan, n: scan.send("x", image(n)),
    ),
    "single frame": (
        {"shape": SHAPE, "points_per_chunk": 1},
        lambda scan, n: scan.send("x", image(n)),
    ),
    "packed frame": (
        {"shape": SHAPE, "points_per_chunk": 1, "codec": "bitshuffle-lz4"},
        lambda scan, n: scan.send("x", packed=packed(n)),
    ),
    "large frame": (
        {"shape": LARGE, "points_per_chunk": 1},
        lambda scan, n: scan.send("x", image(n, LARGE)),
    ),
}


def declare(scan: Scan, options: dict[str, Any]) -> None:
    if "points_per_chunk" in options:
        scan.detector("x", dtype="uint16", **options)
    else:
        scan.channel("x", **options)


def sent_numbers(values: Any) -> list[int]:
    """Return the number of each point; every element of a point must have it."""
    found = []
    for value in values:
        if isinstance(value, str):
            found.append(int(value))
            continue
        if np.isnan(value).all():
            continue  # A number that was not accepted is a gap.
        lowest, highest = np.min(value), np.max(value)
        assert lowest == highest, "a point came in parts"
        found.append(int(lowest))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_send_takes_a_point_whole_or_not_at_all(
    kind: str, publisher: Publisher, bus: Bus
) -> None:
    options, send = KINDS[kind]
    stride = 7 if kind == "large frame" else 1
    with publisher.scan(quota_bytes=2**27) as scan:
        declare(scan, options)
        numbers = itertools.count()
        send(scan, next(numbers))
        cut = [
            False,
            *interrupt_everywhere(lambda: send(scan, next(numbers)), stride=stride),
        ]
        for _ in range(3):
            send(scan, next(numbers))
            cut.append(False)
        scan.flush(20)
    assert len(cut) > 20
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)

    came = sent_numbers(read_scan(bus, scan.uid)["x"].values("x"))
    assert came == sorted(set(came))
    assert set(came) <= set(range(len(cut)))
    assert {n for n, was_cut in enumerate(cut) if not was_cut} <= set(came)


MASKED = [False, True, False, False, True]


@pytest.mark.parametrize("with_times", [False, True])
@pytest.mark.parametrize("kind", ["number", "grouped", "frame"])
def test_an_interrupted_send_takes_a_masked_array_whole_or_not_at_all(
    kind: str, with_times: bool, publisher: Publisher, bus: Bus
) -> None:
    """Its points, its gaps and its times: they are several runs of the buffer."""
    count = len(MASKED)
    shape = SHAPE if kind == "frame" else ()
    given: list[int] = []

    def send() -> None:
        given.append(len(given))
        values = np.full((count, *shape), len(given), np.uint16)
        mask = np.reshape(MASKED, (count, *(1,) * len(shape)))
        times = 1e9 + len(given) + np.arange(count) / 8 if with_times else None
        points = np.ma.array(values, mask=np.broadcast_to(mask, values.shape))
        scan.send("x", points, time=times)

    with publisher.scan(quota_bytes=2**27) as scan:
        if kind == "frame":
            scan.detector("x", shape=SHAPE, dtype="uint16", points_per_chunk=3)
        else:
            scan.channel("x", dtype="uint16", group="g" if kind == "grouped" else None)
        if kind == "grouped":
            scan.channel("y", group="g")
        send()
        cut = [False, *interrupt_everywhere(send), False]
        send()
        if kind == "grouped":
            scan.skip("y", len(cut) * count)
    assert len(cut) > 20
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)

    lane = read_scan(bus, scan.uid)["g" if kind == "grouped" else "x"]
    fill = lane.description.channels[0].missing_value
    values = [fill if one is None else int(np.max(one)) for one in lane.values("x")]
    sends = values[: len(values) // count * count : count]
    assert values[: len(sends) * count] == [
        fill if is_masked else n for n in sends for is_masked in MASKED
    ]
    assert {*values[len(sends) * count :]} <= {fill}
    whole = {n for n, was_cut in enumerate(cut, 1) if not was_cut}
    assert whole <= set(sends)


@pytest.mark.parametrize("kind", ["float", "integer", "array"])
def test_an_interrupted_send_in_a_group_leaves_the_channels_together(
    kind: str, publisher: Publisher, bus: Bus
) -> None:
    """A program that sends an interrupted value again gets all points in order."""
    make: dict[str, Callable[[int], object]] = {
        "float": float,
        "integer": int,
        "array": lambda n: np.array([n], float),
    }
    with publisher.scan() as scan:
        for name in "abc":
            scan.channel(name, group="g")
        for number in range(3):
            for name in "abc":
                scan.send(name, make[kind](number))
        lengths = dict.fromkeys("abc", 3)
        for step in itertools.count(1):
            name = "abc"[step % 3]
            value = make[kind](lengths[name])
            is_cut = Interruption(step).cuts(lambda: scan.send(name, value))  # noqa: B023
            scan.flush(20)
            lengths[name] = scan._queue.lanes["g"].series[name].count  # type: ignore[attr-defined]
            if not is_cut:
                break
        for name in "abc":
            for number in range(lengths[name], max(lengths.values()) + 1):
                scan.send(name, make[kind](number))
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)

    lane = read_scan(bus, scan.uid)["g"]
    for name in "abc":
        came = sent_numbers(lane.values(name))
        assert came == list(range(len(came)))
        assert len(came) == max(lengths.values()) + 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["skip", "flush", "update", "prepare", "finish"])
def test_other_calls_can_be_interrupted_at_any_step(
    name: str, publisher: Publisher, bus: Bus
) -> None:
    """The scan goes on, and ends, with everything that was accepted."""
    calls: dict[str, Callable[[Scan], object]] = {
        "skip": lambda scan: scan.skip("x", 1),
        "flush": lambda scan: scan.flush(20),
        "update": lambda scan: scan.update({"note": "n"}),
        "prepare": lambda scan: scan.prepare(),
        "finish": lambda scan: scan.finish(EndReason.SUCCESS),
    }
    is_cut, step, count = True, 0, 0
    while is_cut:
        step += 13 if name == "prepare" else 5
        count += 1
        with publisher.scan(quota_bytes=2**20) as scan:
            scan.channel("x")
            if name != "prepare":
                scan.send("x", 1.0)
            is_cut = Interruption(step).cuts(lambda: calls[name](scan))
            if scan.is_open:
                scan.send("x", 2.0)
        queue = scan._queue
        wait_until(lambda: queue.watch.is_fully_sent)  # noqa: B023
        queue.watch.release(None)  # Ends its threads.
    assert count > 3
    assert record_of(bus, scan.uid).ended is not None


PROGRAM = """
import sys, time, numpy
from scanbus.publisher import Publisher
url, uid = sys.argv[1:]
frame = numpy.zeros((64, 64), "uint16")
number, told = 0, open("/dev/stdout", "w", buffering=1)
try:
    with Publisher(url, close_timeout_s=50) as publisher:
        with publisher.scan(uid=uid, quota_bytes=2**24) as scan:
            scan.channel("x")
            scan.detector("d", shape=(64, 64), dtype="uint16", points_per_chunk=4)
            print("open", file=told)
            while True:
                scan.send("x", float(number) if number % 2 else [float(number)])
                number += 1
                scan.send("d", frame)
                time.sleep(0.0005)
except KeyboardInterrupt:
    print(number, file=told)
"""


MODELS = """
import sys
from pydantic import BaseModel
from scanbus.publisher import Publisher

def below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from below(each)

with Publisher(sys.argv[1]):
    ours = [each for each in below(BaseModel) if "scanbus" in each.__module__]
    unbuilt = [each.__name__ for each in ours if not each.__pydantic_complete__]
    print(len(ours), *unbuilt)
"""


def test_no_model_is_built_in_the_calls_of_a_program(redis_url: str) -> None:
    """Of a Ctrl-C while it builds one, pydantic makes another exception."""
    command = [sys.executable, "-c", MODELS, redis_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n_models, *unbuilt = done.stdout.split()
    assert int(n_models) > 10
    assert unbuilt == []


@pytest.mark.parametrize("attempt", range(6))
def test_a_real_interrupt_ends_the_scan_with_all_that_was_accepted(
    attempt: int, redis_url: str, bus: Bus
) -> None:
    uid = f"sigint{attempt:02d}"
    with MemoryWriter(redis_url):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, redis_url, uid],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            time.sleep(random.Random(attempt).uniform(0.0, 0.5))
            process.send_signal(signal.SIGINT)
            out, complaint = process.communicate(timeout=60)
        assert process.returncode == 0, complaint
        assert "Traceback" not in complaint
        assert "Ctrl-C again" in complaint
        record = record_of(bus, uid)
    assert record.ended is not None
    assert record.ended.end_reason is EndReason.USER_ABORT
    assert record.final_verdict is not None
    # Interrupted in its first send, it was not even prepared.
    lanes = read_scan(bus, uid) if record.prepared else {}
    came = sent_numbers(lanes["x"].values("x")) if lanes else []
    assert came == list(range(len(came)))
    assert len(came) - int(out) in {0, 1}


def test_a_second_interrupt_leaves_at_once_and_says_what_is_where(
    redis_url: str,
) -> None:
    """No writer is alive, so no verdict would come."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, redis_url, "sigint99"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        while "Ctrl-C again" not in process.stderr.readline():
            assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        complaint = process.stderr.read()
        process.wait(30)
        took_s = time.monotonic() - began
    assert took_s < 10, complaint
    assert "points_only_in_redis" in complaint
    assert "points_nowhere" in complaint
