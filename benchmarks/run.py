"""Measure every goal and say whether it is met.

    python -m benchmarks.run                  all of it, into docs/performance.md
    python -m benchmarks.run --quick          the kept ratios only, for CI
    python -m benchmarks.run --only latency   one goal, shown and not written
    python -m benchmarks.run --quick --keep "REASON"   keep the ratios instead

A quick run fails when a ratio is more than 30 % below the one in
``benchmarks/kept.json``, twice in a row, or was not measured. Exit code 0 says that all
that was asked for was measured, not that every goal is met.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.harness import kept, page
from benchmarks.harness.frames import detector_frames
from benchmarks.harness.machine import describe, doubts
from benchmarks.harness.plan import Plan, prepare_environment, use_for_redis
from benchmarks.harness.results import Figure, text_table

MODULES = (
    "raw_frames",
    "packed_frames",
    "incompressible",
    "scalars",
    "latency",
    "memory",
    "scale",
    "small_frames",
    "append_only",
    "costs",
    "many_scans",
    "many_masters",
    "gateways",
)
REPEATS = 5
QUICK_REPEATS = 5


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    prepare_environment()
    # On the disk that files are written to: /tmp is often in memory.
    with tempfile.TemporaryDirectory(
        prefix="scanbus-bench-", dir=arguments.folder
    ) as made:
        folder = Path(made).absolute()
        try:
            use_for_redis(folder)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        warnings = doubts(folder)
        machine = describe(folder)
        for name, text in machine.items():
            print(f"{name:12s} {text}")
        for name, text in warnings.items():
            print(f"{name}: {text}", file=sys.stderr)
        machine |= warnings
        detector = detector_frames(folder / "detector", simulated=arguments.quick)
        raw, packed = detector.raw_bytes / 1e6, detector.packed_bytes / 1e6
        machine["frames"] = f"{detector.source}, {raw:.1f} MB, packed {packed:.1f}"
        print(f"{'frames':12s} {machine['frames']}", flush=True)
        is_short = arguments.quick and not arguments.keep
        repeats = arguments.repeats or (QUICK_REPEATS if is_short else REPEATS)
        plan = Plan(folder, arguments.quick, repeats, detector)
        modules = arguments.only or MODULES
        if is_short:
            return _compared(plan, modules)
        measured = _all(plan, modules)
    if measured.failed:
        print(f"Nothing is stored: {measured.failed}.", file=sys.stderr)
        return 1
    if arguments.keep:
        line = kept.write(measured.figures, arguments.keep)
        print(f"Kept. The CHANGELOG needs this line:\n{line}")
    elif not arguments.only:
        page.write(measured.figures, machine, measured.minutes)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", metavar="REASON", help="with --quick")
    parser.add_argument("--only", nargs="+", choices=MODULES, metavar="GOAL")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    arguments = parser.parse_args(argv)
    if arguments.keep is not None:
        if not arguments.quick:
            parser.error("--keep keeps the ratios of a quick run: add --quick")
        if len(arguments.keep.split()) < 2:
            parser.error('--keep wants the reason in words: --keep "why they changed"')
    return arguments


@dataclass
class Measured:
    """Results of a run."""

    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    minutes: float = 0.0

    @property
    def failed(self) -> str:
        """Description of what could not be measured; empty if all was."""
        return ", ".join(f"{name} failed" for name in self.failures)


def _all(plan: Plan, modules: Iterable[str]) -> Measured:
    """Measure goal by goal and print each result."""
    started = time.perf_counter()
    measured = Measured()
    for name in modules:
        began = time.perf_counter()
        found, is_whole = _figures_of(name, plan)
        if not is_whole:
            measured.failures.append(name)
        if found:
            seconds = time.perf_counter() - began
            print(f"\n{name} ({seconds:.0f} s)\n{text_table(found)}", flush=True)
        measured.figures += found
    measured.minutes = (time.perf_counter() - started) / 60
    unmet = sum(figure.verdict == "NOT MET" for figure in measured.figures)
    judged = sum(bool(figure.verdict) for figure in measured.figures)
    print(f"\n{judged - unmet} of {judged} goals met, {measured.minutes:.1f} minutes")
    if measured.failed:
        print(f"Not all was measured: {measured.failed} (above).", file=sys.stderr)
    return measured


def _figures_of(name: str, plan: Plan) -> tuple[list[Figure], bool]:
    """Return a goal's figures, and whether they are complete: not if it failed."""
    found: list[Figure] = []
    try:
        for figure in _module(name).measure(plan):
            print(".", end="", file=sys.stderr, flush=True)
            found.append(figure)
    except Exception as error:  # noqa: BLE001 - the other goals are still measured
        print(f"\n{name} FAILED: {error}", file=sys.stderr)
        traceback.print_exc()
        return found, False
    return found, True


def _compared(plan: Plan, modules: Iterable[str]) -> int:
    """Compare ratios with the kept ones; measure those again that fell."""
    goals = {name: int(_module(name).GOAL) for name in modules}
    failed: list[str] = []
    rounds = 0

    def measure(wanted: Collection[int]) -> list[Figure]:
        nonlocal rounds
        rounds += 1
        round_plan = replace(plan, folder=plan.folder / f"round-{rounds}")
        round_plan.folder.mkdir()
        names = [name for name, goal in goals.items() if goal in wanted]
        measured = _all(round_plan, names)
        failed.extend(f"{name} failed" for name in measured.failures)
        return measured.figures

    try:
        ratios = kept.load()
    except kept.KeptError as error:
        print(error, file=sys.stderr)
        return 1
    fell = kept.compare(measure, ratios, set(goals.values()))
    wrong = [*failed, *fell]
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


def _module(name: str) -> Any:
    return import_module(f"benchmarks.{name}")


if __name__ == "__main__":
    sys.exit(main())
