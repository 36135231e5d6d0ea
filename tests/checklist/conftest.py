"""One set of scans for the whole checklist, and the table of what came out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import pytest

from tests.checklist.items import ITEMS, NOT_YET
from tests.checklist.sample import Sample, published_sample
from tests.support.writers import wait_until

_RESULTS = pytest.StashKey[dict[int, list[tuple[str, str]]]]()
_CELLS = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """Scans of every kind, published over a bus and written; the writer is alive."""
    with published_sample(tmp_path_factory.mktemp("checklist") / "data") as found:
        wait_until(lambda: _listed(found) == {"1.1", "2.1", "3.1", "4.1"})
        yield found


def _listed(sample: Sample) -> set[str]:
    """Return the scans in the dataset master, which follows verdicts within 10 s."""
    if not sample.dataset.is_file():
        return set()
    with h5py.File(sample.dataset, locking=False) as file:
        return set(file)


@pytest.fixture
def shown(pytestconfig: pytest.Config) -> dict[str, dict[str, str]]:
    """What readers have shown so far, of tests that passed: words by column."""
    return pytestconfig.stash[_CELLS]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = {}
    config.stash[_CELLS] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    mark = item.get_closest_marker("item")
    if mark is not None and (report.when == "call" or not report.passed):
        number, judge = mark.args
        results = item.config.stash[_RESULTS].setdefault(number, [])
        results.append((judge, report.outcome))
    for mark in item.iter_markers("reads"):
        if report.when == "call" and report.passed:
            item.config.stash[_CELLS].setdefault(mark.args[0], {}).update(mark.kwargs)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print each item with what came out, and the judges that decided it."""
    results = config.stash[_RESULTS]
    if not results:
        return
    terminalreporter.section("checklist")
    for number, text in ITEMS.items():
        if number in NOT_YET:
            word, judges = "not yet", NOT_YET[number]
        else:
            word, judges = _decided(results.get(number, []))
        terminalreporter.write_line(f"{number:>3} {word:8} {text}: {judges}")


def _decided(found: list[tuple[str, str]]) -> tuple[str, str]:
    outcomes = [outcome for _, outcome in found]
    word = "failed" if "failed" in outcomes else "ok"
    if "passed" not in outcomes and word == "ok":
        word = "skipped"
    said = {"passed": "{}", "failed": "{} refuses", "skipped": "({} is not here)"}
    judges = dict.fromkeys(said[outcome].format(judge) for judge, outcome in found)
    return word, ", ".join(judges) or "not run"
