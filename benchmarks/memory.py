"""Goal 6: does memory stay flat while a scan grows?

Quotas are below a tenth of the bytes that are sent (each row says which part), so what
is measured is back-pressure, not how much fits. Peaks are the kernel's (``VmHWM``) and
Redis' own, so none is missed; of the writer, which is a service and its workers, it is
the sampled sum of what each process takes (PSS). MB are 10^6 bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import sending
from benchmarks.harness.frames import pack
from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure
from benchmarks.harness.stage import start_child
from benchmarks.harness.tree_memory import PeakPss
from scanbus.bus.protocol import budget_bytes
from scanbus.bus.store import connect
from scanbus.publisher import Publisher, Scan

GOAL = 6
MB = 10**6
MIB = 2**20
MAXMEMORY_MIB = 512
# Growth that does not count: that of the allocator.
FLAT = 1.15
MOST_GROWTH_MB = 50.0
Ready = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """Scans of one kind: how long they are, and the quota.

    Attributes
    ----------
    what : str
        Content of a scan, for the figure's name.
    sender : callable
        Main function of the publisher's process.
    shape : tuple of int or int
        Shape of a frame, or number of counters of a point.
    counts : tuple of int
        Lengths of the scans, the shortest first.
    quota_bytes : int
        Quota of the scans.
    maxmemory_mib : int
        Memory limit of Redis, in MiB.
    """

    what: str
    sender: Callable[..., Any]
    shape: tuple[int, int] | int
    counts: tuple[int, ...]
    quota_bytes: int
    maxmemory_mib: int = MAXMEMORY_MIB


@dataclass(frozen=True)
class Peaks:
    """Largest memory use, in MB.

    Attributes
    ----------
    publisher, redis : float
        Resident memory.
    writer : float
        PSS of the service and its workers.
    used : float
        Memory of Redis as it reports it: its budget is about this.
    quotas_sent : float
        Data sent, as a multiple of the quota.
    """

    publisher: float
    writer: float
    redis: float
    used: float
    quotas_sent: float


@dataclass(frozen=True)
class Sent:
    """Report of a publisher: its peak memory and the data sent, in bytes."""

    resident: int
    nbytes: int


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    yield from _growing(plan, _frames_of_2_mib())
    yield from _growing(plan, _frames_of_8_mib(), in_mb=True)
    yield from _growing(plan, _points())
    yield from _large_entries(plan, _entries_of_16_mb(), "200 MB", 200.0)
    # "Beyond that 120 MB plus four entries".
    limit = 120.0 + 4 * 64 * MIB / MB
    yield from _large_entries(plan, _entries_of_64_mib(), "120 MB + 4 entries", limit)


def _frames_of_2_mib() -> Case:
    # Packed 0.41 MB: 83 MB in the shorter scan. 8 frames a file.
    return Case("frames of 2 MiB", send_frames, (1024, 1024), (200, 5000), 7 * MIB)


def _frames_of_8_mib() -> Case:
    return Case("frames of 8 MiB", send_frames, (2048, 2048), (200, 1000), 28 * MIB)


def _points() -> Case:
    # 8 MB in the longer scan. The shorter one has 80 kB: no quota presses there.
    quota = 512 * 2**10
    return Case("points of 10 counters", send_points, 10, (1_000, 100_000), quota)


def _entries_of_16_mb() -> Case:
    return Case("entries of 16 MB", send_noise, (2000, 4000), (60,), 64 * MIB)


def _entries_of_64_mib() -> Case:
    # Half the quota has to hold an entry; the budget, 60 % of maxmemory, the quota.
    shape = (4096, 8192)
    return Case("entries of 64 MiB", send_noise, shape, (30,), 160 * MIB, 1024)


def _growing(plan: Plan, case: Case, *, in_mb: bool = False) -> Iterator[Figure]:
    """Yield the additional memory of a longer scan, as a ratio or in MB."""
    few, many = (_peaks(plan, case, count) for count in case.counts)
    what = "{} to {} ".format(*case.counts) + case.what
    for name in ("writer", "publisher"):
        before, after = getattr(few, name), getattr(many, name)
        kind = "PSS" if name == "writer" else "resident"
        note = f"{before:.0f} to {after:.0f} MB {kind}; {_pressed(case, many)}"
        if in_mb:
            growth = max(0.0, after - before)
            label = f"{name}, growth, {what}"
            yield Figure(GOAL, label, growth, "MB", MOST_GROWTH_MB, True, note=note)
        else:
            ratio = after / before
            yield Figure(GOAL, f"{name}, {what}", ratio, "x", FLAT, True, note=note)
    yield _redis(case, many)


def _large_entries(
    plan: Plan, case: Case, said: str, limit_mb: float
) -> Iterator[Figure]:
    (count,) = case.counts
    peaks = _peaks(plan, case, count)
    note = f"at most {said}; {count} entries; {_pressed(case, peaks)}"
    name = f"writer, PSS, {case.what}"
    yield Figure(GOAL, name, peaks.writer, "MB", limit_mb, True, note=note)
    yield _redis(case, peaks)


def _redis(case: Case, peaks: Peaks) -> Figure:
    budget = budget_bytes(case.maxmemory_mib * MIB) / MB
    note = f"of maxmemory {case.maxmemory_mib} MiB; {peaks.redis:.0f} MB resident"
    name = f"Redis, used, {case.counts[-1]} {case.what}"
    return Figure(GOAL, name, peaks.used, "MB", budget, True, note=note)


def _pressed(case: Case, peaks: Peaks) -> str:
    quota = f"quota {case.quota_bytes / MB:.1f} MB"
    return f"{quota}, 1/{peaks.quotas_sent:.0f} of what is sent"


def _peaks(plan: Plan, case: Case, count: int) -> Peaks:
    """Run one scan; return the peaks of all processes."""
    with plan.stage(aof=True, maxmemory_mib=case.maxmemory_mib) as stage:
        child = start_child(case.sender, stage.url, case.shape, count, case.quota_bytes)
        child.go()
        with PeakPss(lambda: stage.writer_pids) as writer:
            sent: Sent = child.result()
        with connect(stage.url, name="peaks") as client:
            info: Any = client.info("memory")
        return Peaks(
            publisher=sent.resident / MB,
            writer=writer.nbytes / MB,
            redis=_peak_resident(stage.redis.pid) / MB,
            used=info["used_memory_peak"] / MB,
            quotas_sent=sent.nbytes / case.quota_bytes,
        )


def _peak_resident(pid: int | str) -> int:
    """Return the peak resident memory of a process since it started, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no VmHWM: memory cannot be measured")


def send_frames(
    ready: Ready, url: str, shape: tuple[int, int], count: int, quota_bytes: int
) -> Sent:
    rng = np.random.default_rng(1)
    frames = [rng.poisson(2.0, shape).astype(np.uint16) for _ in range(8)]
    packed_bytes = len(pack(frames[0]))
    # What somebody says who has packed one. The detector's files are cut by it, and
    # with their number the writer's memory grows.
    expected = float(frames[0].nbytes // packed_bytes)

    def send(scan: Scan) -> None:
        scan.detector("camera", shape=shape, dtype="uint16", codec="bitshuffle-lz4")
        for number in range(count):
            scan.send("camera", frames[number % len(frames)])

    options: dict[str, Any] = {"quota_bytes": quota_bytes, "compression": expected}
    peak = _publish(ready, url, send, {"camera": count}, **options)
    return Sent(peak, packed_bytes * count)


def send_noise(
    ready: Ready, url: str, shape: tuple[int, int], count: int, quota_bytes: int
) -> Sent:
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 2**16, shape, dtype=np.uint16) for _ in range(2)]

    def send(scan: Scan) -> None:
        scan.detector("camera", shape=shape, dtype="uint16", codec="none")
        for number in range(count):
            scan.send("camera", frames[number % len(frames)])

    peak = _publish(ready, url, send, {"camera": count}, quota_bytes=quota_bytes)
    return Sent(peak, frames[0].nbytes * count)


def send_points(
    ready: Ready, url: str, n_channels: int, count: int, quota_bytes: int
) -> Sent:
    names = [f"c{number}" for number in range(n_channels)]

    def send(scan: Scan) -> None:
        for name in names:
            scan.channel(name, group="step")
        for number in range(count):
            for name in names:
                scan.send(name, float(number))

    expected = dict.fromkeys(names, count)
    peak = _publish(ready, url, send, expected, quota_bytes=quota_bytes)
    return Sent(peak, 8 * n_channels * count)


def _publish(
    ready: Ready,
    url: str,
    send: Callable[[Scan], None],
    expected: dict[str, int],
    **options: Any,
) -> int:
    """Publish a scan to its verdict; return the peak resident memory meanwhile."""
    with Publisher(url, name="memory") as publisher:
        ready()
        # The peak is reset: creating the frames is not part of the publisher.
        Path("/proc/self/clear_refs").write_text("5")
        with publisher.scan(require_writer=True, **options) as scan:
            send(scan)
        sending.check(scan.verdict(sending.VERDICT_S), expected)
    return _peak_resident("self")
