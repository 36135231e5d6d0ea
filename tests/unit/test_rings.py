"""Every folder of tests is run by something, and their results make a page."""

import re
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.all_rings import Ring, counted, page
from tests.support.sampled import kept_variants

NO_TESTS = {"fuzz", "support"}


def rings_of(makefile: Path) -> set[str]:
    found = re.search(r"^RINGS := (.*)$", makefile.read_text(), re.MULTILINE)
    assert found
    return set(found[1].split())


def test_every_folder_of_tests_is_in_a_ring(repository: Path) -> None:
    pyproject = tomllib.loads((repository / "pyproject.toml").read_text())
    paths = pyproject["tool"]["pytest"]["ini_options"]["testpaths"]
    fast = {path.removeprefix("tests/") for path in paths if path.startswith("tests/")}
    rings = rings_of(repository / "Makefile")
    folders = {
        path.name
        for path in (repository / "tests").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }

    assert fast | rings | NO_TESTS == folders
    assert fast & rings == set()


def test_every_folder_of_tests_is_explained(repository: Path) -> None:
    text = (repository / "docs/reference/tests.md").read_text()
    folders = [path for path in (repository / "tests").iterdir() if path.is_dir()]

    names = [path.name for path in folders if path.name != "__pycache__"]
    assert [name for name in names if f"| `tests/{name}` |" not in text] == []
    rings = rings_of(repository / "Makefile")
    assert [name for name in rings if f"| `make test-{name}` |" not in text] == []


def test_no_file_of_tests_is_longer_than_500_lines(repository: Path) -> None:
    files = (repository / "tests").rglob("*.py")

    assert [p.name for p in files if len(p.read_text().splitlines()) > 500] == []


def test_nobody_globs_where_a_writer_may_be_at_work(repository: Path) -> None:
    """`Path.glob` and `Path.rglob` raise if a folder goes meanwhile."""
    rings = ("acceptance", "checklist", "faults", "process", "redis", "support")
    folders = [repository / "writer", *(repository / "tests" / ring for ring in rings)]
    files = {path for folder in folders for path in folder.rglob("*.py")}
    files -= {repository / "tests/support/waiting.py"}

    calls = {path: re.findall(r"\.r?glob\(", path.read_text()) for path in files}
    found = {path.name for path, called in calls.items() if ".rglob(" in called}
    assert found == set()
    ours = repository / "writer"
    assert {p.name for p, c in calls.items() if c and p.is_relative_to(ours)} == set()


@given(st.text(), st.integers(1, 99), st.integers(1, 99))
def test_of_a_sampled_test_as_many_variants_are_kept(
    name: str, n_found: int, n_kept: int
) -> None:
    kept = kept_variants(name, n_found, n_kept)

    assert len(kept) == min(n_found, n_kept)
    assert kept <= set(range(n_found))
    assert kept == kept_variants(name, n_found, n_kept)


def test_tests_are_counted_from_the_report_of_pytest(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    numbers = 'tests="12" failures="1" errors="2" skipped="3"'
    report.write_text(f"<testsuites><testsuite {numbers}/></testsuites>")

    assert counted(report) == (6, 3, 3)
    assert counted(tmp_path / "missing.xml") == (0, 0, 0)


def test_the_page_says_of_each_ring_what_came_out() -> None:
    rings = [
        Ring("test", 3000, 0, 9, 4.26, is_good=True),
        Ring("test-faults", 40, 1, 0, 12.0, is_good=False),
    ]

    text = page(rings, {"date": "2026-01-01", "commit": "0123abc"})

    assert "- date: 2026-01-01\n- commit: 0123abc\n" in text
    assert "| `make test` | good | 3000 | 0 | 9 | 4.3 |" in text
    assert "| `make test-faults` | **failed** | 40 | 1 | 0 | 12.0 |" in text
    assert "goals" not in text
