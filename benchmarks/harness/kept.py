"""Ratios that are kept in the repository, and comparison with new ones.

Only ratios: they differ little from machine to machine. One changes only with a reason
that stands in the CHANGELOG. Pure, but for reading and writing the file.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness.results import Figure

PATH = Path(__file__).resolve().parents[1] / "kept.json"
ALLOWED = 0.7


class KeptError(RuntimeError):
    """There are no kept ratios to compare with."""


@dataclass(frozen=True)
class Kept:
    """A kept ratio, and the frames it was measured with.

    Attributes
    ----------
    ratio : float
        Median of the run that was kept.
    goal : int
        Key of `benchmarks.harness.results.GOALS`.
    frames : str
        Kind of frames: only ratios of the same kind are compared.
    reason : str
        Why the ratio changed; also in the CHANGELOG.
    """

    ratio: float
    goal: int
    frames: str
    reason: str


def load(path: Path = PATH) -> dict[str, Kept]:
    """Return the kept ratios by key.

    Raises
    ------
    KeptError
        If the file does not exist or has other content.
    """
    try:
        content = json.loads(path.read_text())
        found = {key: Kept(**entry) for key, entry in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise KeptError(
            f"no kept ratios in {path} ({error}): take the file from git, or keep new "
            'ones with --quick --keep "REASON"'
        ) from error
    if not found:
        raise KeptError(f'{path} is empty: keep ratios with --quick --keep "REASON"')
    return found


def write(figures: Iterable[Figure], reason: str, path: Path = PATH) -> str:
    """Store the measured ratios; those that were not measured stay.

    Returns
    -------
    str
        The line that the CHANGELOG needs.
    """
    before = load(path) if path.exists() else {}
    found = {
        each.key: Kept(round(each.value, 2), each.goal, each.frames, reason)
        for each in figures
        if each.key
    }
    content = {key: asdict(each) for key, each in (before | found).items()}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return f"- {reason} ({', '.join(said(key, found[key]) for key in sorted(found))})."


def said(key: str, kept: Kept) -> str:
    """Return the name of a ratio in the CHANGELOG."""
    return f"`{key}` {kept.ratio}"


def compare(
    measure: Callable[[Collection[int]], Collection[Figure]],
    ratios: Mapping[str, Kept],
    goals: Collection[int],
) -> list[str]:
    """Measure goals, and those that fell again; return the problems as sentences.

    Parameters
    ----------
    measure : callable
        Measures the given goals and returns their figures.
    ratios : mapping
        The kept ratios.
    goals : collection of int
        Goals to check.
    """
    figures = measure(goals)
    wrong = _not_comparable(figures, ratios, goals)
    once = _fallen(figures, ratios)
    if not once:
        return wrong
    print("\nFell by more than 30 %:", ", ".join(sorted(once)), "- measuring again")
    again = {ratios[key].goal for key in once}
    figures = measure(again)
    wrong += _not_comparable(figures, ratios, again)
    twice = _fallen(figures, ratios)
    return wrong + [
        f"{key} fell by more than 30 % twice: {once[key]:.2f} and {twice[key]:.2f}, "
        f"kept is {ratios[key].ratio}"
        for key in sorted(once.keys() & twice.keys())
    ]


def _not_comparable(
    figures: Iterable[Figure], ratios: Mapping[str, Kept], goals: Collection[int]
) -> list[str]:
    """Return which ratios are kept but not measured, or measured but not kept."""
    measured = {figure.key: figure for figure in figures if figure.key}
    wanted = {key: kept for key, kept in ratios.items() if kept.goal in goals}
    wrong = [f"{key} is kept, but was not measured" for key in wanted.keys() - measured]
    wrong += [
        f'{key} was measured, but is not kept: keep it with --keep "REASON"'
        for key in measured.keys() - ratios
    ]
    wrong += [
        f"{key} was kept with {wanted[key].frames} and measured with "
        f"{measured[key].frames}: not compared"
        for key in wanted.keys() & measured
        if wanted[key].frames != measured[key].frames
    ]
    return sorted(wrong)


def _fallen(figures: Iterable[Figure], ratios: Mapping[str, Kept]) -> dict[str, float]:
    """Return the ratios that are more than 30 % below the kept ones."""
    return {
        each.key: each.value
        for each in figures
        if each.key in ratios
        and each.frames == ratios[each.key].frames
        and each.value < ALLOWED * ratios[each.key].ratio
    }
