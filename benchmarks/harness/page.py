"""The page with all figures: what stands between two marks in docs/performance.md."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness.results import GOALS, Figure, markdown_table

PATH = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN = "<!-- figures: written by make bench -->"
END = "<!-- end of figures -->"


def write(
    figures: Sequence[Figure], machine: dict[str, str], minutes: float, repeats: int
) -> None:
    """Put the figures of a full run into the page; the rest of it stays."""
    text = PATH.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = _body(figures, machine, minutes, repeats)
    PATH.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}")


def _body(
    figures: Sequence[Figure], machine: dict[str, str], minutes: float, repeats: int
) -> str:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    lines = [
        f"Measured on {day} in {minutes:.0f} minutes. Medians of {repeats} runs; both",
        "sides of a ratio ran in turn, against the same Redis.",
        "",
        *(f"- {name}: {text}" for name, text in machine.items()),
    ]
    for goal, title in GOALS.items():
        found = [figure for figure in figures if figure.goal == goal]
        if found:
            lines += ["", f"### {goal}. {title}", "", markdown_table(found)]
    return "\n".join(lines)
