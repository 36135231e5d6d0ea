"""Progress reports of the demo's processes: JSON, one object per line."""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["ProgressReport", "parse_report", "print_report"]


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """How far one process is.

    Attributes
    ----------
    name : str
        What is counted.
    done : int
        How many.
    total : int or None
        Of how many.
    """

    name: str
    done: int
    total: int | None


def print_report(name: str, done: int, total: int | None) -> None:
    """Print how far this process is, for the process that started it."""
    line = json.dumps({"name": name, "done": done, "total": total})
    print(line, flush=True)


def parse_report(line: str) -> ProgressReport | None:
    """Return what a line says; None for anything else that was printed.

    Examples
    --------
    >>> parse_report('{"name": "written", "done": 3, "total": 10}')
    ProgressReport(name='written', done=3, total=10)
    >>> parse_report("hello") is None
    True
    """
    try:
        said = json.loads(line)
        total = said["total"]
        return ProgressReport(
            str(said["name"]), int(said["done"]), None if total is None else int(total)
        )
    except (ValueError, KeyError, TypeError):
        return None
