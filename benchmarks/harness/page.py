"""Write all figures between two marks in docs/performance.md."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness.results import GOALS, Figure, markdown_table
from benchmarks.harness.stage import ALLOCATOR, MAXMEMORY_MIB

PATH = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN = "<!-- figures: written by make bench -->"
END = "<!-- end of figures -->"
ALLOCATOR_SAID = "MALLOC_CONF=" + ALLOCATOR["MALLOC_CONF"]


def write(figures: Sequence[Figure], machine: dict[str, str], minutes: float) -> None:
    """Write the figures of a full run into the page; its other text stays."""
    text = PATH.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = _body(figures, machine, minutes)
    PATH.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}")


def _body(figures: Sequence[Figure], machine: dict[str, str], minutes: float) -> str:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    lines = [
        f"Measured on {day} in {minutes:.0f} minutes. Each figure is the median of as",
        "many runs as its row says; a latency's p99 is of the points of all runs. Both",
        "sides of a ratio ran in turn against the same Redis, unless its row says",
        "otherwise. Redis, its append-only file included, lay on the same disk as the",
        f"files, with `deploy/redis/redis.conf`, maxmemory {MAXMEMORY_MIB} MiB unless",
        "a row says otherwise, and the allocator's settings of `deploy/`:",
        "",
        f"    {ALLOCATOR_SAID}",
        "",
        "but for the rows of goal 3 that are not called tuned, and for goal 9.",
        "",
        *(f"- {name}: {text}" for name, text in machine.items()),
    ]
    for goal, title in GOALS.items():
        found = [figure for figure in figures if figure.goal == goal]
        if found:
            lines += ["", f"### {goal}. {title}", "", markdown_table(found)]
    return "\n".join(lines)
