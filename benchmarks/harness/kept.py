"""The ratios that are kept in the repository, and which of them fell.

Only ratios: they differ little from machine to machine. One changes only with a reason
in the CHANGELOG.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks.harness.results import Figure

PATH = Path(__file__).resolve().parents[1] / "kept.json"
ALLOWED = 0.7


def write(figures: Iterable[Figure]) -> None:
    """Keep the ratios of a quick run."""
    ratios = {each.key: round(each.value, 2) for each in figures if each.key}
    PATH.write_text(json.dumps(ratios, indent=2, sort_keys=True) + "\n")


def fallen(figures: Iterable[Figure]) -> list[str]:
    """Return the keys of the ratios that are more than 30 % below what is kept."""
    ratios: dict[str, float] = json.loads(PATH.read_text()) if PATH.exists() else {}
    return [
        figure.key
        for figure in figures
        if figure.key in ratios and figure.value < ALLOWED * ratios[figure.key]
    ]
