"""What the documentation lists is what there is."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic_core import PydanticUndefined

from scanbus.cli.app import app
from scanbus.publisher import Publisher
from scanbus.schemas import errors
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"_s": "s", "_bytes": "bytes"}
# Of an argument's name; what it counts says its meaning, too.
ARGUMENT_UNIT = re.compile(r"(?<=_)(?:bytes|s)(?=_|$)")
WORDS = {
    (Publisher, "name"): "name of the script",
    (Publisher, "memory_bytes"): "4 GiB",
    (Publisher, "spool"): "none",
    (Publisher, "left_open"): "none",
    (Subscriber, "name"): "`scanbus-subscriber-PID`",
    (Subscriber, "external_roots"): "none",
}
"""What stands for None."""
ERRORS_HEAD = "| error | exit | sentence (`…` stands for values) | what to do |"
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def rows(table_head: str, page: str = "README.md", behind: str = "") -> list[list[str]]:
    """Return the cells of a table: the first one with these headings behind a text."""
    text = (ROOT / page).read_text()
    lines = text[text.index(behind) :].splitlines()
    start = lines.index(table_head) + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_table_of_settings_is_what_the_writer_takes() -> None:
    table = rows("| TOML key | environment | default | unit | meaning |")
    expected = []
    for name, field in WriterSettings.model_fields.items():
        words = {PydanticUndefined: "required", None: "none"}
        expected.append(
            [
                f"`{name}`",
                f"`SCANBUS_{name.upper()}`",
                words.get(field.default, f"`{field.default}`"),
                next((unit for end, unit in UNITS.items() if name.endswith(end)), ""),
            ]
        )

    assert sorted(row[:4] for row in table) == sorted(expected)
    assert all(row[4] for row in table), "a setting without a meaning"


@pytest.mark.parametrize("kind", [Publisher, Subscriber])
def test_the_tables_of_arguments_are_the_signatures(kind: type) -> None:
    table = rows(
        "| argument | default | unit | meaning |",
        "docs/reference/settings.md",
        behind=f"**{kind.__name__}**",
    )
    expected = []
    for name, argument in inspect.signature(kind).parameters.items():
        if argument.kind is inspect.Parameter.KEYWORD_ONLY:
            unit = ARGUMENT_UNIT.search(name)
            given = WORDS.get((kind, name), argument.default)
            expected.append((f"`{name}`", given, unit[0] if unit else ""))

    assert [
        (name, default if default in WORDS.values() else _number(default), unit)
        for name, default, unit, _ in table
    ] == expected
    assert all(row[3] for row in table), "an argument without a meaning"


def _number(text: str) -> float:
    """Return a number that may stand in GiB or MiB."""
    number, _, unit = text.partition(" ")
    return float(number) * {"": 1, "MiB": 2**20, "GiB": 2**30}[unit]


def test_the_table_of_commands_is_what_the_command_line_has() -> None:
    table = rows("| command | what it does |")

    commands = typer.main.get_command(app)
    expected = [f"`scanbus {name}`" for name in _names_of(commands)]
    assert sorted(row[0] for row in table) == sorted(expected)


def _names_of(command: Any) -> list[str]:
    found = []
    for name, sub in command.commands.items():
        inner = _names_of(sub) if hasattr(sub, "commands") else []
        found += [f"{name} {each}" for each in inner] or [name]
    return found


def test_the_table_of_exit_codes_is_what_commands_end_with() -> None:
    table = rows("| exit code | meaning |")

    assert [row[0] for row in table] == [str(code.value) for code in ExitCode]
    assert all(row[1] for row in table), "an exit code without a meaning"


def test_the_reference_of_errors_has_their_exit_codes() -> None:
    table = rows(ERRORS_HEAD, "docs/reference/errors.md")

    assert {row[0]: row[1] for row in table} == {
        f"`{name}`": str(getattr(errors, name).exit_code.value)
        for name in errors.__all__
        if name != "ScanbusError"
    }


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_the_reference_names_every_error() -> None:
    text = (ROOT / "docs/reference/errors.md").read_text()

    leaves = [name for name in errors.__all__ if name != "ScanbusError"]
    assert [name for name in leaves if f"`{name}`" not in text] == []


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.stem)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = LINK.findall(CODE.sub("", document.read_text()))

    local = [link for link in links if "://" not in link]
    assert [each for each in local if not (document.parent / each).exists()] == []


@pytest.mark.parametrize(
    "record", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda path: path.stem
)
def test_a_decision_record_has_its_four_parts(record: Path) -> None:
    text = record.read_text()

    assert re.fullmatch(r"\d{4}-[a-z0-9-]+", record.stem)
    for part in ("Status", "Context", "Decision", "Consequences"):
        assert f"## {part}\n" in text


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", text))

    assert len(named) > 30
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_architecture_answers_twelve_requests() -> None:
    table = rows("| what | where |", "docs/explanation/architecture.md")

    assert len(table) == 12
    assert all("`" in where for _, where in table)
