"""A path that is empty, missing or the wrong one is an error, never a success."""

import importlib
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.models import ArgumentInfo

from scanbus.cli import commands, main
from scanbus.publisher import Publisher
from scanbus.publisher.gateways.files import publish_files
from scanbus.schemas.errors import (
    ConfigurationError,
    NoRootError,
    SourceError,
    SpoolError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import WriterSettings, init_root, rebuild, salvage
from tests.support.written_scans import write_scan

Said = pytest.CaptureFixture[str]
NEEDED = {
    "replay": ["last"],
    "publish_dectris": ["tcp://127.0.0.1:1"],
    "publish_pva": ["13SIM1:image"],
    "publish_zmq": ["tcp://127.0.0.1:1"],
}
NO_REDIS = ("--redis", "redis://127.0.0.1:1")


def paths_of_commands() -> Iterator[list[str]]:
    """Yield the beginning of a command line before each path that a command takes."""
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        command = found.name.split("_", found.name.count("_") == 1)
        hints = typing.get_type_hints(module.run, include_extras=True)
        for name, hint in hints.items():
            if name == "return" or "Path" not in str(hint):
                continue
            # What a command needs before it.
            text = NEEDED.get(found.name, [])
            (given,) = hint.__metadata__
            is_argument = isinstance(given, ArgumentInfo)
            # In Annotated, the first name of an option is where its default would be.
            named = (
                given.default
                if isinstance(given.default, str)
                else f"--{name.replace('_', '-')}"
            )
            option = [] if is_argument else [named]
            yield [*command, *text, *option]


PATHS = list(paths_of_commands())


def test_all_paths_are_found() -> None:
    said = {" ".join(each) for each in PATHS}
    assert said == {
        "amend",
        "amend --external-root",
        "check",
        "check --external-root",
        "convert",
        "convert --external-root",
        "demo --out",
        "icat pending",
        "icat pending --allowed-root",
        "icat send",
        "icat send --allowed-root",
        "icat watch",
        "icat watch --allowed-root",
        "layout --root",
        "layout --template",
        "master rebuild --allowed-root",
        "master rebuild --external-root",
        "master rebuild --root",
        "master rebuild --scan",
        "master rebuild --template",
        "publish dectris tcp://127.0.0.1:1 --spool",
        "publish files",
        "publish pva 13SIM1:image --spool",
        "publish resume --spool",
        "publish watch",
        "publish watch --link-into",
        "publish watch --spool",
        "publish watch --state",
        "publish zmq tcp://127.0.0.1:1 --spool",
        "replay last --external-root",
        "replay last --root",
        "replay last --template",
        "root init",
        "root use",
        "salvage --allowed-root",
        "salvage --external-root",
        "salvage --root",
        "writer --config",
        "writer --root",
    }


@pytest.mark.parametrize("begin", PATHS, ids=" ".join)
def test_an_empty_path_is_wrong_usage_and_not_the_current_folder(
    begin: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    init_root(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    files = {"amend": ["a.h5"], "check": ["a.h5"], "convert": ["a.h5", "b.h5"]}
    files["icat"] = ["."]
    more = files.get(begin[0], ["--root", "."])
    root = more if begin[-1] in {"--allowed-root", "--external-root"} else []
    assert main([*begin, "", *root]) == ExitCode.USAGE
    assert "the path is empty" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["SCANBUS_ROOT", "SCANBUS_REDIS"])
def test_an_empty_variable_is_no_setting(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    init_root(tmp_path)
    if name != "SCANBUS_ROOT":
        monkeypatch.setenv("SCANBUS_ROOT", str(tmp_path))
    monkeypatch.setenv(name, "")
    with pytest.raises(ConfigurationError):
        WriterSettings.load()
    assert main(["writer", "--once"]) == ExitCode.USAGE
    if name == "SCANBUS_REDIS":
        for command in (["ls"], ["status"], ["close", "x"], ["root", "use", "."]):
            assert main(command) == ExitCode.USAGE
            assert "SCANBUS_REDIS" in capsys.readouterr().err


def test_an_empty_path_in_a_settings_file_is_named(tmp_path: Path) -> None:
    for line in ('root = ""', 'root = "/data"\nallowed_roots = [""]'):
        config = tmp_path / "writer.toml"
        config.write_text(line)
        with pytest.raises(ConfigurationError, match="the path is empty"):
            WriterSettings.load(config)


def test_programs_cannot_give_an_empty_path(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="the path is empty"):
        Publisher("redis://127.0.0.1:1", spool="")
    with pytest.raises(SourceError, match="the path is empty"):
        publish_files("redis://127.0.0.1:1", [""])


def wrong_folders(tmp_path: Path) -> dict[str, Path]:
    """Return folders that a slip may name instead of a root."""
    root = tmp_path / "data"
    init_root(root)
    write_scan(root)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    session = next(root.glob("*/*/*"))
    return {
        "missing": tmp_path / "nothing",
        "empty": tmp_path / "empty",
        "a file": tmp_path / "file",
        "above": tmp_path,
        "below": session,
    }


@pytest.mark.parametrize("which", ["missing", "empty", "a file", "above", "below"])
def test_commands_on_files_refuse_a_folder_that_has_no_scans(
    tmp_path: Path, which: str, capsys: Said
) -> None:
    wrong = wrong_folders(tmp_path)[which]
    for call in (rebuild, salvage):
        with pytest.raises(NoRootError):
            call(wrong)
    for command in (["master", "rebuild"], ["salvage"]):
        for options in ([], ["--json"]):
            assert main([*command, "--root", str(wrong), *options]) == ExitCode.USAGE
            assert str(wrong) in capsys.readouterr().err
    assert main(["root", "use", str(wrong), *NO_REDIS]) == ExitCode.USAGE
    spool = ["publish", "resume", "--spool", str(wrong), *NO_REDIS]
    expected = ExitCode.USAGE if which == "empty" else ExitCode.FAILED
    assert main(spool) == expected
    if which not in ("missing", "a file"):
        # Folders of any level can be checked, but not one without any scan.
        is_empty = which == "empty"
        checked = ExitCode.FAILED if is_empty else ExitCode.COMPLETE
        assert main(["check", str(wrong)]) == checked
        assert main(["publish", "files", str(wrong), *NO_REDIS]) == ExitCode.USAGE


def test_an_allowed_root_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    root, wrong = tmp_path / "data", tmp_path / "not-mounted"
    init_root(root)
    wrong.mkdir()
    for command in (["master", "rebuild"], ["salvage"]):
        given = [*command, "--root", str(root)]
        assert main(given) == ExitCode.COMPLETE
        assert main([*given, "--allowed-root", str(wrong)]) == ExitCode.USAGE
        monkeypatch.setenv("SCANBUS_ALLOWED_ROOTS", f"{root}:{wrong}")
        assert main(given) == ExitCode.USAGE
        assert str(wrong) in capsys.readouterr().err
        monkeypatch.delenv("SCANBUS_ALLOWED_ROOTS")


def test_a_root_without_scans_and_a_copy_that_is_no_root_are_fine(
    tmp_path: Path,
) -> None:
    init_root(tmp_path / "root")
    write_scan(tmp_path / "copy")
    assert rebuild(tmp_path / "root").masters == ()
    assert rebuild(tmp_path / "copy").masters
    assert salvage(tmp_path / "root").exit_code == ExitCode.COMPLETE
    assert salvage(tmp_path / "copy").exit_code == ExitCode.COMPLETE
