"""Goal 7: cost of a growing scan, many scans, start-up, import."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from statistics import median

from benchmarks.harness import sending
from benchmarks.harness.frames import small_frames
from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure, figure_of
from benchmarks.harness.stage import Stage, child_environment, start_child
from scanbus.publisher import Publisher

GOAL = 7
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
LENGTH_REPEATS = 5
N_SCANS = 200
Ready = Callable[[], None]


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    yield from _starting(plan)
    with plan.stage(aof=True) as stage:
        yield from _lengths(stage)
        yield from _many_frames(plan, stage)
        yield _wide(plan, stage)
        yield from _crowd(stage)


def _lengths(stage: Stage) -> Iterator[Figure]:
    seconds: dict[int, list[float]] = {length: [] for length in LENGTHS}
    verdicts: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for _ in range(LENGTH_REPEATS):
        for length in LENGTHS:
            child = start_child(sending.send_grouped, stage.url, 2, length)
            child.go()
            run: sending.Run = child.result()
            seconds[length].append(run.seconds)
            verdicts[length].append(run.verdict_s)
            stage.remove_files()
    for length in LENGTHS:
        note = f"last send to verdict {median(verdicts[length]):.2f} s"
        name = f"a point of 2 counters, scan of {length}"
        costs = [each / length * 1e6 for each in seconds[length]]
        yield figure_of(GOAL, name, costs, "us", note=note)
    # Opening and closing cost the same however long a scan is, and most of a short one:
    # what a point more costs is what must not grow.
    marginal = []
    for shorter, longer in pairwise(LENGTHS[1:]):
        more = median(seconds[longer]) - median(seconds[shorter])
        marginal.append(more / (longer - shorter) * 1e6)
        name = f"each point more, from {shorter} to {longer} points"
        yield Figure(GOAL, name, marginal[-1], "us", runs=LENGTH_REPEATS)
    before, after = marginal
    if before <= 0:
        raise RuntimeError("ten times the points took no longer: something disturbed")
    name = "each point more, from 10^5 to 10^6 / from 10^4 to 10^5"
    yield Figure(GOAL, name, after / before, "x", 1.2, True, runs=LENGTH_REPEATS)


def _many_frames(plan: Plan, stage: Stage) -> Iterator[Figure]:
    frames = small_frames(plan.folder / "scale", (64, 64))
    waits = []
    for _ in range(plan.repeats):
        child = start_child(sending.send_frames, stage.url, frames, 10_000, "raw")
        child.go()
        run: sending.Run = child.result()
        waits.append(run.verdict_s)
        stage.remove_files()
    name = "last of 10 000 frames of 64 x 64 to verdict"
    yield figure_of(GOAL, name, waits, "s", wanted=2.0, at_most=True)


def _wide(plan: Plan, stage: Stage) -> Figure:
    times = []
    for _ in range(plan.repeats):
        child = start_child(sending.send_grouped, stage.url, 1000, 100)
        child.go()
        run: sending.Run = child.result()
        times.append(run.seconds)
        stage.remove_files()
    return figure_of(GOAL, "1000 channels x 100 points, to verdict", times, "s")


def _crowd(stage: Stage) -> Iterator[Figure]:
    child = start_child(publish_crowd, stage.url, N_SCANS, 10)
    with stage.metered() as spent:
        child.go()
        opened, ended, judged = child.result()
    stage.remove_files()
    name = f"{N_SCANS} scans at once"
    note = f"open in {opened:.1f} s, sent in {ended:.1f} s, "
    note += f"writer {spent['writer']:.1f} CPU s"
    yield Figure(GOAL, f"{name}, to the last verdict", judged, "s", note=note)


def publish_crowd(
    ready: Ready, url: str, n_scans: int, n_points: int
) -> tuple[float, float, float]:
    """Keep many scans open at once; return the times of all open, sent, judged."""
    with Publisher(url, name="crowd") as publisher, ExitStack() as stack:
        ready()
        started = time.perf_counter()
        scans = [
            stack.enter_context(publisher.scan(quota_bytes=2**20))
            for _ in range(n_scans)
        ]
        for scan in scans:
            scan.channel("counter")
            scan.prepare()
        opened = time.perf_counter() - started
        for number in range(n_points):
            for scan in scans:
                scan.send("counter", float(number))
        stack.close()
        ended = time.perf_counter() - started
        for scan in scans:
            verdict = scan.verdict(60.0)
            if verdict.verdict != "complete":
                raise RuntimeError(verdict.reason)
        return opened, ended, time.perf_counter() - started


def _starting(plan: Plan) -> Iterator[Figure]:
    times = []
    for _ in range(plan.repeats):
        with Stage(plan.folder, aof=True) as stage:
            times.append(stage.start_writer())
    yield figure_of(
        GOAL, "start-up of the writer", times, "s", wanted=1.5, at_most=True
    )
    yield from _importing(plan)


def _importing(plan: Plan) -> Iterator[Figure]:
    """Time imports with compiled bytecode on the disk, as for an installed package."""
    libraries = "import numpy, pydantic, redis, structlog"
    ours = "import sys, scanbus.publisher; sys.exit('h5py' in sys.modules)"
    with tempfile.TemporaryDirectory(dir=plan.folder) as bytecode:
        for code in (libraries, ours):
            _timed(code, bytecode)
        rounds = [
            [_timed(code, bytecode) for code in ("pass", libraries, ours)]
            for _ in range(plan.repeats)
        ]
    third_party = [found - empty for empty, found, _ in rounds]
    yield figure_of(GOAL, "import numpy, pydantic, redis, structlog", third_party, "s")
    times = [found - empty for empty, _, found in rounds]
    name = "import scanbus.publisher, without h5py"
    yield figure_of(GOAL, name, times, "s", wanted=0.3, at_most=True)


def _timed(code: str, bytecode: str) -> float:
    environment = child_environment() | {"PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return time.perf_counter() - started
