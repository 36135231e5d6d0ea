"""Every item is decided by a test that has its number, or waits for an issue."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.checklist.items import ITEMS, NOT_YET


def decided() -> dict[int, list[str]]:
    """Return the names of tests by the item that each one decides."""
    found: dict[int, list[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                match mark:
                    case ast.Call(ast.Name("item"), [ast.Constant(int(number)), _]):
                        found.setdefault(number, []).append(node.name)
    return found


def test_every_item_is_decided_or_waits() -> None:
    assert set(decided()) | set(NOT_YET) == set(ITEMS)
    assert set(decided()).isdisjoint(NOT_YET)
    assert list(ITEMS) == list(range(1, 93))


def test_tests_are_named_after_their_items() -> None:
    for number, names in decided().items():
        for name in names:
            assert re.match(rf"test_{number:02}_\w+\Z", name), name
