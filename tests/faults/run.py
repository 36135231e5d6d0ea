"""The fault run: many arenas, side by side, and a table of what came out.

``python -m tests.faults.run --faults 500 --minutes 30 --seed 7`` does faults at random
until it has done so many or the time is over; without ``--faults`` it does every
failpoint and every kind, as CI does. Exit code 1 if anything was lost.
"""

import argparse
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.arena import Outcome, play
from tests.faults.schedule import Arena, Persistence, covering, endless
from tests.support.clocks import NO_CLOCKS, clocks_can_jump

__all__ = ["Limit", "Row", "main", "play_all", "report", "rows"]


@dataclass
class Row:
    """One line of the table; hits by what Redis keeps on disk."""

    by_persistence: Counter[Persistence] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    wrong_verdicts: int = 0

    @property
    def hits(self) -> int:
        return self.by_persistence.total()


def rows(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], Row]:
    """What was lost in scans that were under way, by kind and failpoint."""
    table: dict[tuple[str, str], Row] = {}
    for outcome in outcomes:
        for played in outcome.played:
            key = (played.fault.kind.value, played.fault.failpoint)
            row = table.setdefault(key, Row())
            row.by_persistence[outcome.arena.persistence] += played.was_hit
            for scan in played.scans & set(outcome.findings):
                finding = outcome.findings[scan]
                row.lost += finding.lost
                row.doubled += finding.doubled
                row.wrong_verdicts += finding.wrong_verdicts
    return table


def report(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield the lines of the table, and of everything that is not as it should be."""
    kept = " ".join(f"{persistence:>8}" for persistence in Persistence)
    head = f"{'kind':45} {'failpoint':19} {'hits':>5}"
    yield f"{head} {kept} {'lost':>6} {'doubled':>8} wrong"
    table = rows(outcomes)
    for (kind, failpoint), row in sorted(table.items()):
        kept = " ".join(f"{row.by_persistence[each]:8}" for each in Persistence)
        numbers = (
            f"{row.hits:5} {kept} {row.lost:6} {row.doubled:8} {row.wrong_verdicts:5}"
        )
        yield f"{kind:45} {failpoint:19} {numbers}"
    # Each arena has one finding more, on what belongs to no scan.
    n_scans = sum(max(0, len(o.findings) - 1 - o.n_refused) for o in outcomes)
    findings = [one for each in outcomes for one in each.findings.values()]
    yield (
        f"{sum(row.hits for row in table.values())} faults in {len(outcomes)} arenas, "
        f"{n_scans} scans: "
        f"{sum(one.lost for one in findings)} points lost, "
        f"{sum(one.doubled for one in findings)} doubled, "
        f"{sum(one.wrong_verdicts for one in findings)} verdicts wrong"
    )
    yield (
        f"{sum(each.n_refused for each in outcomes)} more scans were refused at their "
        "begin, while Redis was away; "
        f"{sum(each.n_interrupted for each in outcomes)} were interrupted by the death "
        "of their publisher"
    )
    passes: Counter[str] = Counter()
    for outcome in outcomes:
        passes.update(outcome.passes)
    yield "passed unharmed: " + ", ".join(f"{n} {k}" for k, n in passes.items())
    for outcome in outcomes:
        yield from _complaints(outcome)


def _complaints(outcome: Outcome) -> Iterator[str]:
    arena = outcome.arena
    where = f"arena {arena.seed} (AOF {arena.persistence}, trims {arena.trims})"
    yield from (f"{where}: {problem}" for problem in outcome.problems)
    for number, finding in sorted(outcome.findings.items()):
        yield from (f"{where}, scan {number}: {note}" for note in finding.notes)
    yield from outcome.told


def play_all(
    arenas: Iterable[Arena],
    folder: Path,
    *,
    jobs: int,
    is_over: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Play arenas, some at a time, until there are none left or it is over."""
    outcomes: list[Outcome] = []
    lock = threading.Lock()
    waiting = enumerate(arenas)

    def work() -> None:
        while not is_over():
            with lock:
                index, arena = next(waiting, (0, None))
            if arena is None:
                return
            outcome = play(arena, folder / f"arena-{index}", is_over=is_over)
            with lock:
                outcomes.append(outcome)
            word = "clean" if outcome.is_clean else "NOT CLEAN"
            say(
                f"arena {index} (seed {arena.seed}, AOF {arena.persistence}): "
                f"{len(outcome.played)} faults, {len(outcome.findings) - 1} scans, "
                f"{outcome.seconds:.0f} s, {word}"
            )
            for line in _complaints(outcome):
                say(f"    {line}")

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(work) for _ in range(jobs)]:
            future.result()
    return outcomes


class Limit:
    """Until so many faults were handed out, or so much time has passed."""

    def __init__(self, faults: int, minutes: float) -> None:
        self._left = faults
        self._deadline = time.monotonic() + 60 * minutes

    def is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def within(self, arenas: Iterable[Arena]) -> Iterator[Arena]:
        for arena in arenas:
            if self._left <= 0:
                return
            self._left -= len(arena.faults)
            yield arena


def main(argv: list[str] | None = None) -> int:
    """Run, print the table, return 1 if anything is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--jobs", type=int, default=6)
    asked = parser.parse_args(argv)
    print(f"seed {asked.seed}", flush=True)  # noqa: T201
    limit = Limit(asked.faults or 2**31, asked.minutes)
    clocks = clocks_can_jump()
    if not clocks:
        print(NO_CLOCKS)  # noqa: T201
    make = endless if asked.faults else covering
    arenas = make(asked.seed, clocks=clocks)
    folder = Path(tempfile.mkdtemp(prefix="scanbus-faults-"))
    outcomes = play_all(
        limit.within(arenas), folder, jobs=asked.jobs, is_over=limit.is_over
    )
    for line in report(outcomes):
        print(line)  # noqa: T201
    if all(outcome.is_clean for outcome in outcomes):
        folder.rmdir()
        return 0
    print(f"logs and files of what went wrong are in {folder}")  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
