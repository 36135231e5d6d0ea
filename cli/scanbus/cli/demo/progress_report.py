"""Progress reports of the demo's processes: JSON, one object per line."""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["ProgressReport", "parse_report", "print_report"]


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """Progress of one process.

    Attributes
    ----------
    name : str
        Name of the task.
    done : int
        Number of items done.
    total : int or None
        Number of items expected; None if it is not known.
    """

    name: str
    done: int
    total: int | None


def print_report(name: str, done: int, total: int | None) -> None:
    """Print the progress of this process to stdout, for its parent."""
    line = json.dumps({"name": name, "done": done, "total": total})
    print(line, flush=True)


def parse_report(line: str) -> ProgressReport | None:
    """Return the report in a line; None if the line is not a report.

    Examples
    --------
    >>> parse_report('{"name": "written", "done": 3, "total": 10}')
    ProgressReport(name='written', done=3, total=10)
    >>> parse_report("hello") is None
    True
    """
    try:
        fields = json.loads(line)
        total = None if fields["total"] is None else int(fields["total"])
        return ProgressReport(str(fields["name"]), int(fields["done"]), total)
    except (ValueError, KeyError, TypeError):
        return None
