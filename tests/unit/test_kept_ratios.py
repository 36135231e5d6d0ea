"""Kept ratios of speed: what counts as a fall, and that none changes unsaid."""

import json
from collections.abc import Collection
from pathlib import Path

import pytest

from benchmarks.harness import kept
from benchmarks.harness.kept import Kept, KeptError
from benchmarks.harness.results import Figure

ROOT = Path(__file__).resolve().parents[2]
KEPT = {
    "raw": Kept(1.0, goal=1, frames="simulated", reason="a reason"),
    "packed": Kept(2.0, goal=2, frames="simulated", reason="a reason"),
}


def figure(key: str, value: float, frames: str = "simulated") -> Figure:
    goal = KEPT[key].goal if key in KEPT else 1
    return Figure(goal, "a ratio", value, "x", key=key, frames=frames)


class Rounds:
    """What is measured, round by round; remembers which goals were asked for."""

    def __init__(self, *rounds: list[Figure]) -> None:
        self._rounds = list(rounds)
        self.asked: list[set[int]] = []

    def __call__(self, goals: Collection[int]) -> list[Figure]:
        self.asked.append(set(goals))
        return self._rounds.pop(0)


def test_a_ratio_within_thirty_percent_is_measured_once() -> None:
    rounds = Rounds([figure("raw", 0.71), figure("packed", 2.0)])
    assert kept.compare(rounds, KEPT, {1, 2}) == []
    assert rounds.asked == [{1, 2}]


def test_a_ratio_that_falls_once_is_measured_again() -> None:
    rounds = Rounds([figure("raw", 0.69), figure("packed", 2.0)], [figure("raw", 0.71)])
    assert kept.compare(rounds, KEPT, {1, 2}) == []
    assert rounds.asked == [{1, 2}, {1}]


def test_a_ratio_that_falls_twice_is_told() -> None:
    rounds = Rounds([figure("raw", 0.69), figure("packed", 2.0)], [figure("raw", 0.6)])
    assert kept.compare(rounds, KEPT, {1, 2}) == [
        "raw fell by more than 30 % twice: 0.69 and 0.60, kept is 1.0"
    ]


def test_two_ratios_that_fall_once_each_are_no_fall() -> None:
    both = {"raw": KEPT["raw"], "other": KEPT["raw"]}
    first, second = (
        [figure("raw", 0.6), figure("other", 1.0)],
        [
            figure("raw", 1.0),
            figure("other", 0.6),
        ],
    )
    assert kept.compare(Rounds(first, second), both, {1}) == []


@pytest.mark.parametrize(
    ("rounds", "told"),
    [
        ([[figure("raw", 1.0)]], "packed is kept, but was not measured"),
        (
            [[figure("raw", 1.0), figure("packed", 2.0), figure("new", 2.0)]],
            "new was measured, but is not kept",
        ),
        (
            [[figure("raw", 0.1, frames="real"), figure("packed", 2.0)]],
            "raw was kept with simulated and measured with real: not compared",
        ),
        (
            [[figure("raw", 0.1), figure("packed", 2.0)], []],
            "raw is kept, but was not measured",
        ),
    ],
    ids=["missing", "renamed", "other frames", "missing when measured again"],
)
def test_what_cannot_be_compared_is_told(rounds: list[list[Figure]], told: str) -> None:
    (sentence,) = kept.compare(Rounds(*rounds), KEPT, {1, 2})
    assert sentence.startswith(told)


def test_a_goal_that_was_not_chosen_need_not_be_measured() -> None:
    assert kept.compare(Rounds([figure("raw", 1.0)]), KEPT, {1}) == []


@pytest.mark.parametrize("content", [None, "{}", "[]", '{"raw": 1.0}', "{"])
def test_without_kept_ratios_nothing_is_compared(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "kept.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeptError, match="REASON"):
        kept.load(path)


def test_keeping_leaves_the_ratios_that_were_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    first = kept.write([figure("raw", 1.0), figure("", 9.0)], "as it was", path)
    line = kept.write([figure("packed", 2.004)], "a new disk", path)

    assert first == "- as it was (`raw` 1.0)."
    assert line == "- a new disk (`packed` 2.0)."
    assert kept.load(path) == {
        "packed": Kept(2.0, goal=2, frames="simulated", reason="a new disk"),
        "raw": Kept(1.0, goal=1, frames="simulated", reason="as it was"),
    }


def test_every_kept_ratio_stands_in_the_changelog_with_its_reason() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    points = [" ".join(point.split()) for point in text.split("\n- ")]
    for key, each in kept.load().items():
        found = [
            point
            for point in points
            if each.reason in point and kept.said(key, each) in point
        ]
        assert found, f"CHANGELOG: {kept.said(key, each)}, and why: {each.reason}"


def test_the_kept_file_is_written_as_it_is_read(tmp_path: Path) -> None:
    """So that keeping some ratios changes no line of the others."""
    path = tmp_path / "kept.json"
    path.write_text(kept.PATH.read_text())
    kept.write([], "no reason", path)
    assert path.read_text() == kept.PATH.read_text()
    assert json.loads(path.read_text())
