"""The ratios that are kept in the repository, and what fell below them.

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
    """A ratio, and what it was measured with.

    Attributes
    ----------
    ratio : float
        Median of the run that was kept.
    goal : int
        Key of `benchmarks.harness.results.GOALS`.
    frames : str
        Which frames were sent: only like is compared with like.
    reason : str
        Why it is this one; stands in the CHANGELOG.
    """

    ratio: float
    goal: int
    frames: str
    reason: str


def load(path: Path = PATH) -> dict[str, Kept]:
    """Return what is kept, by key.

    Raises
    ------
    KeptError
        If there is no such file, or something else in it.
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
    """Keep the ratios that were measured, beside those that were not.

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
    """Return how the CHANGELOG names a ratio."""
    return f"`{key}` {kept.ratio}"


def compare(
    measure: Callable[[Collection[int]], Collection[Figure]],
    ratios: Mapping[str, Kept],
    goals: Collection[int],
) -> list[str]:
    """Measure goals, those that fell once more; return what is wrong in sentences.

    Parameters
    ----------
    measure : callable
        Is given goals, returns their figures.
    ratios : mapping
        What is kept.
    goals : collection of int
        Which to look at.
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
    """Say which ratios were kept and not measured, or the other way round."""
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
    """Return the ratios that are more than 30 % below what is kept."""
    return {
        each.key: each.value
        for each in figures
        if each.key in ratios
        and each.frames == ratios[each.key].frames
        and each.value < ALLOWED * ratios[each.key].ratio
    }
