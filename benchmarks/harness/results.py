"""Figures, the goals that they are compared with, and tables of both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

GOALS = {
    1: "Raw frames",
    2: "Packed frames",
    3: "Incompressible 8 MB frames",
    4: "Scalars",
    5: "Latency",
    6: "Memory",
    7: "Cost as the work grows",
    8: "Small frames",
    9: "Append-only file",
    10: "Costs in proportion",
    11: "Gateways",
}


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    goal : int
        Key of `GOALS`.
    name : str
        What was measured.
    value : float
        The median.
    unit : str
        ``x`` for a ratio.
    wanted : float or None
        Value of the goal; None if there is none.
    at_most : bool
        Whether less is better.
    spread : tuple of float
        Smallest and largest of the runs.
    key : str
        Name of a ratio that is kept in the repository; empty if it is not.
    note : str
        Remark.
    runs : int
        Number of runs.
    frames : str
        Kind of frames, for a kept ratio.
    before : str
        What it was before the work that the goal is about; empty if nobody knows.
    """

    goal: int
    name: str
    value: float
    unit: str
    wanted: float | None = None
    at_most: bool = False
    spread: tuple[float, float] | None = None
    key: str = ""
    note: str = ""
    runs: int = 1
    frames: str = ""
    before: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``not met``, or empty if there is no goal."""
        if self.wanted is None:
            return ""
        met = self.value <= self.wanted if self.at_most else self.value >= self.wanted
        return "met" if met else "NOT MET"

    @property
    def cells(self) -> list[str]:
        """Figure, runs, spread, goal and verdict, for a table."""
        spread = "" if self.spread is None else "-".join(map(shown, self.spread))
        sign = "<=" if self.at_most else ">="
        wanted = "" if self.wanted is None else f"{sign} {shown(self.wanted)}"
        before = f"before: {self.before}" if self.before else ""
        notes = "; ".join(filter(None, (self.note, before)))
        note = f" ({notes})" if notes else ""
        value = f"{shown(self.value)} {self.unit}"
        name, runs = self.name + note, str(self.runs)
        return [str(self.goal), name, value, runs, spread, wanted, self.verdict]


def shown(value: float) -> str:
    """Return a number with three significant digits.

    Examples
    --------
    >>> shown(0.91234), shown(1234567.0), shown(12.0)
    ('0.912', '1 230 000', '12.0')
    """
    if abs(value) >= 1000:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(value) < 10 or value != int(value) else f"{value:.1f}"


def figure_of(
    goal: int, name: str, values: Sequence[float], unit: str, **rest: object
) -> Figure:
    """Return the median of some runs as a figure."""
    spread = (min(values), max(values)) if len(values) > 1 else None
    middle, runs = median(values), len(values)
    return Figure(goal, name, middle, unit, spread=spread, runs=runs, **rest)  # type: ignore[arg-type]


def ratios(over: Iterable[float], under: Iterable[float]) -> list[float]:
    """Return the ratio of each run to the run interleaved with it."""
    return [above / below for above, below in zip(over, under, strict=True)]


HEADER = ["", "what", "figure", "runs", "least-most", "goal", ""]


def text_table(figures: Sequence[Figure]) -> str:
    """Return a table for the terminal."""
    rows = [HEADER, *(figure.cells for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def markdown_table(figures: Sequence[Figure]) -> str:
    """Return a table for the page."""
    rows = [HEADER, ["---"] * len(HEADER), *(figure.cells for figure in figures)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
