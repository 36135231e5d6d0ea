"""Goal 5: from a publisher's send to a subscriber's numpy array, the writer running.

The time of sending travels as the value itself: both processes read the same monotonic
clock. A bare XADD and XREAD at 10/s shows what an idle machine takes to wake up.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import bare, sending
from benchmarks.harness.plan import Plan, with_aof
from benchmarks.harness.results import Figure, figure_of
from benchmarks.harness.stage import Stage, start_child
from scanbus.publisher import Publisher, Scan
from scanbus.subscriber import Subscriber

GOAL = 5
FRAME_SHAPE = (2048, 2048)
WAIT_S = 60.0
Ready = Callable[[], None]
# Points per second, and points of a run.
SCALARS = ((10, 28), (200, 200), (1000, 1000))
FRAMES = (20, 30)
BARE_POINTS = 15
# The first points of a scan find nothing warm, whatever sends them: a tenth, at most so
# many, are not counted.
MOST_LEFT_OUT = 20

_Run = npt.NDArray[np.float64]


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    for aof in plan.persistence:
        with plan.stage(aof=aof) as stage:
            yield from _scalars(plan, stage, with_aof(aof))
            found = [
                _latencies(stage, send_stamped, receive_stamped, *FRAMES)
                for _ in range(plan.repeats)
            ]
            name = f"4-megapixel frames at 20/s, {with_aof(aof)}"
            yield from _figures(name, found, 15.0)


def _scalars(plan: Plan, stage: Stage, redis_is: str) -> Iterator[Figure]:
    for rate, count in SCALARS:
        ours, limit = [], []
        for _ in range(plan.repeats):
            if rate == SCALARS[0][0]:
                both = bare.send_times, bare.receive_times
                limit.append(_latencies(stage, *both, rate, BARE_POINTS))
            ours.append(_latencies(stage, send_times, receive_times, rate, count))
        if limit:
            yield from _figures(f"bare XADD and XREAD at {rate}/s, {redis_is}", limit)
        yield from _figures(f"scalars at {rate}/s, {redis_is}", ours, 1.0, 5.0)


def _latencies(
    stage: Stage,
    sender: Callable[..., Any],
    receiver: Callable[..., Any],
    rate: int,
    count: int,
) -> _Run:
    """Return the latencies of one scan in milliseconds, without the warm-up points."""
    subscriber = start_child(receiver, stage.url, count)
    publisher = start_child(sender, stage.url, rate, count)
    subscriber.go()
    # The subscriber follows only scans that are announced after it has started.
    time.sleep(0.3)
    publisher.go()
    publisher.result()
    found = np.array(subscriber.result()) * 1e3
    stage.remove_files()
    return found[min(MOST_LEFT_OUT, count // 10) :]


def _figures(
    name: str,
    runs: Sequence[_Run],
    median_ms: float | None = None,
    p99_ms: float | None = None,
) -> Iterator[Figure]:
    """Yield the median of the runs' medians, and the 99th percentile of all points."""
    medians = [float(np.median(run)) for run in runs]
    points = np.concatenate(runs)
    yield figure_of(
        GOAL, f"{name}, median", medians, "ms", wanted=median_ms, at_most=True
    )
    late = float(np.percentile(points, 99))
    # Over all runs: one run has too few points for a percentile.
    note = f"of {len(points)} points, the last came after {points.max():.3g} ms"
    yield Figure(GOAL, f"{name}, p99", late, "ms", p99_ms, True, note=note)


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
                # A new array each time, as from a driver: it is not copied again.
                fresh = frame.copy()
                stamp = fresh.reshape(-1)[:4].view(np.float64)
                stamp[0] = time.perf_counter()
                scan.send("camera", fresh, copy=False)
        sending.check(scan.verdict(WAIT_S), {"camera": count})


def _declare_camera(scan: Scan) -> None:
    scan.detector("camera", shape=FRAME_SHAPE, dtype="uint16")
    scan.prepare()


def _ticks(rate: int, count: int) -> Iterator[int]:
    # The subscriber finds the scan first, so that its start-up is not measured.
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
    """Yield the decoded values of each batch and the time of their arrival."""
    with Subscriber(url) as subscriber:
        ready()
        scan = next(subscriber.follow(timeout_s=WAIT_S))
        scan.wait_prepared(WAIT_S)
        for batch in scan.stream(timeout_s=WAIT_S):
            values = batch.values
            yield values, time.perf_counter()
