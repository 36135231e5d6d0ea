"""The append-only file: cost of each policy, growth, duration of a rewrite."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure, figure_of
from benchmarks.harness.stage import CONFIG
from scanbus.bus.store import Bus, connect
from scanbus.cli.private_redis import PrivateRedis

GOAL = 9
POLICIES = {"none": "no", "everysec": "yes", "always": "yes"}
N_ENTRIES = 150
# Data in Redis during a rewrite of its file, and number of measurements.
HELD_BYTES = 2**30
REWRITES = 3
REWRITE_S = 60.0
SAMPLE_S = 0.02


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    payloads = plan.detector.packed()
    megabytes = plan.detector.packed_bytes / 1e6
    rates: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for _ in range(plan.repeats):
        for policy in POLICIES:
            with _server(policy) as redis, connect(redis.url, name="aof") as client:
                started = time.perf_counter()
                _add(client, payloads, N_ENTRIES, held=100)
                seconds = time.perf_counter() - started
                rates[policy].append(N_ENTRIES * megabytes / seconds)
    for policy, found in rates.items():
        name = f"XADD of {megabytes:.1f} MB entries, AOF {policy}"
        yield figure_of(GOAL, name, found, "MB/s")
    yield from _rewrites(payloads)


def _server(policy: str) -> PrivateRedis:
    options: dict[str, str | int] = {
        "maxmemory": "2gb",
        "appendonly": POLICIES[policy],
        "appendfsync": "everysec" if policy == "none" else policy,
    }
    return PrivateRedis(config=CONFIG, options=options)


def _add(client: Bus, payloads: list[bytes], count: int, *, held: int) -> None:
    for number in range(count):
        payload = payloads[number % len(payloads)]
        client.xadd("lane", {"h": b"header", "p": payload}, id="*")
        if number % 10 == 9:
            client.xtrim("lane", maxlen=held, approximate=False)


def _rewrites(payloads: list[bytes]) -> Iterator[Figure]:
    """Measure growth, then several times a rewrite while frames are sent."""
    runs = [_rewrite(payloads) for _ in range(REWRITES)]
    found = {name: [run[name] for run in runs] for name in runs[0]}
    note = f"{HELD_BYTES / 2**20:.0f} MiB held, frames coming in"
    yield figure_of(GOAL, "growth of the file per byte sent", found["grown"], "x")
    yield figure_of(GOAL, "rewrite", found["seconds"], "s", note=note)
    yield figure_of(GOAL, "rewrite, frames/s meanwhile", found["rate"], "frames/s")
    yield figure_of(GOAL, "rewrite, fork", found["fork_ms"], "ms")
    name = "rewrite, memory copied, by Redis' count"
    yield figure_of(GOAL, name, found["copied_mib"], "MiB")
    name = "rewrite, private memory of the fork, sampled"
    yield figure_of(GOAL, name, found["private_mib"], "MiB")


def _rewrite(payloads: list[bytes]) -> dict[str, float]:
    sizes = [len(payload) for payload in payloads]
    held = HELD_BYTES * len(sizes) // sum(sizes)
    sent = sum(sizes[number % len(sizes)] for number in range(held))
    with _server("everysec") as redis, connect(redis.url, name="aof") as client:
        _add(client, payloads, held, held=held)
        info: dict[str, Any] = client.info("persistence")
        grown = info["aof_current_size"] / sent
        client.bgrewriteaof()
        started, added = time.perf_counter(), 0
        with _sampled(redis.pid) as samples:
            while _is_rewriting(client):
                if time.perf_counter() > started + REWRITE_S:
                    raise RuntimeError(
                        f"a rewrite did not end within {REWRITE_S:.0f} s"
                    )
                _add(client, payloads, 10, held=held)
                added += 10
            seconds = time.perf_counter() - started
        info = client.info("persistence")
        if info["aof_last_bgrewrite_status"] != "ok" or not samples:
            raise RuntimeError(
                f"a rewrite ended with {info['aof_last_bgrewrite_status']} and "
                f"{len(samples)} samples of its memory: nothing was measured"
            )
        return {
            "grown": grown,
            "seconds": seconds,
            "rate": added / seconds,
            "fork_ms": client.info("stats")["latest_fork_usec"] / 1e3,
            "copied_mib": info["aof_last_cow_size"] / 2**20,
            "private_mib": max(samples) / 2**20,
        }


def _is_rewriting(client: Bus) -> bool:
    info: dict[str, Any] = client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


@contextmanager
def _sampled(pid: int) -> Iterator[list[int]]:
    """Collect the memory that a server's children do not share with it, in bytes."""
    samples: list[int] = []
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(SAMPLE_S):
            for child in psutil.Process(pid).children():
                try:
                    samples.append(child.memory_full_info().uss)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()
