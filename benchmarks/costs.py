"""Goal 10: costs that stay in proportion to what a scan holds.

Many updates, channels, metadata, scans in a row or at once, and scans that wait: each
was quadratic once, or a constant that was too large. The cost of one is measured
against that of few where the machine's speed would decide otherwise.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.harness import sending
from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure
from benchmarks.harness.stage import Stage, child_environment, start_child
from benchmarks.harness.tree_memory import PeakPss, tree_pss
from scanbus.bus.store import connect
from scanbus.publisher import Publisher, Scan
from scanbus.schemas.file_names import scan_folder_name

GOAL = 10
MB = 10**6
N_UPDATES = 10_000
N_KEYS = 300_000
MANY_CHANNELS = 4000
SOME_CHANNELS = 300
N_POINTS = 100
FEW_SCANS, MANY_SCANS = 20, 2000
N_AT_ONCE = 200
N_ON_DISK = 10_000
SESSION = "20260101"
DATASET = f"proposal/id00/{SESSION}/RAW_DATA/sample/sample_0001"
IDLE_S = 10.0
QUOTA_BYTES = 4 * 2**20
Ready = Callable[[], None]


def measure(plan: Plan) -> Iterator[Figure]:
    if plan.quick:
        return
    with plan.stage(aof=True) as stage:
        yield from _updates(stage)
        yield _keys(stage)
        yield _first_number(stage)
        yield from _idle(stage)
        yield _at_once(stage)
        yield _some_channels(stage)
    with plan.stage(aof=True) as stage:
        yield from _many_channels(stage)
    with plan.stage(aof=True) as stage:
        yield from _in_a_row(stage)


def _updates(stage: Stage) -> Iterator[Figure]:
    child = start_child(publish_updates, stage.url, N_UPDATES)
    child.go()
    verdict_s = child.result()
    listed_s = _timed_command("ls", "--redis", stage.url)
    name = f"{N_UPDATES} updates, end of the scan to its verdict"
    yield Figure(GOAL, name, verdict_s, "s", 2.0, True)
    empty_s = _timed_command("--help")
    name = f"scanbus ls after {N_UPDATES} updates"
    note = f"starting the command takes {empty_s:.1f} s"
    yield Figure(GOAL, name, listed_s, "s", note=note)
    stage.remove_files()


def _keys(stage: Stage) -> Figure:
    child = start_child(publish_keys, stage.url, N_KEYS)
    child.go()
    seconds, outcome = child.result()
    stage.remove_files()
    name = f"{N_KEYS} keys of metadata, to the verdict or the refusal"
    return Figure(GOAL, name, seconds, "s", 10.0, True, note=outcome)


def _first_number(stage: Stage) -> Figure:
    dataset = stage.folder / "files" / DATASET
    for number in range(1, N_ON_DISK + 1):
        (dataset / scan_folder_name(number)).mkdir(parents=True)
    child = start_child(open_two, stage.url)
    child.go()
    first_s, next_s, number = child.result()
    if number != N_ON_DISK + 1:
        raise RuntimeError(f"scan number {number} after {N_ON_DISK}")
    stage.remove_files()
    name = f"first number of a dataset with {N_ON_DISK} scans on the disk, scan open"
    note = f"the next scan {next_s * 1e3:.1f} ms"
    return Figure(GOAL, name, first_s * 1e3, "ms", note=note)


def _idle(stage: Stage) -> Iterator[Figure]:
    # Of a bus that had a scan: the stream of announcements is there.
    child = start_child(publish_in_a_row, stage.url, 1, 10)
    child.go()
    child.result()
    none = _commands_per_s(stage)
    for n_scans, wanted in ((1, 5.0), (20, 40.0)):
        child = start_child(keep_open, stage.url, n_scans, IDLE_S + 4)
        child.go()
        time.sleep(3)
        rate = _commands_per_s(stage)
        child.result()
        name = f"Redis commands of {n_scans} open idle scans"
        note = f"{none:.0f}/s more without any scan"
        yield Figure(GOAL, name, rate - none, "/s", wanted, True, note=note)
    stage.remove_files()


def _commands_per_s(stage: Stage) -> float:
    with connect(stage.url, name="idle") as client:

        def count() -> int:
            info: Any = client.info("commandstats")
            # Commands inside a script count too: they are work of Redis.
            return sum(each["calls"] for each in info.values())

        before = count()
        time.sleep(IDLE_S)
        return (count() - before) / IDLE_S


def _at_once(stage: Stage) -> Figure:
    child = start_child(publish_in_a_row, stage.url, N_AT_ONCE, 10)
    with stage.metered() as spent:
        child.go()
        cpu_s, _ = child.result()
    stage.remove_files()
    bound_s = cpu_s + sum(spent.values())
    child = start_child(publish_at_once, stage.url, N_AT_ONCE, 10)
    child.go()
    last_s = child.result()
    stage.remove_files()
    name = f"{N_AT_ONCE} scans at once to the last verdict / CPU time one by one"
    note = f"{last_s:.1f} s / {bound_s:.1f} CPU s"
    return Figure(GOAL, name, last_s / bound_s, "x", 8.0, True, note=note)


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


def _in_a_row(stage: Stage) -> Iterator[Figure]:
    found = {}
    for count in (FEW_SCANS, MANY_SCANS - FEW_SCANS):
        child = start_child(publish_in_a_row, stage.url, count, 10)
        child.go()
        _, memory = child.result(600.0)
        found[count] = memory, tree_pss(stage.writer_pids)
    few, many = found.values()
    for who, before, after in zip(("publisher", "writer"), few, many, strict=True):
        name = f"{who}, PSS after {MANY_SCANS} scans / after {FEW_SCANS}"
        note = f"{before / MB:.0f} to {after / MB:.0f} MB"
        yield Figure(GOAL, name, after / before, "x", 1.3, True, note=note)


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


def open_two(ready: Ready, url: str) -> tuple[float, float, int]:
    """Return the seconds to open two scans, and the number of the first."""
    seconds, numbers = [], []
    with Publisher(url, name="numbers") as publisher:
        ready()
        for _ in range(2):
            started = time.perf_counter()
            with publisher.scan(session=SESSION, quota_bytes=QUOTA_BYTES) as scan:
                seconds.append(time.perf_counter() - started)
                numbers.append(scan.identity.scan_number)
                _send(scan, 1)
            sending.check(scan.verdict(sending.VERDICT_S), {"counter": 1})
    return seconds[0], seconds[1], numbers[0]


def keep_open(ready: Ready, url: str, n_scans: int, seconds: float) -> None:
    """Keep prepared scans open, without a point."""
    with Publisher(url, name="idle") as publisher, ExitStack() as stack:
        ready()
        for _ in range(n_scans):
            scan = stack.enter_context(publisher.scan(quota_bytes=QUOTA_BYTES))
            scan.channel("counter")
            scan.prepare()
        time.sleep(seconds)


def publish_in_a_row(
    ready: Ready, url: str, n_scans: int, n_points: int
) -> tuple[float, int]:
    """Return the CPU time and the final memory of scans one after the other."""
    with Publisher(url, name="row") as publisher:
        ready()
        before = time.process_time()
        for _ in range(n_scans):
            with publisher.scan(quota_bytes=QUOTA_BYTES) as scan:
                _send(scan, n_points)
            sending.check(scan.verdict(sending.VERDICT_S), {"counter": n_points})
        return time.process_time() - before, tree_pss(["self"])


def publish_at_once(ready: Ready, url: str, n_scans: int, n_points: int) -> float:
    """Return the seconds until the last verdict of scans that are open together."""
    with Publisher(url, name="crowd") as publisher, ExitStack() as stack:
        ready()
        started = time.perf_counter()
        scans = [
            stack.enter_context(publisher.scan(quota_bytes=QUOTA_BYTES))
            for _ in range(n_scans)
        ]
        for scan in scans:
            _send(scan, n_points)
        stack.close()
        for scan in scans:
            sending.check(scan.verdict(sending.VERDICT_S), {"counter": n_points})
        return time.perf_counter() - started


def _send(scan: Scan, n_points: int) -> None:
    scan.channel("counter")
    for number in range(n_points):
        scan.send("counter", float(number))


def send_ungrouped(
    ready: Ready, url: str, n_channels: int, n_points: int
) -> sending.Run:
    """Publish counters that nobody grouped, point by point."""
    return sending.send_scalars(ready, url, n_channels, 1, n_points)
