"""Log events: the enumeration, the code and the reference name the same ones."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanbus.schemas.log_events import LogEvent

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("schemas", "bus", "publisher", "subscriber", "writer", "cli")
PAGE = ROOT / "docs/reference/events.md"
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
"""Method of a logger to level."""


def log_calls(component: str) -> Iterator[tuple[str, str, ast.expr]]:
    """Yield where each event is logged, its level and the expression for its name."""
    for path in sorted((ROOT / component).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("log"), attr=method), args=args
                ) if method in LEVELS:
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield where, LEVELS[method], args[0]


def member(name: ast.expr) -> LogEvent | None:
    match name:
        case ast.Attribute(value=ast.Name("LogEvent"), attr=attribute):
            return LogEvent[attribute]
    return None


def documented(component: str) -> set[tuple[str, str]]:
    """Return the names and levels in the table of a component, if it has one."""
    lines = PAGE.read_text().splitlines()
    head = f"| {component} | level | means |"
    if head not in lines:
        return set()
    found = set()
    for line in lines[lines.index(head) + 2 :]:
        if not line.startswith("|"):
            break
        names, level, _ = line.strip("|").split("|", 2)
        found |= {(name, level.strip()) for name in re.findall(r"`(\w+)`", names)}
    return found


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_log_call_says_a_member(component: str) -> None:
    assert [where for where, _, name in log_calls(component) if not member(name)] == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_logger_is_called_log(component: str) -> None:
    """Else the calls of it would not be found above."""
    paths = set((ROOT / component).rglob("*.py"))
    for path in paths - {ROOT / "schemas/scanbus/schemas/logs.py"}:  # It makes them.
        loggers = re.findall(r"^.*\bget_logger\(\)", path.read_text(), re.MULTILINE)
        assert set(loggers) <= {"log = get_logger()"}, path


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_reference_lists_what_a_component_logs(component: str) -> None:
    said = {(member(name), level) for _, level, name in log_calls(component)}
    assert documented(component) == said


def test_every_member_is_logged_and_in_the_reference() -> None:
    said = {member(name) for each in COMPONENTS for _, _, name in log_calls(each)}
    known = {name for each in COMPONENTS for name, _ in documented(each)}

    assert said == set(LogEvent)
    assert known == set(LogEvent)


def test_every_member_tells_its_levels_and_its_meaning() -> None:
    text = (ROOT / "schemas/scanbus/schemas/log_events.py").read_text()
    told = dict(
        re.findall(r'^    (\w+) = "\w+"\n    """(.+)\."""$', text, re.MULTILINE)
    )

    said: dict[str, set[str]] = {}
    for component in COMPONENTS:
        for _, level, name in log_calls(component):
            said.setdefault(LogEvent(member(name) or "").name, set()).add(level)
    assert {name: levels_in(meaning) for name, meaning in told.items()} == said


def levels_in(meaning: str) -> set[str]:
    levels, _, _ = meaning.partition(":")
    return set(re.findall("|".join(LEVELS.values()), levels))


def test_a_name_is_its_member_in_small_letters() -> None:
    assert [str(event) for event in LogEvent] == [
        each.name.lower() for each in LogEvent
    ]
