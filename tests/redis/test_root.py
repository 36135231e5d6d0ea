"""The root of a writer: made by an operator, never by a writer."""

import json
from pathlib import Path

import pytest

from scanbus.cli import main
from scanbus.schemas.exit_codes import ExitCode
from tests.support.mixed_scan import whole_scan
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("is_there", [True, False])
def test_a_writer_says_how_a_folder_becomes_a_root_and_makes_nothing(
    redis_url: str, tmp_path: Path, is_there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    if is_there:
        root.mkdir()
    command = ["writer", "--root", str(root), "--redis", redis_url, "--once"]

    assert main(command) == ExitCode.USAGE

    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"scanbus: {root} is no root of scanbus: ")
    assert f"`scanbus root init {root}`" in said
    assert [path.name for path in found_below(tmp_path, "*")] == ["data"] * is_there


def test_a_folder_that_was_made_a_root_is_written_below(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    whole_scan(redis_url)
    assert main(["root", "init", str(root), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["is_new"]

    command = ["writer", "--root", str(root), "--redis", redis_url, "--once"]
    assert main(command) == ExitCode.COMPLETE

    assert found_below(root, "scan0001.h5")
    capsys.readouterr()
    assert main(["root", "init", str(root)]) == 0
    assert capsys.readouterr().out.split() == (
        f"{root} is a root already, id {made['id']}".split()
    )


def test_a_folder_with_files_becomes_a_root_with_existing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hg123").mkdir()
    assert main(["root", "init", str(tmp_path)]) == ExitCode.USAGE
    assert "--existing" in capsys.readouterr().err
    assert main(["root", "init", str(tmp_path), "--existing"]) == 0


def test_a_replay_needs_no_root_and_makes_one_folder_at_most(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_scan(redis_url)
    command = ["replay", "last", "--redis", redis_url, "--root"]
    assert main([*command, str(tmp_path / "typo" / "again")]) == ExitCode.USAGE
    assert "No such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([*command, str(tmp_path / "again")]) == ExitCode.COMPLETE
    assert found_below(tmp_path / "again", "scan0001.h5")
