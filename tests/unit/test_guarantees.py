"""Every test that the page of guarantees names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def defined_in(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = NAMED.findall(PAGE.read_text())

    assert len(named) > 20
    assert [
        f"{file}::{test}" for file, test in named if test not in defined_in(ROOT / file)
    ] == []


def test_nothing_that_looks_like_a_test_is_named_otherwise() -> None:
    text = NAMED.sub("", PAGE.read_text())

    assert re.findall(r"\btest_\w+", text) == []


def test_every_failure_has_a_test() -> None:
    lines = PAGE.read_text().splitlines()
    start = lines.index("| failure | what is promised | Redis | shown by |") + 2
    rows = lines[start : lines.index("", start)]

    assert [row for row in rows if not NAMED.search(row)] == []
