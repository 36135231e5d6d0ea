"""Goal 5: from a publisher's send to a subscriber's numpy array, the writer running.

The time of sending travels as the value itself: both processes read the same monotonic
clock. A bare XADD and XREAD at 10/s shows what an idle machine takes to wake up.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import bare, sending
from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.results import Figure
from benchmarks.harness.stage import Stage, start_child
from scanbus.publisher import Publisher, Scan
from scanbus.subscriber import Subscriber

GOAL = 5
FRAME_SHAPE = (2048, 2048)
WAIT_S = 60.0
Ready = Callable[[], None]
# Points per second and how many points.
SCALARS = ((10, 130), (200, 1000), (1000, 3000))
FRAMES = (20, 100)
BARE_POINTS = 50


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    for aof in plan.persistence:
        with plan.stage(aof=aof) as stage:
            idle, _ = SCALARS[0]
            bare_ones = (bare.send_times, bare.receive_times)
            found = _latencies(stage, *bare_ones, idle, BARE_POINTS)
            yield from _figures(f"bare XADD and XREAD at {idle}/s", aof, found)
            for rate, count in SCALARS:
                found = _latencies(stage, send_times, receive_times, rate, count)
                yield from _figures(f"scalars at {rate}/s", aof, found, 1.0, 5.0)
            found = _latencies(stage, send_stamped, receive_stamped, *FRAMES)
            yield from _figures("4-megapixel frames at 20/s", aof, found, 15.0)


def _latencies(
    stage: Stage,
    sender: Callable[..., Any],
    receiver: Callable[..., Any],
    rate: int,
    count: int,
) -> npt.NDArray[np.float64]:
    """Return the latencies in milliseconds, without those of the first points."""
    subscriber = start_child(receiver, stage.url, count)
    publisher = start_child(sender, stage.url, rate, count)
    subscriber.go()
    # Only scans that are announced after it began to listen are followed.
    time.sleep(0.3)
    publisher.go()
    publisher.result()
    found = np.array(subscriber.result()) * 1e3
    stage.remove_files()
    return found[min(20, count // 10) :]


def _figures(
    what: str,
    aof: bool,
    found: npt.NDArray[np.float64],
    median_ms: float | None = None,
    p99_ms: float | None = None,
) -> Iterator[Figure]:
    spread = (float(found.min()), float(found.max()))
    name = f"{what}, {with_aof(aof)}"
    middle, late = (float(each) for each in np.percentile(found, (50, 99)))
    note = f"{len(found)} points"
    yield Figure(
        GOAL, f"{name}, median", middle, "ms", median_ms, True, spread, note=note
    )
    yield Figure(GOAL, f"{name}, p99", late, "ms", p99_ms, True)


def send_times(ready: Ready, url: str, rate: int, count: int) -> None:
    with Publisher(url, name="bench") as publisher:
        ready()
        with publisher.scan(require_writer=True) as scan:
            scan.channel("sent")
            scan.prepare()
            for _ in _ticks(rate, count):
                scan.send("sent", time.perf_counter())
        sending.check(scan.verdict(WAIT_S), {"sent": count})


def send_stamped(ready: Ready, url: str, rate: int, count: int) -> None:
    rng = np.random.default_rng(4)
    frame = rng.poisson(2.0, FRAME_SHAPE).astype(np.uint16)
    with Publisher(url, name="bench") as publisher:
        ready()
        with publisher.scan(require_writer=True, compression=3.0) as scan:
            _declare_camera(scan)
            for _ in _ticks(rate, count):
                # A fresh array each, as a driver hands out: it is not copied again.
                fresh = frame.copy()
                stamp = fresh.reshape(-1)[:4].view(np.float64)
                stamp[0] = time.perf_counter()
                scan.send("camera", fresh, copy=False)
        sending.check(scan.verdict(WAIT_S), {"camera": count})


def _declare_camera(scan: Scan) -> None:
    scan.detector("camera", shape=FRAME_SHAPE, dtype="uint16")
    scan.prepare()


def _ticks(rate: int, count: int) -> Iterator[int]:
    # The subscriber finds the scan first: a late start is not a late point.
    started = time.perf_counter() + 0.5
    for number in range(count):
        time.sleep(max(0.0, started + number / rate - time.perf_counter()))
        yield number


def receive_times(ready: Ready, url: str, count: int) -> list[float]:
    found: list[float] = []
    for values, now in _received(ready, url):
        found.extend(now - values)
        if len(found) >= count:
            break
    return [float(each) for each in found]


def receive_stamped(ready: Ready, url: str, count: int) -> list[float]:
    found: list[float] = []
    for frames, now in _received(ready, url):
        for frame in frames:
            sent = float(np.ascontiguousarray(frame).reshape(-1)[:4].view("f8")[0])
            found.append(now - sent)
        if len(found) >= count:
            break
    return found


def _received(ready: Ready, url: str) -> Iterator[tuple[Any, float]]:
    """Yield the decoded values of each batch and when they were there."""
    with Subscriber(url) as subscriber:
        ready()
        scan = next(subscriber.follow(timeout_s=WAIT_S))
        scan.wait_prepared(WAIT_S)
        for batch in scan.stream(timeout_s=WAIT_S):
            values = batch.values
            yield values, time.perf_counter()
