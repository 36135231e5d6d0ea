"""When a file of a folder counts as whole: real files, real events of inotify."""

import os
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from scanbus.publisher.gateways.files.watch.folder import WatchedFolder
from scanbus.schemas.errors import SourceFailedError

SETTLE_S = 0.2


def watched(folder: Path, settle_s: float = SETTLE_S) -> WatchedFolder:
    return WatchedFolder(
        folder, lambda path: path.suffix == ".edf", settle_s=settle_s, look_s=0.05
    )


def names(found: Sequence[tuple[Path, object]]) -> list[str]:
    return [path.name for path, _ in found]


def test_a_file_that_was_there_settles_first(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_text("x")
    folder = watched(tmp_path)
    assert folder.whole(SETTLE_S / 2) == []
    assert names(folder.whole(1.0)) == ["a.edf"]
    assert folder.whole(2 * SETTLE_S) == []
    folder.close()


def test_a_file_that_grows_is_not_whole(tmp_path: Path) -> None:
    """As on NFS: nothing says when it is closed."""
    with (tmp_path / "a.edf").open("w") as file:
        folder = watched(tmp_path)
        for _ in range(6):
            file.write("x")
            file.flush()
            assert folder.whole(SETTLE_S / 2) == []
    folder.close()


def test_a_closed_or_renamed_file_is_whole_at_once(tmp_path: Path) -> None:
    pytest.importorskip("inotify_simple")
    folder = watched(tmp_path, settle_s=60.0)
    folder.whole(0.0)
    (tmp_path / "a.edf").write_text("x")
    assert names(folder.whole(5.0)) == ["a.edf"]
    (tmp_path / ".b").write_text("x")
    (tmp_path / ".b").rename(tmp_path / "b.edf")
    assert names(folder.whole(5.0)) == ["b.edf"]
    folder.close()


def test_an_open_file_waits_for_its_close_however_long_it_pauses(
    tmp_path: Path,
) -> None:
    pytest.importorskip("inotify_simple")
    folder = watched(tmp_path)
    folder.whole(0.0)
    with (tmp_path / "a.edf").open("w") as file:
        file.write("x")
        file.flush()
        assert folder.whole(4 * SETTLE_S) == []
    assert names(folder.whole(5.0)) == ["a.edf"]
    folder.close()


def test_a_folder_that_comes_is_watched_too(tmp_path: Path) -> None:
    folder = watched(tmp_path)
    folder.whole(0.0)
    inner = tmp_path / "s1" / "run"
    inner.mkdir(parents=True)
    (inner / "a.edf").write_text("x")
    assert names(folder.whole(5.0)) == ["a.edf"]
    (inner / "b.edf").write_text("x")
    assert names(folder.whole(5.0)) == ["b.edf"]
    folder.close()


def test_a_file_that_is_handed_back_comes_again_and_then_no_more(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.edf").write_text("x")
    folder = watched(tmp_path)
    answers = []
    for _ in range(3):
        ((path, _),) = folder.whole(5.0)
        answers.append(folder.hand_back(path))
    assert answers == [True, True, False]
    assert folder.whole(3 * SETTLE_S) == []
    (tmp_path / "a.edf").write_text("xy")
    assert names(folder.whole(5.0)) == ["a.edf"]
    folder.close()


def test_links_and_pipes_are_no_files(tmp_path: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("x")
    (tmp_path / "link.edf").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe.edf")
    folder = watched(tmp_path)
    assert folder.whole(3 * SETTLE_S) == []
    folder.close()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_writers_do_each_file_comes_whole(tmp_path: Path, seed: int) -> None:
    """Random writes, pauses and renames: what comes last is the whole file."""
    rng = random.Random(seed)
    folder = watched(tmp_path)
    expected: dict[str, str] = {}
    last: dict[str, str] = {}

    def look(timeout_s: float) -> None:
        for path, found in folder.whole(timeout_s):
            if folder.is_unchanged(path, found):
                last[path.name] = path.read_text()

    for step in range(30):
        name = f"f{rng.randrange(8)}.edf"
        text = f"{step} " * rng.randrange(1, 2000)
        target = tmp_path / (name if rng.random() < 0.6 else f".{name}")
        with target.open("w") as file:
            for start in range(0, len(text), max(1, len(text) // 3)):
                file.write(text[start : start + max(1, len(text) // 3)])
                file.flush()
                if rng.random() < 0.2:
                    time.sleep(0.02)
                    look(0.0)
        target.replace(tmp_path / name)
        expected[name] = text
        if rng.random() < 0.3:
            look(0.0)
    deadline = time.monotonic() + 5.0
    while last != expected and time.monotonic() < deadline:
        look(0.1)
    assert last == expected
    folder.close()


def test_a_file_that_is_linked_to_its_name_is_taken(tmp_path: Path) -> None:
    """As programs do that write under another name first; nothing is closed then."""
    pytest.importorskip("inotify_simple")
    folder = watched(tmp_path)
    folder.whole(0.0)
    (tmp_path / ".a").write_text("x")
    os.link(tmp_path / ".a", tmp_path / "a.edf")
    (tmp_path / ".b").write_text("x")
    os.link(tmp_path / ".b", tmp_path / "b.edf")
    (tmp_path / ".b").unlink()
    found: set[str] = set()
    deadline = time.monotonic() + 60.0
    while found != {"a.edf", "b.edf"} and time.monotonic() < deadline:
        found |= set(names(folder.whole(1.0)))
    assert found == {"a.edf", "b.edf"}
    folder.close()


def test_a_file_that_is_empty_yet_waits_for_its_close(tmp_path: Path) -> None:
    pytest.importorskip("inotify_simple")
    folder = watched(tmp_path)
    folder.whole(0.0)
    with (tmp_path / "a.edf").open("w") as file:
        assert folder.whole(4 * SETTLE_S) == []
        file.write("x")
    assert names(folder.whole(60.0)) == ["a.edf"]
    folder.close()


def below(folder: Path, found: Sequence[tuple[Path, object]]) -> list[str]:
    return [str(path.relative_to(folder)) for path, _ in found]


def test_a_half_written_file_stays_one_where_its_folder_is_moved(
    tmp_path: Path,
) -> None:
    pytest.importorskip("inotify_simple")
    (tmp_path / "run" / "inner").mkdir(parents=True)
    folder = watched(tmp_path)
    folder.whole(0.0)
    with (tmp_path / "run" / "inner" / "a.edf").open("w") as file:
        file.write("x")
        file.flush()
        assert folder.whole(0.0) == []
        (tmp_path / "run").rename(tmp_path / "moved")
        assert folder.whole(4 * SETTLE_S) == []
        (tmp_path / "moved").rename(tmp_path / "again")
        (tmp_path / "moved").mkdir()
        assert folder.whole(4 * SETTLE_S) == []
    assert below(tmp_path, folder.whole(60.0)) == ["again/inner/a.edf"]
    folder.close()


def test_events_of_moved_folders_are_of_the_files_that_are_there(
    tmp_path: Path,
) -> None:
    """Two folders change names: each file comes once, under its path."""
    pytest.importorskip("inotify_simple")
    one, other, third = tmp_path / "one", tmp_path / "other", tmp_path / "third"
    for each in (one, other):
        each.mkdir()
    folder = watched(tmp_path, settle_s=60.0)
    folder.whole(0.0)
    one.rename(third)
    other.rename(one)
    third.rename(other)
    (one / "a.edf").write_text("x")
    assert below(tmp_path, folder.whole(60.0)) == ["one/a.edf"]
    (other / "b.edf").write_text("x")
    assert below(tmp_path, folder.whole(60.0)) == ["other/b.edf"]
    folder.close()


def test_a_folder_that_left_is_watched_no_more_and_its_name_may_come_again(
    tmp_path: Path,
) -> None:
    pytest.importorskip("inotify_simple")
    root, away = tmp_path / "root", tmp_path / "away"
    (root / "run").mkdir(parents=True)
    folder = watched(root)
    folder.whole(0.0)
    with (root / "run" / "a.edf").open("w") as half:
        half.write("x")
        half.flush()
        assert folder.whole(0.0) == []
        (root / "run").rename(away)
        (root / "run").mkdir()
        (root / "run" / "a.edf").write_text("xyz")
        ((path, found),) = folder.whole(60.0)
        assert path == root / "run" / "a.edf"
        half.write("y")
        half.flush()
        (away / "b.edf").write_text("x")
        assert folder.is_unchanged(path, found)
        assert folder.whole(2 * SETTLE_S) == []
    (root / "run" / "c.edf").write_text("x")
    assert below(root, folder.whole(60.0)) == ["run/c.edf"]
    away.rename(root / "back")
    found_names: set[str] = set()
    deadline = time.monotonic() + 60.0
    while len(found_names) < 2 and time.monotonic() < deadline:
        found_names |= set(below(root, folder.whole(1.0)))
    assert found_names == {"back/a.edf", "back/b.edf"}
    folder.close()


def test_a_folder_that_is_gone_for_long_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.edf").write_text("x")
    folder = WatchedFolder(
        tmp_path / "in", lambda _: True, settle_s=0.0, look_s=0.01, gone_s=0.3
    )
    assert names(folder.whole(5.0)) == ["a.edf"]
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(SourceFailedError, match=r"folder .*/in has failed: it cannot"):
        folder.whole(60.0)
    folder.close()


def test_a_folder_that_comes_back_soon_is_watched_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    folder = WatchedFolder(
        tmp_path / "in", lambda _: True, settle_s=0.0, look_s=0.01, gone_s=60.0
    )
    (tmp_path / "in").rename(tmp_path / "away")
    assert folder.whole(0.1) == []
    (tmp_path / "away").rename(tmp_path / "in")
    (tmp_path / "in/a.edf").write_text("x")
    assert names(folder.whole(60.0)) == ["a.edf"]
    folder.close()
