"""Goal 10: costs that stay in proportion to what a scan holds.

Many updates, channels and metadata: each was quadratic once, or a constant that was too
large. The cost of many is measured against that of few where the machine's speed would
decide otherwise.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

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
Ready = Callable[[], None]


def measure(plan: Plan) -> Iterator[Figure]:
    with plan.stage(aof=True) as stage:
        yield from _updates(stage, 1 if plan.quick else plan.repeats)
        yield _keys(stage)
        if plan.quick:
            return
        yield _some_channels(stage)
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
    return Figure(GOAL, name, ratio, "x", 1.5, True, note=note)


def _many_channels(stage: Stage) -> Iterator[Figure]:
    child = start_child(send_ungrouped, stage.url, MANY_CHANNELS, N_POINTS)
    with PeakPss(lambda: stage.writer_pids) as peak:
        child.go()
        run: sending.Run = child.result()
    name = f"{MANY_CHANNELS} channels without a group, {N_POINTS} points"
    yield Figure(GOAL, f"{name}, to verdict", run.seconds, "s", 20.0, True)
    yield Figure(GOAL, f"{name}, writer PSS", peak.nbytes / MB, "MB", 300.0, True)


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


def send_ungrouped(
    ready: Ready, url: str, n_channels: int, n_points: int
) -> sending.Run:
    """Publish counters that nobody grouped, point by point."""
    return sending.send_scalars(ready, url, n_channels, 1, n_points)
