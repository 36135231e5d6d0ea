"""What a watcher notes of files: it survives, and one process has it at a time."""

import os
import resource
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from scanbus.publisher.gateways.files.watch.folder import FileId
from scanbus.publisher.gateways.files.watch.taken_files import TakenFile, TakenFiles
from scanbus.schemas.errors import ConfigurationError, SourceFailedError


def made(folder: Path, number: int) -> TakenFile:
    path = folder / f"f_{number}.edf"
    path.write_text(str(number))
    found = FileId.of(path)
    assert found is not None
    return TakenFile(path, found, number)


def test_files_and_series_are_there_after_a_restart(tmp_path: Path) -> None:
    taken = TakenFiles(tmp_path / "state" / "taken.sqlite")
    assert taken.is_new
    series = taken.begin("f_#.edf", 0, 1)
    files = [made(tmp_path, number) for number in (2, 0, 1)]
    for file in files:
        taken.add(series, file)
    taken.set_scan(series, "uid")
    taken.close()
    taken = TakenFiles(tmp_path / "state" / "taken.sqlite")
    assert not taken.is_new
    (found,) = taken.unsent()
    assert found == series
    assert [each.number for each in taken.of(found, 1)] == [1, 2]
    assert all(taken.has(each.path, each.id) for each in files)
    os.utime(files[0].path, (1, 1))
    changed = FileId.of(files[0].path)
    assert changed is not None
    assert not taken.has(files[0].path, changed)
    taken.note_sent(found)
    assert taken.unsent() == []
    assert taken.undone() == [found]
    taken.close()


def test_gone_files_of_done_series_are_forgotten(tmp_path: Path) -> None:
    taken = TakenFiles(tmp_path / "taken.sqlite")
    kept, gone, unwanted, there = (made(tmp_path, number) for number in range(4))
    done, on_the_way = taken.begin("a", 0, 1), taken.begin("b", 0, 1)
    taken.add(done, gone)
    taken.add(done, there)
    taken.add(on_the_way, kept)
    taken.add(None, unwanted)
    for file in (kept, gone, unwanted):
        file.path.unlink()
    taken.note_sent(done)
    taken.note_done(done)
    there.path.rename(tmp_path / "elsewhere")
    taken.forget_gone()  # Nothing is there: perhaps the file system is not.
    assert taken.has(gone.path, gone.id)
    (tmp_path / "elsewhere").rename(there.path)
    taken.forget_gone()
    assert not taken.has(gone.path, gone.id)
    assert not taken.has(unwanted.path, unwanted.id)
    assert taken.has(kept.path, kept.id)
    assert taken.has(there.path, there.id)
    assert taken.unsent() == [on_the_way]
    taken.close()


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_a_database_that_is_none_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    database = tmp_path / "taken.sqlite"
    database.write_bytes(content)
    if not content:
        TakenFiles(database).close()  # As one that was made and never written.
        return
    with pytest.raises(ConfigurationError, match="not a database"):
        TakenFiles(database)


def test_two_cannot_have_it(tmp_path: Path) -> None:
    first = TakenFiles(tmp_path / "taken.sqlite")
    with pytest.raises(ConfigurationError, match="another process watches"):
        TakenFiles(tmp_path / "taken.sqlite")
    first.close()
    TakenFiles(tmp_path / "taken.sqlite").close()


def test_names_and_numbers_of_any_kind_are_noted(tmp_path: Path) -> None:
    """A name need not be UTF-8; NFS and XFS have larger inodes and times."""
    database = tmp_path / "taken.sqlite"
    taken = TakenFiles(database)
    series = taken.begin("a", 0, 1)
    path = tmp_path / os.fsdecode(b"a\xe9\xff_0.edf")
    file = TakenFile(path, FileId(2**80, 2**62, 2**64 - 1), 0)
    taken.add(series, file)
    taken.note_whole(file)
    taken.close()
    taken = TakenFiles(database)
    assert taken.has(path, file.id)
    assert [*taken.whole_of(series, 1)] == [file]
    taken.close()


def test_only_files_that_were_handed_on_to_their_end_are_whole(tmp_path: Path) -> None:
    taken = TakenFiles(tmp_path / "taken.sqlite")
    series = taken.begin("a", 0, 1)
    begun, refused, whole = (made(tmp_path, number) for number in range(3))
    for file in (begun, refused, whole):
        taken.add(series, file)
    taken.note_refused(refused)
    for file in (refused, whole):
        taken.note_whole(file)
    assert [*taken.whole_of(series, 9)] == [whole]
    taken.close()


FORMAT_1 = """
CREATE TABLE series (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, first INTEGER NOT NULL,
    frames_per_file INTEGER NOT NULL, uid TEXT NOT NULL DEFAULT '',
    is_sent INTEGER NOT NULL DEFAULT 0, is_done INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE files (
    path TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
    inode INTEGER NOT NULL, series TEXT, number INTEGER NOT NULL,
    is_whole INTEGER NOT NULL DEFAULT 1
);
INSERT INTO series VALUES ('k', 'a', 0, 1, 'u', 1, 0);
INSERT INTO files VALUES ('/d/é_0.edf', 1, 2, 3, 'k', 0, 1);
INSERT INTO files VALUES ('/d/é_1.edf', 4, 5, 6, 'k', 1, 0);
PRAGMA user_version = 1;
"""


def test_what_the_first_version_noted_is_known(tmp_path: Path) -> None:
    database = tmp_path / "taken.sqlite"
    with closing(sqlite3.connect(database)) as old:
        old.executescript(FORMAT_1)
    for _ in range(2):
        taken = TakenFiles(database)
        assert taken.has(Path("/d/é_0.edf"), FileId(1, 2, 3))
        assert taken.has(Path("/d/é_1.edf"), FileId(4, 5, 6))
        (series,) = taken.undone()
        assert [file.number for file in taken.whole_of(series, 9)] == [0]
        taken.close()


def test_a_newer_database_is_a_sentence(tmp_path: Path) -> None:
    database = tmp_path / "taken.sqlite"
    with closing(sqlite3.connect(database)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="of another version"):
        TakenFiles(database)


@pytest.mark.parametrize("lost", ["the file", "its folder"])
def test_a_database_that_is_removed_comes_back_with_all_that_was_noted(
    tmp_path: Path, lost: str
) -> None:
    state = tmp_path / "state"
    database = state / "taken.sqlite"
    taken = TakenFiles(database)
    series = taken.begin("a", 0, 1)
    files = [made(tmp_path, number) for number in range(3)]
    for file in files[:2]:
        taken.add(series, file)
    if lost == "the file":
        database.unlink()
    else:
        shutil.rmtree(state)
    with pytest.raises(SourceFailedError, match=r"was removed .* start again"):
        taken.add(series, files[2])
    taken.close()
    taken = TakenFiles(database)
    assert [*taken.of(series)] == files[:2]
    taken.add(series, files[2])
    taken.close()


def test_a_database_in_whose_place_another_one_is_stays_as_it_is(
    tmp_path: Path,
) -> None:
    database = tmp_path / "taken.sqlite"
    taken = TakenFiles(database)
    database.unlink()
    database.write_bytes(b"of somebody else")
    with pytest.raises(SourceFailedError, match="took its place"):
        taken.begin("a", 0, 1)
    taken.close()
    assert database.read_bytes() == b"of somebody else"


def test_a_full_disk_is_a_sentence_and_what_was_noted_stays(tmp_path: Path) -> None:
    database = tmp_path / "taken.sqlite"
    taken = TakenFiles(database)
    series = taken.begin("a", 0, 1)
    files = [made(tmp_path, number) for number in range(2)]
    taken.add(series, files[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(
            SourceFailedError, match=r"database .*taken\.sqlite has failed"
        ):
            taken.add(series, files[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    taken.close()
    taken = TakenFiles(database)
    assert [*taken.of(series)] == files[:1]
    taken.close()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_database_without_content_is_new(tmp_path: Path, *, is_there: bool) -> None:
    """A process that was killed at its first start leaves an empty file."""
    database = tmp_path / "taken.sqlite"
    if is_there:
        database.touch()
    for is_new in (True, False):
        taken = TakenFiles(database)
        assert taken.is_new is is_new
        taken.close()
