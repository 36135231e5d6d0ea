"""What makes a folder a root, and what is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from scanbus.schemas.errors import (
    ConfigurationError,
    NameTakenError,
    NoRootError,
    RootConflictError,
    RootUnusableError,
)
from scanbus.writer import init_root
from scanbus.writer.storage.root_identity import RootGuard, read_root_id


def test_a_root_is_made_once_and_keeps_its_id(tmp_path: Path) -> None:
    made = init_root(tmp_path / "data")
    assert made.is_new
    assert read_root_id(tmp_path / "data") == made.id
    again = init_root(tmp_path / "data")
    assert (again.id, again.is_new) == (made.id, False)


def test_two_roots_have_two_ids(tmp_path: Path) -> None:
    assert init_root(tmp_path / "a").id != init_root(tmp_path / "b").id


def test_a_folder_with_files_becomes_a_root_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "hg123").mkdir()
    with pytest.raises(ConfigurationError, match=r"already \(hg123\).*--existing"):
        init_root(tmp_path)
    assert not (tmp_path / ".scanbus").exists()
    assert init_root(tmp_path, existing=True).is_new
    assert (tmp_path / "hg123").is_dir()


def test_a_new_file_system_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".snapshot").mkdir()
    assert init_root(tmp_path).is_new


def test_no_folder_above_is_made(tmp_path: Path) -> None:
    with pytest.raises(RootUnusableError, match="No such file"):
        init_root(tmp_path / "typo" / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_root_may_be_a_link_to_a_folder(tmp_path: Path) -> None:
    made = init_root(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert read_root_id(tmp_path / "link") == made.id


def _nothing(_: Path) -> None:
    pass


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _no_id(path: Path) -> None:
    path.write_text('{"root": 5}')


def _text(path: Path) -> None:
    path.write_text("[]")


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _link(path: Path) -> None:
    other = init_root(path.parents[1] / "other").path / ".scanbus"
    path.symlink_to(other / path.name if path.suffix else other)


Make = Callable[[Path], None]
NO_MARKS: list[Make] = [
    *(_nothing, _empty, _no_id, _text, _folder, _loop, _dangling, _socket),
    *(_link, os.mkfifo),
]
NO_FOLDERS: list[Make] = [
    *(_nothing, _empty, _folder, _loop, _dangling, _socket, _link, os.mkfifo),
]


@pytest.mark.parametrize("make", NO_MARKS)
def test_a_root_without_a_readable_mark_is_none(tmp_path: Path, make: Make) -> None:
    root = init_root(tmp_path / "data").path
    (root / ".scanbus" / "root.json").unlink()
    make(root / ".scanbus" / "root.json")
    with pytest.raises(NoRootError, match=f"scanbus root init {root}"):
        read_root_id(root)


@pytest.mark.parametrize("make", NO_FOLDERS)
def test_a_folder_without_its_own_folder_is_no_root(tmp_path: Path, make: Make) -> None:
    root = tmp_path / "data"
    root.mkdir()
    make(root / ".scanbus")
    with pytest.raises(NoRootError, match="is no root of scanbus"):
        read_root_id(root)


@pytest.mark.parametrize("make", [_empty, _loop, _dangling, _socket, _link, os.mkfifo])
def test_what_stands_in_the_place_of_the_own_folder_is_named(
    tmp_path: Path, make: Make
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    make(root / ".scanbus")
    with pytest.raises(NameTakenError, match="not a folder"):
        init_root(root)


@pytest.mark.parametrize("make", [_nothing, _empty, os.mkfifo])
def test_what_is_no_folder_is_no_root(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "data")
    with pytest.raises(NoRootError, match="there is no such folder"):
        read_root_id(tmp_path / "data")


def test_folders_are_made_below_the_same_root_only(tmp_path: Path) -> None:
    """Behind a root that is unmounted, nothing is made."""
    made = init_root(tmp_path / "data")
    guard = RootGuard(made.path, made.id)
    guard.make_folder(made.path / "a" / "b")
    guard.make_folder(made.path / "a" / "b")
    assert (made.path / "a" / "b").is_dir()

    made.path.rename(tmp_path / "elsewhere")
    made.path.mkdir()
    with pytest.raises(NoRootError):
        guard.check()
    with pytest.raises(NoRootError):
        guard.make_folder(made.path / "c")
    assert list(made.path.iterdir()) == []

    init_root(made.path)
    with pytest.raises(RootConflictError, match=made.id):
        guard.make_folder(made.path / "c")
    assert not (made.path / "c").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    made = init_root(tmp_path / "data")
    (made.path / "a").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="data/a/b"):
        RootGuard(made.path, made.id).make_folder(made.path / "a" / "b")


def test_files_of_the_superuser_are_given_to_the_owner(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only the superuser gives files away")
    root = tmp_path / "data"
    root.mkdir()
    os.chown(root, 1234, 5678)
    init_root(root)
    for path in (root / ".scanbus", root / ".scanbus" / "root.json"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
