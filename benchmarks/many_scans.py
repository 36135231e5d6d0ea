"""Goal 10: many scans, in a row, at once, or open and idle, cost in proportion.

A program that loops over quick scans must not wait for room that nobody uses, and what
is open and idle, or was written long ago, costs next to nothing.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from statistics import median, quantiles
from typing import Any

from benchmarks.harness import sending
from benchmarks.harness.plan import Plan
from benchmarks.harness.results import Figure
from benchmarks.harness.stage import Stage, start_child
from benchmarks.harness.tree_memory import tree_pss
from scanbus.bus.store import connect, reserved_quotas, used_memory
from scanbus.publisher import Publisher, Scan
from scanbus.schemas.file_names import scan_folder_name

GOAL = 10
MB = 10**6
LOOP_MIB = 1024
N_LOOP, N_LOOP_QUICK = 1000, 100
FEW_SCANS, MANY_SCANS = 20, 2000
N_AT_ONCE = 200
N_ON_DISK = 10_000
SESSION = "20260101"
DATASET = f"proposal/id00/{SESSION}/RAW_DATA/sample/sample_0001"
# Some of these commands are sent every 5 or 8 s.
IDLE_S = 40.0
UNTIL_IDLE_S = 12.0
QUOTA_BYTES = 4 * 2**20
IN_A_ROW_S = 900.0
Ready = Callable[[], None]


def measure(plan: Plan) -> Iterator[Figure]:
    n_scans = plan.size(N_LOOP, N_LOOP_QUICK)
    with Stage(plan.folder, aof=True, maxmemory_mib=LOOP_MIB) as stage:
        yield _loop_without_writer(stage, n_scans)
    if plan.quick:
        return
    with plan.stage(aof=True, maxmemory_mib=LOOP_MIB) as stage:
        yield _loop(stage, n_scans)
    with plan.stage(aof=True) as stage:
        yield _first_number(stage)
        yield from _idle(stage)
        yield _at_once(stage)
    with plan.stage(aof=True) as stage:
        yield from _in_a_row(stage)


def _loop(stage: Stage, n_scans: int) -> Figure:
    child = start_child(publish_loop, stage.url, n_scans, sending.VERDICT_S)
    child.go()
    waits = child.result(IN_A_ROW_S)
    name = f"a loop of {n_scans} quick scans, the program's time of each"
    longest = quantiles(waits, n=100)[-1]
    note = f"none refused, 99 of 100 within {longest * 1000:.0f} ms"
    before = "the third was refused"
    value = median(waits) * 1000
    return Figure(GOAL, name, value, "ms", 30.0, True, note=note, before=before)


def _loop_without_writer(stage: Stage, n_scans: int) -> Figure:
    with connect(stage.url, name="bench") as client:
        empty = used_memory(client)
        child = start_child(publish_loop, stage.url, n_scans, 0.0)
        child.go()
        waits = child.result(IN_A_ROW_S)
        held = used_memory(client) - empty
        reserved = sum(reserved_quotas(client).values())
    name = f"{n_scans} quick scans without a writer, reserved / used in Redis"
    note = (
        f"{reserved / MB:.1f} / {held / MB:.1f} MB, {median(waits) * 1000:.0f} ms each"
    )
    before = "the fifth was refused"
    value = reserved / held
    return Figure(GOAL, name, value, "x", 1.0, True, note=note, before=before)


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
    child = start_child(publish_in_a_row, stage.url, 1)
    child.go()
    child.result()
    none = _commands_per_s(stage)
    goals = ((1, 5.0, "108 /s"), (20, 40.0, "1100 /s"))
    for n_scans, wanted, before in goals:
        open_s = UNTIL_IDLE_S + IDLE_S + 2
        child = start_child(keep_open, stage.url, n_scans, open_s)
        child.go()
        time.sleep(UNTIL_IDLE_S)  # Waits grow to their full length.
        rate = _commands_per_s(stage) - none
        child.result()
        name = f"Redis commands of {n_scans} open idle scans"
        note = f"{none:.0f} /s more without any scan"
        yield Figure(GOAL, name, rate, "/s", wanted, True, note=note, before=before)
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
    child = start_child(publish_in_a_row, stage.url, N_AT_ONCE)
    with stage.metered() as spent:
        child.go()
        cpu_s = child.result()
    stage.remove_files()
    bound_s = cpu_s + sum(spent.values())
    child = start_child(publish_at_once, stage.url, N_AT_ONCE)
    child.go()
    last_s = child.result()
    stage.remove_files()
    name = f"{N_AT_ONCE} scans at once to the last verdict / CPU time one by one"
    note = f"{last_s:.1f} s / {bound_s:.1f} CPU s"
    return Figure(GOAL, name, last_s / bound_s, "x", 8.0, True, note=note)


def _in_a_row(stage: Stage) -> Iterator[Figure]:
    counts = (FEW_SCANS, MANY_SCANS)
    child = start_child(watch_memory, stage.url, counts, stage.writer_pids)
    child.go()
    few, many = child.result(IN_A_ROW_S)
    before = {"writer": "563 MB after 1000", "publisher": "253 MB after 1000"}
    for who in few:
        name = f"{who}, PSS after {MANY_SCANS} scans / after {FEW_SCANS}"
        note = f"{few[who] / MB:.0f} to {many[who] / MB:.0f} MB"
        value, was = many[who] / few[who], before.get(who, "")
        yield Figure(GOAL, name, value, "x", 1.3, True, note=note, before=was)


# ------------------------------------------------------------ publishing processes


def publish_loop(ready: Ready, url: str, n_scans: int, verdict_s: float) -> list[float]:
    """Return the seconds that a program needs for each scan of a loop.

    Parameters
    ----------
    verdict_s : float
        Longest wait for the verdict on the last scan, after the loop; 0 for none.
    """
    seconds = []
    with Publisher(url, name="loop", close_timeout_s=verdict_s) as publisher:
        ready()
        for number in range(n_scans):
            started = time.perf_counter()
            with publisher.scan() as scan:
                scan.channel("motor")
                scan.channel("counter")
                for point in range(10):
                    scan.send("motor", float(point))
                    scan.send("counter", float(number))
            seconds.append(time.perf_counter() - started)
        if verdict_s:
            expected = {"motor": 10, "counter": 10}
            sending.check(scan.verdict(verdict_s), expected)
    return seconds


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
                scan.channel("counter")
                scan.send("counter", 1.0)
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


def publish_in_a_row(ready: Ready, url: str, n_scans: int) -> float:
    """Return the CPU seconds of scans one after the other."""
    with Publisher(url, name="row") as publisher:
        ready()
        before = time.process_time()
        for _ in range(n_scans):
            _one_scan(publisher)
        return time.process_time() - before


def watch_memory(
    ready: Ready, url: str, counts: Iterable[int], writer_pids: list[int]
) -> list[dict[str, int]]:
    """Return the memory of publisher, writer and both after some numbers of scans."""
    found, done = [], 0
    with Publisher(url, name="row") as publisher:
        ready()
        for count in counts:
            for _ in range(count - done):
                _one_scan(publisher)
            done = count
            own, writer = tree_pss(["self"]), tree_pss(writer_pids)
            both = own + writer
            found.append({"publisher": own, "writer": writer, "both": both})
    return found


def _one_scan(publisher: Publisher) -> None:
    with publisher.scan(quota_bytes=QUOTA_BYTES) as scan:
        _send(scan)
    sending.check(scan.verdict(sending.VERDICT_S), {"counter": 10})


def publish_at_once(ready: Ready, url: str, n_scans: int) -> float:
    """Return the seconds until the last verdict of scans that are open together."""
    with Publisher(url, name="crowd") as publisher, ExitStack() as stack:
        ready()
        started = time.perf_counter()
        scans = [
            stack.enter_context(publisher.scan(quota_bytes=QUOTA_BYTES))
            for _ in range(n_scans)
        ]
        for scan in scans:
            _send(scan)
        stack.close()
        for scan in scans:
            sending.check(scan.verdict(sending.VERDICT_S), {"counter": 10})
        return time.perf_counter() - started


def _send(scan: Scan) -> None:
    scan.channel("counter")
    for number in range(10):
        scan.send("counter", float(number))
