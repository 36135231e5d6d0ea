"""Run every ring of tests in full and write what came out to a page.

``python -m tests.all_rings test test-faults bench`` runs these targets of the Makefile,
one after the other, and writes docs/reference/test-results.md: `make test-all` calls it
with all rings. ``--quick`` runs their short forms, and the page says so. Exit code 1 if
any of them failed; the page says which.
"""

import argparse
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil

__all__ = ["Ring", "counted", "main", "page"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "test-results.md"
BENCH = "bench"
GOALS_MET = re.compile(r"^(\d+) of (\d+) goals met", re.MULTILINE)


@dataclass(frozen=True)
class Ring:
    """What came out of one ring.

    Attributes
    ----------
    target : str
        Behind `make`: its name in the Makefile, and QUICK=1 if it was short.
    passed, failed, skipped : int
        Tests; of the benchmarks, goals that are met or not.
    is_good : bool
        Whether the target ended with exit code 0.
    """

    target: str
    passed: int
    failed: int
    skipped: int
    minutes: float
    is_good: bool


def counted(report: Path) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped, of a JUnit file."""
    if not report.is_file():
        return 0, 0, 0  # It ended before the first test.
    suites = list(ET.parse(report).getroot().iter("testsuite"))

    def total(name: str) -> int:
        return sum(int(suite.get(name) or 0) for suite in suites)

    failed, skipped = total("failures") + total("errors"), total("skipped")
    return total("tests") - failed - skipped, failed, skipped


def page(rings: Sequence[Ring], facts: dict[str, str]) -> str:
    """Return the text of the page.

    Parameters
    ----------
    rings : sequence of Ring
        In the order in which they ran.
    facts : dict of str
        What they ran on, by name.
    """
    return "\n".join(_lines(rings, facts)) + "\n"


def _lines(rings: Sequence[Ring], facts: dict[str, str]) -> Iterator[str]:
    yield "# Results of the tests"
    yield ""
    yield "Written by `make test-all`, which runs every [ring](tests.md) in full;"
    yield "what says `QUICK=1` was run in its short form."
    yield ""
    yield from (f"- {name}: {text}" for name, text in facts.items())
    yield ""
    yield "| ring | result | passed | failed | skipped | minutes |"
    yield "|---|---|---|---|---|---|"
    for ring in rings:
        result = "good" if ring.is_good else "**failed**"
        yield (
            f"| `make {ring.target}` | {result} | {ring.passed} | {ring.failed} "
            f"| {ring.skipped} | {ring.minutes:.1f} |"
        )
    if any(ring.target.startswith(BENCH) for ring in rings):
        yield ""
        yield (
            "Of `make bench`, goals are counted, not tests: its result says that all "
            "were measured, [performance](../performance.md) which are met."
        )


def _facts() -> dict[str, str]:
    commit = _said("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    if _said("git", "status", "--porcelain", "--untracked-files=no"):
        commit += ", with changes"
    memory_gb = psutil.virtual_memory().total / 1e9
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit,
        "Python": platform.python_version(),
        "machine": f"{psutil.cpu_count()} processors, {memory_gb:.0f} GB",
    }


def _said(*command: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _run(target: str, options: Sequence[str], folder: Path) -> Ring:
    """Run one target, show what it says, and count."""
    report = folder / f"{target}.xml"
    command = ["make", "--no-print-directory", target, *options]
    if target != BENCH:
        command.append(f"ARGS=-q --junitxml={report}")
    began = time.monotonic()
    said = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            said.append(line)
    minutes = (time.monotonic() - began) / 60
    passed, failed, skipped = counted(report)
    if target == BENCH and (found := GOALS_MET.search("".join(said))):
        passed, failed = int(found[1]), int(found[2]) - int(found[1])
    is_good = process.returncode == 0
    name = " ".join([target, *options])
    return Ring(name, passed, failed, skipped, minutes, is_good)


def main(argv: list[str] | None = None) -> int:
    """Run the rings, write the page, return 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(argv)
    facts = _facts()
    with tempfile.TemporaryDirectory(prefix="scanbus-rings-") as folder:
        rings = [
            # `make test` has no short form.
            _run(each, ["QUICK=1"] * (asked.quick and each != "test"), Path(folder))
            for each in asked.targets
        ]
    PAGE.write_text(page(rings, facts))
    for ring in rings:
        sys.stdout.write(
            f"make {ring.target}: {ring.passed} passed, {ring.failed} failed, "
            f"{ring.skipped} skipped, {ring.minutes:.1f} minutes\n"
        )
    return 0 if all(ring.is_good for ring in rings) else 1


if __name__ == "__main__":
    sys.exit(main())
