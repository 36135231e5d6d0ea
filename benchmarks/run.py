"""Measure every goal and say whether it is met.

    python -m benchmarks.run                  all of it, into docs/performance.md
    python -m benchmarks.run --quick          the kept ratios only, for CI
    python -m benchmarks.run --only latency   one goal, shown and not written
    python -m benchmarks.run --quick --keep   keep the ratios instead

A quick run fails when a ratio is more than 30 % below the one in
``benchmarks/kept.json``, twice in a row.
"""

import argparse
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks.harness import kept, page
from benchmarks.harness.frames import detector_frames
from benchmarks.harness.machine import describe
from benchmarks.harness.plan import Plan, prepare_environment
from benchmarks.harness.results import Figure, text_table
from scanbus.schemas.errors import ScanbusError

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
)
REPEATS = 5
QUICK_REPEATS = 3


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    prepare_environment()
    # On the disk that files are written to: often /tmp lies in memory.
    with tempfile.TemporaryDirectory(
        prefix="scanbus-bench-", dir=arguments.folder
    ) as made:
        folder = Path(made)
        machine = describe(folder)
        for name, text in machine.items():
            print(f"{name:12s} {text}")
        detector = detector_frames(folder / "detector")
        raw, packed = detector.raw_bytes / 1e6, detector.packed_bytes / 1e6
        machine["frames"] = f"{detector.source}, {raw:.1f} MB, packed {packed:.1f}"
        print(f"{'frames':12s} {machine['frames']}", flush=True)
        is_short = arguments.quick and not arguments.keep
        repeats = arguments.repeats or (QUICK_REPEATS if is_short else REPEATS)
        plan = Plan(folder, arguments.quick, repeats, detector)
        modules = arguments.only or MODULES
        if is_short:
            return _quick(plan, modules)
        figures, minutes = _all(plan, modules)
    if arguments.keep:
        kept.write(figures)
    elif not arguments.only:
        page.write(figures, machine, minutes, repeats)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", action="store_true", help="with --quick")
    parser.add_argument("--only", nargs="+", choices=MODULES, metavar="GOAL")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    arguments = parser.parse_args(argv)
    if arguments.keep and not arguments.quick:
        parser.error("--keep keeps the ratios of a quick run: add --quick")
    return arguments


def _all(plan: Plan, modules: tuple[str, ...]) -> tuple[list[Figure], float]:
    """Measure goal by goal, print as they come; return figures and minutes."""
    started = time.perf_counter()
    figures: list[Figure] = []
    for name in modules:
        began = time.perf_counter()
        found = _measured(name, plan)
        if found:
            seconds = time.perf_counter() - began
            print(f"\n{name} ({seconds:.0f} s)\n{text_table(found)}", flush=True)
        figures += found
    minutes = (time.perf_counter() - started) / 60
    unmet = sum(figure.verdict == "NOT MET" for figure in figures)
    judged = sum(bool(figure.verdict) for figure in figures)
    print(f"\n{judged - unmet} of {judged} goals met, {minutes:.1f} minutes")
    return figures, minutes


def _measured(name: str, plan: Plan) -> list[Figure]:
    """Return the figures of a goal; those before a failure, if it fails."""
    found: list[Figure] = []
    try:
        for figure in import_module(f"benchmarks.{name}").measure(plan):
            print(".", end="", file=sys.stderr, flush=True)
            found.append(figure)
    except (RuntimeError, ScanbusError) as error:
        print(f"\n{name} FAILED: {error}", file=sys.stderr)
        goal = import_module(f"benchmarks.{name}").GOAL
        found.append(Figure(goal, f"failed: {error}", 0.0, "", wanted=1.0))
    return found


def _quick(plan: Plan, modules: tuple[str, ...]) -> int:
    """Compare ratios with the kept ones; measure again what fell."""
    figures, _ = _all(plan, modules)
    fallen = kept.fallen(figures)
    if any(figure.unit == "" for figure in figures):
        return 1
    if not fallen:
        return 0
    print("\nFell by more than 30 %:", ", ".join(fallen), "- measuring again")
    goals = {figure.goal for figure in figures if figure.key in fallen}
    again = tuple(
        name for name in modules if import_module(f"benchmarks.{name}").GOAL in goals
    )
    second = Plan(plan.folder / "again", plan.quick, plan.repeats, plan.detector)
    second.folder.mkdir()
    twice = sorted(set(fallen) & set(kept.fallen(_all(second, again)[0])))
    if twice:
        print(f"\nFell by more than 30 % twice: {', '.join(twice)}")
    return 1 if twice else 0


if __name__ == "__main__":
    sys.exit(main())
