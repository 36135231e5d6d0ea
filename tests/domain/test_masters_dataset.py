"""Masters above scans: they follow from the files below them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
import structlog
from silx.io.nxdata import parse as nxdata

from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import parse_temporary
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.running_files import UNLISTED_GLOB, unlisted_record_path
from scanbus.writer.masters import above
from scanbus.writer.masters import write as masters
from scanbus.writer.masters.above import (
    rebuild_masters,
    write_dataset_masters,
)
from scanbus.writer.masters.list_scans import KnownScans
from scanbus.writer.masters.unlisted import UnlistedScans, note_unlisted
from scanbus.writer.masters.write import replace_file, write_scan_master
from scanbus.writer.model.nexus_tree import Group
from scanbus.writer.storage.data_root import dataset_folder
from scanbus.writer.storage.temporary_files import new_temporary
from tests.support.scan_folders import identity, make_scan
from tests.support.trees import differences

RAW = Path("ch-1234/id00/20240131/RAW_DATA")
MASTERS = (
    RAW / "lyso-A/lyso-A_0001/lyso-A_0001.h5",
    RAW / "lyso-A/lyso-A_0002/lyso-A_0002.h5",
    RAW / "lyso-A/ch-1234_lyso-A.h5",
    RAW / "ch-1234_id00.h5",
)


def make_scans(root: Path) -> None:
    for number, dataset in ((1, "0001"), (2, "0001"), (1, "0002")):
        folder, contents = make_scan(root, number, dataset=dataset)
        write_scan_master(folder, contents)
        write_dataset_masters(root, contents.record.identity)


def numbers(root: Path, dataset: Path) -> list[int]:
    scans = KnownScans(root).list_scans(dataset, dataset)
    return [scan.scan_number for scan in scans]


def links(path: Path) -> dict[str, tuple[str, str]]:
    with h5py.File(path, "r") as file:
        found = {name: file.get(name, getlink=True) for name in file}
        assert all(file.get(name) is not None for name in file)
        return {name: (link.filename, link.path) for name, link in found.items()}


def test_every_master_links_every_entry_below_it(tmp_path: Path) -> None:
    make_scans(tmp_path)
    assert links(tmp_path / MASTERS[0]) == {
        "1.1": ("scan0001/scan0001.h5", "/scan0001_uid00000001x0001/1.1"),
        "2.1": ("scan0002/scan0002.h5", "/scan0002_uid00000002x0001/2.1"),
    }
    assert list(links(tmp_path / MASTERS[2])) == [
        "lyso_A_0001_1.1",
        "lyso_A_0001_2.1",
        "lyso_A_0002_1.1",
    ]
    assert links(tmp_path / MASTERS[3])["lyso_A_0002_1.1"] == (
        "lyso-A/lyso-A_0002/scan0001/scan0001.h5",
        "/scan0001_uid00000001x0002/1.1",
    )


def test_data_and_the_default_plot_are_reached_from_the_top(tmp_path: Path) -> None:
    make_scans(tmp_path)
    shutil.move(tmp_path / "ch-1234", tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / MASTERS[3].relative_to("ch-1234")
    with h5py.File(path, "r") as file:
        assert file.attrs["default"] == "lyso_A_0002_1.1"
        default: Any = nxdata.get_default(file)
        assert default.is_curve
        assert file["lyso_A_0001_2.1/measurement/eiger"][3, 0, 0] == 21
        assert file["lyso_A_0001_2.1/measurement/diode"][3] == 21


def test_deleted_masters_come_back_from_the_files_below(tmp_path: Path) -> None:
    make_scans(tmp_path)
    before = {path: links(tmp_path / path) for path in MASTERS}
    for path in MASTERS:
        (tmp_path / path).unlink()
    written = rebuild_masters(tmp_path)
    assert {path.relative_to(tmp_path) for path in written} == set(MASTERS)
    assert {path: links(tmp_path / path) for path in MASTERS} == before


def test_a_dataset_without_scans_has_no_master(tmp_path: Path) -> None:
    assert write_dataset_masters(tmp_path, identity()) == ()


def test_foreign_files_and_planted_links_are_not_listed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    make_scans(root)
    outside.mkdir()
    (outside / "scan0009.h5").write_bytes(b"")
    folder = dataset_folder(root, identity())
    (folder / "scan0009").symlink_to(outside)
    (folder / "scan0010").mkdir()
    (folder / "scan0010/scan0010.h5").symlink_to(outside / "scan0009.h5")
    for name in ("scan0011", "scan00012", "scans", ".scanbus"):
        (folder / name).mkdir()
    (folder / "scan00012/scan00012.h5").write_bytes(b"")
    assert numbers(root, folder) == [1, 2]


def test_links_that_stay_inside_the_root_are_followed(tmp_path: Path) -> None:
    make_scans(tmp_path)
    folder = dataset_folder(tmp_path, identity())
    elsewhere = tmp_path / "elsewhere"
    (folder / "scan0001").rename(elsewhere)
    (folder / "scan0001").symlink_to(elsewhere)
    master = folder / "scan0002/scan0002.h5"
    master.rename(tmp_path / "moved.h5")
    master.symlink_to(tmp_path / "moved.h5")
    (folder / "scan0003").mkdir()
    (folder / "scan0003/scan0003.h5").symlink_to(tmp_path / "nowhere.h5")
    (folder / "scan0004").mkdir()
    (folder / "scan0004/scan0004.h5").symlink_to(folder / "scan0004/scan0004.h5")
    (folder / "scan0005").symlink_to(folder / "scan0005")
    assert numbers(tmp_path, folder) == [1, 2]


def test_a_folder_that_somebody_named_is_linked_too(tmp_path: Path) -> None:
    make_scans(tmp_path)
    folder = dataset_folder(tmp_path, identity())
    folder.rename(folder.with_name("Größe 1"))
    rebuild_masters(tmp_path)
    found = links(tmp_path / MASTERS[-1])
    assert found["Gr__e_1_1.1"][0].endswith("/Größe 1/scan0001/scan0001.h5")


def test_a_scan_that_appears_meanwhile_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, contents = make_scan(tmp_path)
    write_scan_master(folder, contents)
    replace = replace_file
    written: list[Path] = []

    def replace_and_add(path: Path, tree: Group, *, old: Path | None = None) -> None:
        replace(path, tree, old=old)
        written.append(path)
        if len(written) == 1:
            write_scan_master(*make_scan(tmp_path, 2))

    monkeypatch.setattr(above, "replace_file", replace_and_add)
    write_dataset_masters(tmp_path, contents.record.identity)
    assert list(links(tmp_path / MASTERS[0])) == ["1.1", "2.1"]


@pytest.mark.parametrize("content", [b"no HDF5", None])
def test_somebody_elses_master_is_never_replaced(
    tmp_path: Path, content: bytes | None
) -> None:
    folder, contents = make_scan(tmp_path)
    write_scan_master(folder, contents)
    path = tmp_path / MASTERS[0]
    if content is None:
        with h5py.File(path, "w") as file:
            file.attrs["creator"] = "blissdata"
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(NameTakenError):
        write_dataset_masters(tmp_path, contents.record.identity)
    assert path.read_bytes() == before


def listed_aside(root: Path) -> UnlistedScans:
    aside = UnlistedScans(root, grace_s=0)
    aside.run()
    return aside


def add_scan(root: Path, number: int, dataset: str = "0001") -> Path:
    folder, contents = make_scan(root, number, dataset=dataset)
    write_scan_master(folder, contents)
    note_unlisted(root, contents.record.identity)
    return folder


def test_links_that_are_added_to_a_master_give_the_same_as_a_rebuild(
    tmp_path: Path,
) -> None:
    root, whole = tmp_path / "root", tmp_path / "whole"
    aside = UnlistedScans(root, grace_s=60)
    added = [(1, 2), (4, 5), (7, 8), (3, 6), (9, 10), (), (11, 12)]
    for numbers in added:
        for number in numbers:
            add_scan(root, number)
        if not numbers:
            add_scan(root, 1, dataset="0002")
        aside.run()
        aside.run()
        shutil.copytree(root, whole)
        rebuild_masters(whole)
        assert differences(whole, root) == []
        shutil.rmtree(whole)
    assert not list(root.glob(UNLISTED_GLOB))
    assert list(root.glob("**/.*.old"))


def test_a_scan_that_is_gone_leaves_the_masters_with_the_next_one(
    tmp_path: Path,
) -> None:
    aside = UnlistedScans(tmp_path, grace_s=0)
    folder = add_scan(tmp_path, 1)
    add_scan(tmp_path, 2)
    aside.run()
    shutil.rmtree(folder)
    add_scan(tmp_path, 3)
    aside.run()
    assert list(links(tmp_path / MASTERS[0])) == ["2.1", "3.1"]


def test_a_record_of_a_writer_that_died_is_taken_by_another_one(tmp_path: Path) -> None:
    add_scan(tmp_path, 1)
    (record,) = tmp_path.glob(UNLISTED_GLOB)
    said = json.loads(record.read_text())
    record.write_text(json.dumps({**said, "owner": "elsewhere:1:00"}))
    listed_aside(tmp_path)
    assert record.exists()
    UnlistedScans(tmp_path, grace_s=0, others_s=0).run()
    assert not record.exists()
    assert list(links(tmp_path / MASTERS[0])) == ["1.1"]


def test_a_record_that_cannot_be_understood_is_left_and_named(tmp_path: Path) -> None:
    add_scan(tmp_path, 1)
    bad = tmp_path / unlisted_record_path("uid00000009")
    bad.write_text("{}")
    with structlog.testing.capture_logs() as logs:
        listed_aside(tmp_path)
        listed_aside(tmp_path)
    assert [each["event"] for each in logs] == [LogEvent.SCANS_NOT_LISTED]
    assert bad.exists()
    assert list(links(tmp_path / MASTERS[0])) == ["1.1"]


def test_scans_whose_masters_above_cannot_be_written_are_named_and_listed_later(
    tmp_path: Path,
) -> None:
    add_scan(tmp_path, 1)
    (tmp_path / MASTERS[0]).write_bytes(b"no HDF5")
    (problem,) = listed_aside(tmp_path).problems
    assert MASTERS[0].name in problem
    assert "something other than HDF5" in problem
    (tmp_path / MASTERS[0]).unlink()
    assert listed_aside(tmp_path).problems == []
    assert list(links(tmp_path / MASTERS[0])) == ["1.1"]


def test_what_a_killed_writer_left_goes_after_an_hour(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path)
    old, young = folder / ".scan0001.h5.a.tmp", folder / ".scan0001.h5.b.tmp"
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    write_scan_master(folder, contents)
    assert not old.exists()
    assert young.exists()


def test_what_a_killed_process_left_beside_a_master_goes_at_once(
    tmp_path: Path,
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / "scan0001.h5"
    ours = parse_temporary(new_temporary(path).name)
    assert ours is not None
    name = f".{path.name}.{ours.host}-{{}}.00.tmp"
    others = [name.format(os.getpid()), f".{path.name}.elsewhere-{dead.pid}.00.tmp"]
    for each in (name.format(dead.pid), *others):
        (tmp_path / each).touch()

    masters.replace_file(path, Group("NXroot"))

    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, *others])
