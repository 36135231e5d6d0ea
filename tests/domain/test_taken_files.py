"""What a watcher notes of files: it survives, and one process has it at a time."""

import os
from pathlib import Path

import pytest

from scanbus.publisher.gateways.files.watch.folder import FileId
from scanbus.publisher.gateways.files.watch.taken_files import TakenFile, TakenFiles
from scanbus.schemas.errors import ConfigurationError


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
