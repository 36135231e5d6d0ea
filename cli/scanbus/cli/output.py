"""Print results to stdout, and errors, notes and progress to stderr.

Formatting is pure; a console is made for each use, so that it follows redirections of
the streams.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.schemas import PointRange, Verdict
    from scanbus.writer import SkippedScan

__all__ = [
    "age",
    "bytes_text",
    "clock_time",
    "coloured",
    "point_ranges",
    "print_error",
    "print_json",
    "print_note",
    "print_skipped",
    "print_verdict",
    "printable",
    "short_uids",
    "stderr",
    "stdout",
    "to_json_line",
]

# Styles of states and verdicts in a terminal.
COLOURS = {
    "complete": "green",
    "partial": "yellow",
    "interrupted": "yellow",
    "failed": "bold red",
    "started": "cyan",
    "prepared": "cyan",
    "announced": "dim",
    "ended": "blue",
}
SHORTEST_UID = 8
# Without a terminal, lines are wrapped or cut at this width only.
PIPE_WIDTH = 240


def stdout() -> Console:
    """Return the console of results."""
    return _console(is_error=False)


def stderr() -> Console:
    """Return the console of errors, notes and progress."""
    return _console(is_error=True)


def _console(*, is_error: bool) -> Console:
    stream = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=is_error, highlight=False, width=width, soft_wrap=False)


def print_error(sentence: str) -> None:
    """Print an error as one line, in red on a terminal."""
    text = Text(f"scanbus: {one_line(sentence)}", style="red")
    stderr().print(text, soft_wrap=True)


def print_note(sentence: str) -> None:
    """Print a note, which is not part of the result, such as how a scan ended."""
    stderr().print(Text(one_line(sentence), style="dim"), soft_wrap=True)


def printable(text: str) -> str:
    r"""Return `text` with control characters, which could steer a terminal, replaced.

    Titles and names come from the bus, where any client may write.

    Examples
    --------
    >>> printable("a\x1b[31mb")
    'a?[31mb'
    """
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def one_line(text: str) -> str:
    r"""Return `text` without line breaks and other control characters.

    Examples
    --------
    >>> one_line("refused:\n  too old ")
    'refused: too old'
    """
    return printable(" ".join(text.split()))


def print_json(value: object) -> None:
    """Print a value as indented JSON to stdout."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def to_json_line(value: object) -> str:
    """Return a value as JSON in one line; NaN and infinity become null.

    Examples
    --------
    >>> to_json_line({"value": float("nan")})
    '{"value": null}'
    """
    return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, complex):
        return [_finite(value.real), _finite(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def coloured(word: str) -> Text:
    """Return a state or a verdict in its colour."""
    return Text(word, style=COLOURS.get(word.split(maxsplit=1)[0], ""))


def short_uids(uids: list[str]) -> dict[str, str]:
    """Return the prefix of each uid, equally long for all, that no other uid has.

    Examples
    --------
    >>> short_uids(["01J9ZK3QAAAA", "01J9ZK3QABBB"])
    {'01J9ZK3QAAAA': '01J9ZK3QAA', '01J9ZK3QABBB': '01J9ZK3QAB'}
    """
    length = SHORTEST_UID
    while len({uid[:length] for uid in uids}) < len(set(uids)):
        length += 1
    return {uid: uid[:length] for uid in uids}


def clock_time(time_s: float) -> str:
    """Return seconds since 1970 as local date and time, empty for 0."""
    if not time_s:
        return ""
    return f"{datetime.fromtimestamp(time_s, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def age(seconds: float) -> str:
    """Return a duration as text, in the largest unit that fits.

    Examples
    --------
    >>> age(5), age(90), age(7200), age(3 * 86400)
    ('5 s', '1 min', '2 h', '3 d')
    """
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{max(0, int(seconds))} s"


def bytes_text(n_bytes: float) -> str:
    """Return a number of bytes as text, in the largest unit that fits.

    Examples
    --------
    >>> bytes_text(512), bytes_text(3 * 2**20), bytes_text(2.5 * 2**30)
    ('512 B', '3.0 MiB', '2.5 GiB')
    """
    if n_bytes < 1024:
        return f"{n_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        n_bytes /= 1024
        if n_bytes < 1024:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:.1f} TiB"


def print_verdict(verdict: Verdict, root: Path | None) -> None:
    """Print a verdict, its reason and notes, and the ledger of every channel.

    Parameters
    ----------
    root : Path, optional
        Root folder of the data, to which the master's path is relative; only the
        writer knows it if it is not given.
    """
    console = stdout()
    console.print(coloured(verdict.verdict.value), verdict.reason, soft_wrap=True)
    table = Table("channel", "expected", "written", "missing", box=None)
    for name, ledger in verdict.of_data.items():
        counts = str(ledger.expected), str(ledger.written)
        table.add_row(name, *counts, point_ranges(ledger.missing))
    console.print(table)
    for note in verdict.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    if verdict.master:
        name = f"master, below the writer's root: {verdict.master}"
        shown = name if root is None else str(root / verdict.master)
        console.print(shown, soft_wrap=True, markup=False)


def point_ranges(ranges: tuple[PointRange, ...], shown: int = 5) -> str:
    """Return the first `shown` ranges of points as text.

    Examples
    --------
    >>> point_ranges(((3, 4), (7, 10)))
    '3, 7-9'
    """
    texts = [
        str(start) if stop == start + 1 else f"{start}-{stop - 1}"
        for start, stop in ranges[:shown]
    ]
    more = len(ranges) - shown
    return ", ".join(texts) + (
        f" and {counted(more, 'more range')}" if more > 0 else ""
    )


def print_skipped(skipped: Iterable[SkippedScan]) -> None:
    """Print which scans were skipped, and why."""
    for scan in skipped:
        print_note(f"{scan.scan}: {scan.reason}")
