"""Goal 10: costs that stay in proportion to what a scan holds.

Many updates, channels and metadata: each was quadratic once, or a constant that was too
large. The cost of many is measured against that of few where the machine's speed would
decide otherwise.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil

from benchmarks.harness import sending
from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure, figure_of
from benchmarks.harness.stage import Stage, child_environment, start_child
from benchmarks.harness.tree_memory import PeakPss
from scanbus.publisher import Publisher

GOAL = 10
MB = 10**6
N_UPDATES = 10_000
N_KEYS = 300_000
MANY_CHANNELS = 4000
SOME_CHANNELS = 300
N_POINTS = 100
QUOTA_BYTES = 4 * 2**20
N_SKIPPED = 200_000
SMALL_FRAME = (64, 64)
Ready = Callable[[], None]


def measure(plan: Plan) -> Iterator[Figure]:
    with plan.stage(aof=True) as stage:
        yield _some_channels(stage)
        if plan.quick:
            return
        yield from _updates(stage, plan.repeats)
        yield _keys(stage)
        yield _jump(stage)
    with plan.stage(aof=True) as stage:
        yield from _many_channels(stage)


def _updates(stage: Stage, repeats: int) -> Iterator[Figure]:
    waits = []
    for _ in range(repeats):
        child = start_child(publish_updates, stage.url, N_UPDATES)
        child.go()
        waits.append(child.result())
    name = f"{N_UPDATES} updates, end of the scan to its verdict"
    was = "11 s of 2000, 123 s of 6000"
    yield figure_of(GOAL, name, waits, "s", wanted=2.0, at_most=True, before=was)
    listed = [_timed_command("ls", "--redis", stage.url) for _ in range(repeats)]
    empty_s = _timed_command("--help")
    name = f"scanbus ls after {repeats} scans of {N_UPDATES} updates"
    note, was = f"starting the command takes {empty_s:.1f} s", "9 s of 2000"
    yield figure_of(GOAL, name, listed, "s", note=note, before=was)
    stage.remove_files()


def _keys(stage: Stage) -> Figure:
    child = start_child(publish_keys, stage.url, N_KEYS)
    child.go()
    seconds, outcome = child.result()
    stage.remove_files()
    name = f"{N_KEYS} keys of metadata, to the verdict or the refusal"
    was = "no verdict within 40 s"
    return Figure(GOAL, name, seconds, "s", 10.0, True, note=outcome, before=was)


def _some_channels(stage: Stage) -> Figure:
    seconds: dict[str, float] = {}
    for target in (sending.send_grouped, send_ungrouped):
        child = start_child(target, stage.url, SOME_CHANNELS, N_POINTS)
        with stage.metered() as spent:
            child.go()
            run: sending.Run = child.result()
        seconds[target.__name__] = run.cpu_s + sum(spent.values())
        stage.remove_files()
    ratio = seconds["send_ungrouped"] / seconds["send_grouped"]
    name = f"{SOME_CHANNELS} ungrouped channels / one group, CPU time"
    note = "{:.2f} / {:.2f} CPU s".format(*reversed(seconds.values()))
    was = "7 to 10"
    return Figure(GOAL, name, ratio, "x", 1.5, True, note=note, before=was)


def _jump(stage: Stage) -> Figure:
    child = start_child(publish_jump, stage.url, N_SKIPPED)
    workers = [psutil.Process(pid) for pid in stage.writer_pids]
    child.go()
    most = 0
    while not child.pipe.poll(0.01):
        most = max([most, *(worker.num_fds() for worker in workers)])
    seconds, n_files = child.result()
    stage.remove_files()
    name = f"jump of a lane over {N_SKIPPED} points, open files of a process"
    note = f"{n_files} segments at least; verdict after {seconds:.1f} s"
    was = "one for each segment: 4500, and 1.5 GB"
    return Figure(GOAL, name, most, "", 100.0, True, note=note, before=was)


def _many_channels(stage: Stage) -> Iterator[Figure]:
    child = start_child(send_ungrouped, stage.url, MANY_CHANNELS, N_POINTS)
    with PeakPss(lambda: stage.writer_pids) as peak:
        child.go()
        run: sending.Run = child.result()
    name = f"{MANY_CHANNELS} channels without a group, {N_POINTS} points"
    to_verdict, memory = f"{name}, to verdict", f"{name}, writer PSS"
    was = "over a minute", "2300 MB"
    yield Figure(GOAL, to_verdict, run.seconds, "s", 20.0, True, before=was[0])
    pss = peak.nbytes / MB
    yield Figure(GOAL, memory, pss, "MB", 300.0, True, before=was[1])


def _timed_command(*words: str) -> float:
    command = [sys.executable, "-m", "scanbus.cli", *words]
    started = time.perf_counter()
    subprocess.run(command, check=True, env=child_environment(), capture_output=True)
    return time.perf_counter() - started


# ------------------------------------------------------------ publishing processes


def publish_updates(ready: Ready, url: str, n_updates: int) -> float:
    """Return the seconds from the end of a scan of many updates to its verdict."""
    with Publisher(url, name="updates") as publisher:
        ready()
        with publisher.scan(require_writer=True, quota_bytes=QUOTA_BYTES) as scan:
            scan.channel("counter")
            scan.prepare()
            for number in range(n_updates):
                scan.update(note=f"note {number}")
            scan.send("counter", 1.0)
        ended = time.perf_counter()
        sending.check(scan.verdict(sending.VERDICT_S), {"counter": 1})
        return time.perf_counter() - ended


def publish_keys(ready: Ready, url: str, n_keys: int) -> tuple[float, str]:
    """Return the seconds of a scan with many keys of metadata, and its outcome."""
    tree = {f"key_{number}": number for number in range(n_keys)}
    with Publisher(url, name="keys") as publisher:
        ready()
        started = time.perf_counter()
        try:
            with publisher.scan(metadata=tree, quota_bytes=QUOTA_BYTES) as scan:
                scan.channel("counter")
                scan.send("counter", 1.0)
        except ValueError as error:
            return time.perf_counter() - started, f"refused: {str(error)[:60]}"
        sending.check(scan.verdict(sending.VERDICT_S), {"counter": 1})
        return time.perf_counter() - started, "written"


def publish_jump(ready: Ready, url: str, n_skipped: int) -> tuple[float, int]:
    """Return the seconds of a scan with a long gap, and its least number of segments.

    Two frames, one before and one behind the gap.
    """
    frame = np.zeros(SMALL_FRAME, np.uint16)
    with Publisher(url, name="jump") as publisher:
        ready()
        started = time.perf_counter()
        with publisher.scan(quota_bytes=QUOTA_BYTES) as scan:
            scan.detector(
                "detector", shape=SMALL_FRAME, dtype="uint16", points_per_chunk=1
            )
            scan.send("detector", frame)
            scan.skip("detector", n_skipped)
            scan.send("detector", frame)
        verdict = scan.verdict(sending.VERDICT_S)
        seconds = time.perf_counter() - started
    if verdict.channels["detector"].written != 2:
        raise RuntimeError(f"{verdict.verdict}: {verdict.reason}")
    return seconds, n_skipped * frame.nbytes // QUOTA_BYTES


def send_ungrouped(
    ready: Ready, url: str, n_channels: int, n_points: int
) -> sending.Run:
    """Publish counters that nobody grouped, point by point."""
    return sending.send_scalars(ready, url, n_channels, 1, n_points)
