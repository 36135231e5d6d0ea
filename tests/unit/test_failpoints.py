"""Failpoints of steps: where they are, and that they are off."""

import re
from pathlib import Path
from typing import get_args

import pytest

from scanbus.schemas.errors import ConfigurationError
from scanbus.writer import steps
from scanbus.writer.steps import (
    FAILPOINTS,
    FAILPOINTS_VARIABLE,
    StepName,
    step,
)


def test_every_step_stands_in_the_writer(repository: Path) -> None:
    folder = repository / "writer" / "scanbus" / "writer"
    text = "\n".join(path.read_text() for path in folder.rglob("*.py"))

    names = set(re.findall(r'\bstep\(\s*"([a-z_]+)"', text))
    assert names == set(get_args(StepName))
    assert {f"{name}.{when}" for name in names for when in ("before", "after")} == set(
        FAILPOINTS
    )


def test_without_the_variable_nothing_happens() -> None:
    assert steps._failpoints is None
    for name in get_args(StepName):
        with step(name):
            pass
    assert step("write") is step("renew")


@pytest.mark.parametrize(
    "traps",
    [
        "nowhere=kill@1",
        "link.before=explode",
        "link.before=kill@soon",
        "link.before=raise=ENOTHING",
        "link.before=delay=long",
    ],
)
def test_a_trap_that_makes_no_sense_is_refused(traps: str) -> None:
    with pytest.raises(ConfigurationError, match=FAILPOINTS_VARIABLE):
        steps._parse_actions(traps)
