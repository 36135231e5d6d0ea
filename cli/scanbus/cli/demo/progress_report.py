"""How the processes of the demo say how far they are: JSON, one object per line."""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["Report", "parse_report", "report"]


@dataclass(frozen=True, slots=True)
class Report:
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


def report(name: str, done: int, total: int | None) -> None:
    """Say how far this process is."""
    line = json.dumps({"name": name, "done": done, "total": total})
    print(line, flush=True)


def parse_report(line: str) -> Report | None:
    """Return what a line says; None for anything else that was printed.

    Examples
    --------
    >>> parse_report('{"name": "written", "done": 3, "total": 10}')
    Report(name='written', done=3, total=10)
    >>> parse_report("hello") is None
    True
    """
    try:
        said = json.loads(line)
        total = said["total"]
        return Report(
            str(said["name"]), int(said["done"]), None if total is None else int(total)
        )
    except (ValueError, KeyError, TypeError):
        return None
