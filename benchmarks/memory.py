"""Goal 6: does memory stay flat while a scan grows?

The quota is below a tenth of the bytes that are sent in the longest scans, so what is
measured is back-pressure, not how much fits.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from benchmarks.harness import sending
from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure
from benchmarks.harness.stage import Stage, start_child
from scanbus.bus.connection import connect
from scanbus.bus.room import budget_bytes, used_memory
from scanbus.publisher import Publisher

GOAL = 6
MIB = 2**20
MEMORY_MIB = 512
QUOTA_MIB = 48
FRAME_COUNTS = (200, 5000)
# Of 8 MiB raw: the quota is below a tenth of what even the shorter scan sends.
LARGE_FRAME_COUNTS = (200, 2000)
LARGE_QUOTA_MIB = 28
MOST_GROWTH_MIB = 50.0
POINT_COUNTS = (1_000, 100_000)
LARGE_ENTRIES = ((2048, 4096), 60)
# Growth that is no growth: the allocator's.
FLAT = 1.15
Ready = Callable[[], None]


@dataclass
class Peaks:
    """The most that was seen, in bytes."""

    publisher: int = 0
    writer: int = 0
    redis: int = 0


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    few, many = (
        _watched(plan, send_frames, (1024, 1024), count, QUOTA_MIB * MIB)
        for count in FRAME_COUNTS
    )
    yield from _flatness("{} to {} frames of 2 MiB".format(*FRAME_COUNTS), few, many)
    budget = budget_bytes(MEMORY_MIB * MIB) / MIB
    name = f"Redis, {FRAME_COUNTS[-1]} frames, maxmemory {MEMORY_MIB} MiB"
    yield Figure(GOAL, name, many.redis / MIB, "MiB", budget, True)
    yield from _large_frames(plan)
    few, many = (
        _watched(plan, send_points, 10, count, QUOTA_MIB * MIB)
        for count in POINT_COUNTS
    )
    yield from _flatness(
        "{} to {} points of 10 counters".format(*POINT_COUNTS), few, many
    )
    large = _watched(plan, send_noise, *LARGE_ENTRIES, 128 * MIB)
    name = "writer, entries of 16 MiB"
    yield Figure(GOAL, name, large.writer / MIB, "MiB resident", 200.0, True)


def _large_frames(plan: Plan) -> Iterator[Figure]:
    few, many = (
        _watched(plan, send_frames, (2048, 2048), count, LARGE_QUOTA_MIB * MIB)
        for count in LARGE_FRAME_COUNTS
    )
    what = "{} to {} frames of 8 MiB".format(*LARGE_FRAME_COUNTS)
    for name in ("writer", "publisher"):
        before, after = getattr(few, name) / MIB, getattr(many, name) / MIB
        note = f"{before:.0f} to {after:.0f} MiB resident, Redis {many.redis / MIB:.0f}"
        growth = max(0.0, after - before)
        label = f"{name}, growth, {what}"
        yield Figure(GOAL, label, growth, "MiB", MOST_GROWTH_MIB, True, note=note)


def _flatness(what: str, few: Peaks, many: Peaks) -> Iterator[Figure]:
    for name in ("writer", "publisher"):
        before, after = getattr(few, name) / MIB, getattr(many, name) / MIB
        note = f"{before:.0f} to {after:.0f} MiB resident"
        figure = after / before
        yield Figure(GOAL, f"{name}, {what}", figure, "x", FLAT, True, note=note)


def _watched(plan: Plan, sender: Callable[..., Any], *args: Any) -> Peaks:
    """Run one scan; return the peaks of all who took part."""
    peaks, stop = Peaks(), threading.Event()
    with plan.stage(aof=True, maxmemory_mib=MEMORY_MIB) as stage:
        child = start_child(sender, stage.url, *args)
        pids = {"writer": stage.writer_pid, "publisher": child.process.pid}
        watcher = threading.Thread(target=_watch, args=(peaks, stage, pids, stop))
        watcher.start()
        try:
            child.go()
            child.result()
        finally:
            stop.set()
            watcher.join()
    return peaks


def _watch(
    peaks: Peaks, stage: Stage, pids: dict[str, int], stop: threading.Event
) -> None:
    with connect(stage.url, name="watch") as client:
        while not stop.wait(0.05):
            peaks.redis = max(peaks.redis, used_memory(client))
            for name, pid in pids.items():
                try:
                    resident = psutil.Process(pid).memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                setattr(peaks, name, max(getattr(peaks, name), resident))


def send_frames(
    ready: Ready, url: str, shape: tuple[int, int], count: int, quota_bytes: int
) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.poisson(2.0, shape).astype(np.uint16) for _ in range(8)]
    _send(ready, url, frames, count, quota_bytes, "bitshuffle-lz4", 2.0)


def send_noise(
    ready: Ready, url: str, shape: tuple[int, int], count: int, quota_bytes: int
) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 2**16, shape, dtype=np.uint16) for _ in range(2)]
    _send(ready, url, frames, count, quota_bytes, "none", 1.0)


def _send(  # noqa: PLR0917
    ready: Ready,
    url: str,
    frames: list[Any],
    count: int,
    quota_bytes: int,
    codec: str,
    compression: float,
) -> None:
    with Publisher(url, name="memory") as publisher:
        ready()
        with publisher.scan(
            quota_bytes=quota_bytes, compression=compression, require_writer=True
        ) as scan:
            shape = frames[0].shape
            scan.detector("camera", shape=shape, dtype="uint16", codec=codec)
            for number in range(count):
                scan.send("camera", frames[number % len(frames)])
        verdict = scan.verdict(sending.VERDICT_S)
    if verdict.verdict != "complete":
        raise RuntimeError(verdict.reason)


def send_points(
    ready: Ready, url: str, n_channels: int, count: int, quota_bytes: int
) -> None:
    names = [f"c{number}" for number in range(n_channels)]
    with Publisher(url, name="memory") as publisher:
        ready()
        with publisher.scan(quota_bytes=quota_bytes, require_writer=True) as scan:
            for name in names:
                scan.channel(name, group="step")
            for number in range(count):
                for name in names:
                    scan.send(name, float(number))
        scan.verdict(sending.VERDICT_S)
