"""The append-only file: what each policy costs, how it grows, what a rewrite takes."""

import time
from collections.abc import Iterator
from typing import Any

import psutil

from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure, figure_of
from benchmarks.harness.stage import CONFIG
from scanbus.bus.connection import Bus, connect
from scanbus.cli.private_redis import PrivateRedis

GOAL = 9
POLICIES = {"none": "no", "everysec": "yes", "always": "yes"}
N_ENTRIES = 150
REWRITE_S = 60.0


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    payloads = plan.detector.packed()
    megabytes = plan.detector.packed_bytes / 1e6
    rates: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for _ in range(min(3, plan.repeats)):
        for policy in POLICIES:
            with _server(policy) as redis, connect(redis.url, name="aof") as client:
                started = time.perf_counter()
                _add(client, payloads, N_ENTRIES)
                seconds = time.perf_counter() - started
                rates[policy].append(N_ENTRIES * megabytes / seconds)
    for policy, found in rates.items():
        name = f"XADD of {megabytes:.1f} MB entries, AOF {policy}"
        yield figure_of(GOAL, name, found, "MB/s")
    yield from _rewrite(payloads, megabytes)


def _server(policy: str) -> PrivateRedis:
    options: dict[str, str | int] = {
        "maxmemory": "2gb",
        "appendonly": POLICIES[policy],
        "appendfsync": "everysec" if policy == "none" else policy,
    }
    return PrivateRedis(config=CONFIG, options=options)


def _add(client: Bus, payloads: list[bytes], count: int) -> None:
    for number in range(count):
        payload = payloads[number % len(payloads)]
        client.xadd("lane", {"h": b"header", "p": payload}, id="*")
        if number % 20 == 19:
            client.xtrim("lane", maxlen=100, approximate=False)


def _rewrite(payloads: list[bytes], megabytes: float) -> Iterator[Figure]:
    """Measure growth, then a rewrite with frames coming in."""
    with _server("everysec") as redis, connect(redis.url, name="aof") as client:
        _add(client, payloads, N_ENTRIES)
        info: dict[str, Any] = client.info("persistence")
        grown = info["aof_current_size"] / (N_ENTRIES * megabytes * 1e6)
        yield Figure(GOAL, "growth of the file per byte sent", grown, "x")
        used = client.info("memory")["used_memory"]
        client.bgrewriteaof()
        started, extra = time.perf_counter(), 0
        while _is_rewriting(client) and time.perf_counter() < started + REWRITE_S:
            extra = max(extra, _private_bytes(redis.pid))
            _add(client, payloads, 20)
        seconds = time.perf_counter() - started
        info = client.info("persistence")
        fork_us = client.info("stats")["latest_fork_usec"]
        copied = info.get("aof_last_cow_size", 0)
    note = (
        f"of {used / 2**20:.0f} MiB used, frames coming in; fork {fork_us / 1e3:.0f} ms"
    )
    yield Figure(GOAL, "rewrite", seconds, "s", note=note)
    yield Figure(GOAL, "memory copied by the rewrite", copied / 2**20, "MiB")
    yield Figure(GOAL, "private memory of the fork", extra / 2**20, "MiB")


def _is_rewriting(client: Bus) -> bool:
    info: dict[str, Any] = client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def _private_bytes(pid: int) -> int:
    """Return the memory that a server's children do not share with it."""
    total = 0
    for child in psutil.Process(pid).children():
        try:
            total += child.memory_full_info().uss
        except psutil.Error:
            continue
    return total
