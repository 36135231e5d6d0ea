"""Masters above scans: none is lost, whoever dies, and whatever is in the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import structlog

from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import (
    collection_master_name,
    collection_path,
    dataset_path,
    scan_master_path,
    session_path,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.running_files import UNLISTED_GLOB, unlisted_record_path
from scanbus.writer.masters import above, list_scans
from scanbus.writer.masters.above import MastersAbove, rebuild_masters
from scanbus.writer.masters.list_scans import KnownScans
from scanbus.writer.masters.scan_uid import linkable_uid
from scanbus.writer.masters.unlisted import UnlistedScans, note_unlisted
from scanbus.writer.masters.write import add_to_file, replace_file
from scanbus.writer.model.nexus_tree import Dataset, Group
from scanbus.writer.storage.regular_file import FileVersion
from tests.support.listed_scans import (
    NOTED,
    add_scan,
    identity_of,
    lay_master,
    links_of,
)
from tests.support.mounts import read_only_mount, small_disk
from tests.support.trees import differences
from tests.support.waiting import wait_until

LISTED_S = 10.0
SESSION = Path(session_path(identity_of(1)))
SCAN_MASTERS = "*/*/*/RAW_DATA/*/*/scan*/scan*.h5"


def dataset_master(root: Path, scan: ScanIdentity) -> Path:
    folder = root / dataset_path(scan)
    return folder / f"{folder.name}.h5"


def collection_master(root: Path, scan: ScanIdentity) -> Path:
    name = collection_master_name(scan.proposal, scan.collection)
    return root / collection_path(scan) / name


def proposal_master(root: Path) -> Path:
    return root / SESSION / "ch-1234_id00.h5"


def entries(master: Path) -> list[str]:
    return list(links_of(master))


def assert_as_rebuilt(root: Path) -> None:
    """Compare all masters above scans with those that the files below them give."""
    whole = root.with_name("whole")
    shutil.copytree(root, whole)
    for path in (*whole.glob("*/*/*/*/*.h5"), *whole.glob("*/*/*/*/*/*.h5")):
        path.unlink()
    rebuild_masters(whole)
    assert differences(whole, root) == []
    shutil.rmtree(whole)


def lister(root: Path, seed: str, n_scans: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.listed_scans", root, seed, str(n_scans)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def await_line(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{word}\n"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(4))
def test_writers_that_list_at_once_and_are_killed_lose_no_scan(
    tmp_path: Path, seed: int
) -> None:
    """Random scans, listed by two processes: one of them dies again and again."""
    root, chance = tmp_path / "root", random.Random(seed)
    (root / NOTED).mkdir(parents=True)
    steady = lister(root, f"{seed}", 40)
    try:
        for nth in range(4):
            with lister(root, f"{seed}.{nth}", 1000) as one:
                await_line(one, "begun")
                time.sleep(chance.random() * 0.5)
                one.kill()
        await_line(steady, "begun")
        await_line(steady, "added")
        ended = time.monotonic()
        wait_until(lambda: not list(root.glob(UNLISTED_GLOB)))
        assert time.monotonic() - ended < LISTED_S
    finally:
        steady.kill()
        steady.communicate()
    linked = {root / SESSION / one for one in links_of(proposal_master(root)).values()}
    noted = {path.readlink() for path in (root / NOTED).iterdir()}
    assert len(noted) > 40
    assert noted - linked == set()
    # A scan whose writer died before it left a record is its successor's.
    for path in set(root.glob(SCAN_MASTERS)) - noted:
        collection, _, dataset = path.parents[1].name.rpartition("_")
        number = int(path.stem.removeprefix("scan"))
        note_unlisted(root, identity_of(number, collection, dataset))
    add_scan(root, identity_of(500))
    UnlistedScans(root, grace_s=0).run()
    shutil.rmtree(root / NOTED)
    assert_as_rebuilt(root)


def test_records_of_a_process_that_died_are_taken_at_once(tmp_path: Path) -> None:
    (tmp_path / NOTED).mkdir()
    with lister(tmp_path, "1", 3) as one:
        await_line(one, "begun")
        await_line(one, "added")
        one.kill()
    add_scan(tmp_path, scan := identity_of(500))
    record = tmp_path / unlisted_record_path(scan.uid)
    said = json.loads(record.read_text())
    host, _, _ = said["owner"].split(":")
    record.write_text(json.dumps({**said, "owner": f"{host}:{one.pid}:00"}))
    UnlistedScans(tmp_path, grace_s=0).run()
    assert not record.exists()
    assert "500.1" in entries(dataset_master(tmp_path, scan))


def folder_in_the_way(path: Path) -> None:
    path.mkdir()


def foreign_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["creator"] = "blissdata"


def creators(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["creator"] = np.array(["scanbus", "others"], dtype=object)


def huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


OBSTACLES: dict[Callable[[Path], None], str] = {
    folder_in_the_way: "a folder",
    os.mkfifo: "a FIFO",
    lambda path: path.symlink_to("nowhere.h5"): "a symbolic link",
    Path.touch: "other than HDF5",
    foreign_hdf5: "blissdata",
    creators: "unknown origin",
    huge_file: "other than HDF5",
}


def unchanging(path: Path) -> tuple[int, ...]:
    """Return what nobody changes who only looks: all of lstat but the access time."""
    stat = path.lstat()
    return (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@pytest.mark.parametrize("of", [dataset_master, collection_master])
@pytest.mark.parametrize(("block", "words"), OBSTACLES.items())
def test_what_stands_in_the_place_of_one_master_is_named_and_stops_no_other(
    tmp_path: Path,
    of: Callable[[Path, ScanIdentity], Path],
    block: Callable[[Path], None],
    words: str,
) -> None:
    root = tmp_path / "root"
    scan, other = identity_of(1), identity_of(1, "c")
    add_scan(root, scan)
    add_scan(root, other)
    path = of(root, scan)
    block(path)
    before = unchanging(path)
    aside = UnlistedScans(root, grace_s=0, retry_s=0)
    aside.run()
    (problem,) = aside.problems
    assert path.name in problem
    assert words in problem
    assert unchanging(path) == before
    assert entries(dataset_master(root, other)) == ["1.1"]
    assert entries(proposal_master(root)) == ["a_0001_1.1", "c_0001_1.1"]
    (record,) = root.glob(UNLISTED_GLOB)
    assert record.stem == scan.uid
    with pytest.raises(NameTakenError, match=path.name):
        rebuild_masters(root)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    aside.run()
    assert aside.problems == []
    assert_as_rebuilt(root)


@pytest.mark.parametrize("how", ["fifo", "folder", "huge", "link", "text"])
def test_what_is_no_record_is_named_and_the_others_are_listed(
    tmp_path: Path, how: str
) -> None:
    add_scan(tmp_path, scan := identity_of(1))
    bad = tmp_path / unlisted_record_path("uid00000009")
    makers: dict[str, Callable[[Path], object]] = {
        "fifo": os.mkfifo,
        "folder": Path.mkdir,
        "huge": huge_file,
        "link": lambda path: path.symlink_to("/dev/zero"),
        "text": lambda path: path.write_text('{"owner": 1, "scan": []}'),
    }
    makers[how](bad)
    aside = UnlistedScans(tmp_path, grace_s=0, others_s=0)
    with structlog.testing.capture_logs() as logs:
        aside.run()
        aside.run()
    assert [each["event"] for each in logs] == [LogEvent.SCANS_NOT_LISTED]
    assert logs[0]["dataset"] == str(bad)
    assert list(tmp_path.glob(UNLISTED_GLOB)) == [bad]
    assert entries(dataset_master(tmp_path, scan)) == ["1.1"]


def test_a_scan_whose_master_cannot_be_read_keeps_its_record(tmp_path: Path) -> None:
    add_scan(tmp_path, scan := identity_of(1))
    add_scan(tmp_path, other := identity_of(2))
    master = tmp_path / scan_master_path(scan)
    content = master.read_bytes()
    master.write_bytes(b"no HDF5")
    aside = UnlistedScans(tmp_path, grace_s=0, retry_s=0)
    aside.run()
    (problem,) = aside.problems
    assert "scan 1 cannot be read" in problem
    assert [path.stem for path in tmp_path.glob(UNLISTED_GLOB)] == [scan.uid]
    assert entries(dataset_master(tmp_path, other)) == ["2.1"]
    master.write_bytes(content)
    aside.run()
    assert aside.problems == []
    assert entries(dataset_master(tmp_path, scan)) == ["1.1", "2.1"]


def test_a_full_disk_is_named_and_scans_are_listed_once_there_is_room(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "root", "2m") as root:
        aside = UnlistedScans(root, grace_s=0, retry_s=0)
        add_scan(root, scan := identity_of(1))
        aside.run()
        add_scan(root, identity_of(2))
        ballast = root / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(2**22))
        aside.run()
        (problem,) = aside.problems
        assert "No space left" in problem
        assert entries(dataset_master(root, scan)) == ["1.1"]
        ballast.unlink()
        aside.run()
        assert aside.problems == []
        assert_as_rebuilt_aside(root, tmp_path)


def assert_as_rebuilt_aside(root: Path, folder: Path) -> None:
    shutil.copytree(root, folder / "copy")
    assert_as_rebuilt(folder / "copy")


def test_a_disk_that_became_read_only_is_named_and_scans_are_listed_afterwards(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    add_scan(root, scan := identity_of(1))
    aside = UnlistedScans(root, grace_s=0, retry_s=0)
    with read_only_mount(root):
        aside.run()
        (problem,) = aside.problems
        assert "Read-only" in problem
    aside.run()
    assert aside.problems == []
    assert entries(dataset_master(root, scan)) == ["1.1"]


def test_a_master_that_another_writer_replaced_at_once_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this writer knows of its own file is not true of the other's."""
    lay_master(tmp_path, scan := identity_of(1))
    mine, other = MastersAbove(tmp_path), MastersAbove(tmp_path)

    def replaced(*args: Any, **kwargs: Any) -> FileVersion:
        version = replace_file(*args, **kwargs)
        with monkeypatch.context() as context:
            context.setattr(above, "replace_file", replace_file)
            lay_master(tmp_path, identity_of(2))
            other.write(scan)
        return version

    monkeypatch.setattr(above, "replace_file", replaced)
    mine.write(scan)
    lay_master(tmp_path, identity_of(3))
    mine.write(scan)
    assert entries(dataset_master(tmp_path, scan)) == ["1.1", "2.1", "3.1"]


def test_scans_are_added_only_to_a_copy_of_the_version_that_is_known(
    tmp_path: Path,
) -> None:
    path = tmp_path / "some.h5"
    first = replace_file(path, Group("NXroot", {}, {"a": Dataset(1)}))
    second = add_to_file(path, first, Group("NXroot", {}, {"b": Dataset(2)}))
    assert second is not None
    content = path.read_bytes()
    for tree in (Group("NXroot", {}, {"b": Dataset(3)}), Group("NXroot", {}, {})):
        assert add_to_file(path, first, tree) is None
    assert path.read_bytes() == content
    path.unlink()
    assert add_to_file(path, second, Group("NXroot", {}, {})) is None
    assert list(tmp_path.iterdir()) == []


def test_writers_that_add_scans_at_once_lose_none_and_meet_no_error(
    tmp_path: Path,
) -> None:
    """Each has the next number, so all of them add to what another has written."""
    numbers = iter(range(1, 91))

    def add(writer: MastersAbove) -> None:
        for number in numbers:
            lay_master(tmp_path, scan := identity_of(number))
            writer.write(scan)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(add, [MastersAbove(tmp_path) for _ in range(3)]))
    expected = {f"{number}.1" for number in range(1, 91)}
    assert {*entries(dataset_master(tmp_path, identity_of(1)))} == expected
    assert_as_rebuilt(tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of scan masters that were opened for their uid."""
    found: list[str] = []

    def noted(path: str, entry_name: str, status: os.stat_result) -> str | None:
        found.append(Path(path).parent.name)
        return linkable_uid(path, entry_name, status)

    monkeypatch.setattr("scanbus.writer.masters.list_scans.linkable_uid", noted)
    return found


@pytest.mark.parametrize("looked_before_s", [0, 90])
def test_a_writer_that_starts_opens_only_scans_that_changed(
    tmp_path: Path,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    looked_before_s: int,
) -> None:
    """Not one that changed so shortly before that the last writer may not know it."""
    monkeypatch.setattr(list_scans, "_LOOKED_BEFORE_NS", looked_before_s * 10**9)
    for number in (1, 2, 3):
        add_scan(tmp_path, identity_of(number))
    time.sleep(0.02)  # One step of the file system's clock, at least.
    UnlistedScans(tmp_path, grace_s=0).run()
    opened.clear()
    time.sleep(0.02)
    lay_master(tmp_path, identity_of(2, uid="another0"))
    add_scan(tmp_path, scan := identity_of(4))
    UnlistedScans(tmp_path, grace_s=0).run()
    changed = {"scan0002", "scan0004"}
    everything = {"scan0001", "scan0003", *changed}
    assert set(opened) == (everything if looked_before_s else changed)
    with h5py.File(dataset_master(tmp_path, scan)) as file:
        assert file["2.1/scanbus/uid"].asstr()[()] == "another0"
    assert entries(dataset_master(tmp_path, scan)) == ["1.1", "2.1", "3.1", "4.1"]


def test_a_scan_that_appears_in_a_folder_listed_long_ago_is_found(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a dataset does not change when a scan in it gets its master."""
    monkeypatch.setattr(list_scans, "_SETTLED_S", -1e9)
    (tmp_path / scan_master_path(identity_of(2))).parent.mkdir(parents=True)
    aside = UnlistedScans(tmp_path, grace_s=0)
    add_scan(tmp_path, scan := identity_of(1))
    aside.run()
    assert entries(dataset_master(tmp_path, scan)) == ["1.1"]
    add_scan(tmp_path, identity_of(2))
    aside.run()
    assert entries(dataset_master(tmp_path, scan)) == ["1.1", "2.1"]
    assert opened == ["scan0001", "scan0002"]


def test_a_master_that_somebody_removed_is_missed_after_a_while(tmp_path: Path) -> None:
    masters = MastersAbove(tmp_path, KnownScans(tmp_path, relook_s=0))
    first = lay_master(tmp_path, scan := identity_of(1))
    lay_master(tmp_path, identity_of(2))
    masters.write(scan)
    first.unlink()
    lay_master(tmp_path, identity_of(3))
    masters.write(scan)
    assert entries(dataset_master(tmp_path, scan)) == ["2.1", "3.1"]
