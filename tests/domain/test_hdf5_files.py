"""Files that HDF5 makes do not touch the disk but where the writer waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanbus.writer.storage.hdf5 import make_hdf5, open_hdf5


def size_and_time(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def test_groups_and_attributes_are_written_by_flush_and_close_only(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.h5"
    with make_hdf5(path, track_order=True) as file:
        file.flush()
        before = size_and_time(path)
        for number in range(5000):
            file.create_group(f"g{number}").attrs["text"] = "x" * 500
        assert size_and_time(path) == before
    assert path.stat().st_size > 2_000_000


def test_what_was_made_can_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with make_hdf5(path, track_order=True) as file:
        for name in "cab":
            file[name] = [1, 2, 3]
    for reads_once in (False, True):
        with open_hdf5(path, reads_once=reads_once) as file:
            assert (file.mode, list(file)) == ("r", ["c", "a", "b"])
            assert list(file["a"]) == [1, 2, 3]


def test_a_file_that_exists_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_text("somebody's")
    with pytest.raises(FileExistsError):
        make_hdf5(path)
    assert path.read_text() == "somebody's"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), ("text", "signature not found")]
)
def test_what_cannot_be_opened_is_refused_as_by_h5py(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "a.h5"
    if content:
        path.write_text(content)
    with pytest.raises(OSError, match=message):
        open_hdf5(path)
