"""Looking below a folder in which others are at work."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import ScanIdentity
from scanbus.schemas.file_names import SCAN_FOLDERS_GLOB, WORK_FOLDER, dataset_path
from scanbus.writer import check_files
from scanbus.writer.recovery.unfinished import UnfinishedScan, find_unfinished
from scanbus.writer.storage.event_journal import EVENTS_FILE
from scanbus.writer.storage.paths_below import files_below, names_in, paths_below

NAMES = st.sampled_from(["a", "ab", ".b", "x.h5", "scan0001", "*", "[a]", "é"])
PARTS = st.sampled_from(["*", "a*", "?", "[!.]*", ".b", "x.h5", "scan*"])


def no_error(error: OSError) -> None:
    raise error


@given(
    st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=12),
    st.lists(PARTS, min_size=1, max_size=4).map("/".join),
)
def test_it_finds_what_path_glob_finds(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], pattern: str
) -> None:
    root = tmp_path_factory.mktemp("root")
    for path in paths:
        folder = (root / path).parent
        if all(not part.is_file() for part in (root / path).parents):
            folder.mkdir(parents=True, exist_ok=True)
            if not (root / path).exists():
                (root / path).touch()
    assert sorted(paths_below(root, pattern)) == sorted(root.glob(pattern))
    files = {path for path in root.rglob("*") if path.is_file()}
    assert set(files_below(root, no_error)) == files


def test_links_that_lead_to_no_folder_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "folder/scan0001").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("circle", "nowhere", "file", "folder"):
        (tmp_path / f"to_{name}").symlink_to(tmp_path / name)
    (tmp_path / "circle").symlink_to(tmp_path / "to_circle")
    found = sorted(paths_below(tmp_path, "*/scan*"))
    assert found == [tmp_path / "folder/scan0001", tmp_path / "to_folder/scan0001"]
    assert found == sorted(tmp_path.glob("*/scan*"))


def test_a_scan_whose_work_folders_are_gone_is_not_salvaged(tmp_path: Path) -> None:
    """Its writer, which has just ended it, removed them."""
    identity = ScanIdentity(
        uid="itsfolders",
        scan_number=1,
        proposal="p",
        beamline="b",
        session="20260101",
        collection="c",
        dataset="0001",
    )
    dataset = tmp_path / dataset_path(identity)
    dataset.mkdir(parents=True)
    scan = UnfinishedScan(tmp_path, dataset, "itsfolders", ScanRecord(identity))
    refusal = scan.refusal(force=False)
    assert refusal is not None
    assert "a writer may have it" in refusal[0]


@contextmanager
def coming_and_going(root: Path) -> Iterator[None]:
    """Datasets below a root that are made and removed all the time."""
    is_over = threading.Event()

    def churn() -> None:
        while not is_over.is_set():
            for number in range(0, 40, 3):
                dataset = root / f"p{number}/b/d/RAW_DATA/c/c_0001"
                shutil.rmtree(root / f"p{number}", ignore_errors=True)
                (dataset / "scan0001").mkdir(parents=True)
                (work := dataset / WORK_FOLDER / "scan.1").mkdir(parents=True)
                (work / EVENTS_FILE).touch()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_folders_that_go_meanwhile_are_passed_over(tmp_path: Path) -> None:
    (stays := tmp_path / "stays/b/d/RAW_DATA/c/c_0001/scan0001").mkdir(parents=True)
    (stays / "scan0001.h5").write_bytes(b"damaged")
    with coming_and_going(tmp_path):
        for _ in range(300):
            assert stays in paths_below(tmp_path, SCAN_FOLDERS_GLOB)
            assert stays / "scan0001.h5" in files_below(tmp_path, no_error)
            list(find_unfinished(tmp_path))
        report = check_files([tmp_path])
    assert [each.file for each in report.findings] == [str(stays / "scan0001.h5")]


def test_what_is_no_folder_has_no_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert names_in(tmp_path) == ["file"]
    assert names_in(tmp_path / "file") == names_in(tmp_path / "gone") == []
    assert list(paths_below(tmp_path / "gone", "*/*")) == []


def test_check_names_a_folder_that_it_cannot_read(tmp_path: Path) -> None:
    """One too deep for a path: nobody may read it, not even root."""
    (tmp_path / "a.h5").write_bytes(b"damaged")
    name = "d" * 250
    place = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(20):
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_DIRECTORY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    refused: list[OSError] = []
    try:
        assert list(files_below(tmp_path, refused.append)) == [tmp_path / "a.h5"]
        report = check_files([tmp_path])
    finally:
        shutil.rmtree(tmp_path / name)
    assert len(refused) == 1
    assert [each.problem for each in report.findings] == [
        "cannot be read: File name too long",
        "cannot be opened: it is not an HDF5 file",
    ]
    assert report.exit_code == 3


def test_check_looks_at_what_a_repair_of_the_file_system_found(tmp_path: Path) -> None:
    (found := tmp_path / "lost+found/#12").mkdir(parents=True)
    (found / "a.h5").write_bytes(b"damaged")
    for folder in (tmp_path, found):
        report = check_files([folder])
        assert [each.file for each in report.findings] == [str(found / "a.h5")]
