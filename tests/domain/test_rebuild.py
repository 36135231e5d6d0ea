"""Masters from the disk alone: deleting all of them loses nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import pytest

from scanbus.cli import main
from scanbus.schemas.errors import NameTakenError, RootUnusableError
from scanbus.schemas.file_names import parse_segment_file
from scanbus.writer import rebuild
from scanbus.writer.masters.above import write_dataset_masters
from scanbus.writer.masters.rebuild import read_contents
from scanbus.writer.masters.write import write_scan_master
from tests.support.trees import differences
from tests.support.written_scans import WrittenScan, frame_lane, write_scan

OTHER = "fedcba9876543210"


def masters_of(root: Path) -> list[Path]:
    """Everything that is neither a scan file nor a segment."""
    return [
        path
        for path in root.rglob("*.h5")
        if not path.name.endswith("_values.h5")
        and getattr(parse_segment_file(path.name), "lane", "") != "eiger"
    ]


def copied(scan: WrittenScan) -> Path:
    """Return a copy of all files, to compare with."""
    before = scan.root.with_name("before")
    shutil.copytree(scan.root, before)
    return before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("lost", "copied_bytes"), [([], 0), ([(3, 9), (24, 30)], 1000), ([], 2**20)]
)
def test_masters_that_were_deleted_come_back_as_they_were(
    root: Path, lost: list[tuple[int, int]], copied_bytes: int
) -> None:
    scan = write_scan(root, lost=lost, copied_bytes=copied_bytes)
    write_scan(root, number=2, uid=OTHER)
    before = copied(scan)
    deleted = masters_of(root)
    assert len(deleted) == 5
    for path in deleted:
        path.unlink()

    report = rebuild(root)

    assert set(report.masters) == set(deleted)
    assert report.skipped == ()
    assert report.exit_code == 0
    assert differences(before, root) == []


def test_a_title_and_problems_that_only_the_bus_had_are_in_the_scan_file(
    root: Path,
) -> None:
    scan = write_scan(root)
    record = scan.contents.record
    record.title = "said by the announcement alone"
    record.problems.append("event 5-0: no JSON")
    _write_again(scan)
    before = copied(scan)
    scan.master.unlink()

    rebuild(root)

    assert differences(before, root) == []


def _write_again(scan: WrittenScan) -> None:
    from scanbus.writer.storage.scan_file import write_scan_file

    record = scan.contents.record
    assert record.verdict is not None
    scan.values.unlink()
    write_scan_file(scan.values, record, {}, {}, record.verdict)
    write_scan_master(scan.folder, scan.contents)
    write_dataset_masters(scan.root, scan.identity)


def test_a_scan_without_a_scan_file_is_left_alone_and_said_so(root: Path) -> None:
    scan = write_scan(root)
    scan.values.unlink()
    stamp = scan.master.stat().st_mtime_ns

    report = rebuild(root)

    assert scan.master.stat().st_mtime_ns == stamp
    assert [one.scan for one in report.skipped] == [str(scan.folder)]
    assert "still being written" in report.skipped[0].reason
    assert report.exit_code == 0


def test_a_missing_segment_does_not_make_the_scan_shorter(root: Path) -> None:
    damaged, whole = write_scan(root), write_scan(root, number=2, uid=OTHER)
    damaged.segment(1).unlink()
    stamp = damaged.master.stat().st_mtime_ns

    report = rebuild(root)

    assert damaged.master.stat().st_mtime_ns == stamp
    assert whole.master in report.masters
    (skipped,) = report.skipped
    assert "eiger_0001.h5" in skipped.reason
    assert report.exit_code == 2


def test_missing_points_at_the_end_need_no_segment(root: Path) -> None:
    scan = write_scan(root, [frame_lane()], lost=[(24, 30)])
    scan.segment(2).unlink()
    assert rebuild(root).skipped == ()


def test_a_damaged_scan_file_and_a_foreign_segment_are_named(root: Path) -> None:
    first, second = write_scan(root), write_scan(root, number=2, uid=OTHER)
    first.values.write_bytes(b"no file")
    shutil.copy(first.segment(0), second.segment(0))

    report = rebuild(root)

    reasons = [one.reason for one in report.skipped]
    assert [one.is_damaged for one in report.skipped] == [True, True]
    assert "no scan file" in reasons[0]
    assert first.identity.uid in reasons[1]


@pytest.mark.parametrize("kind", ["external", "virtual"])
def test_values_that_stand_in_other_files_are_not_taken_into_a_master(
    root: Path, kind: str
) -> None:
    scan = write_scan(root)
    secret = root.with_name("secret")
    secret.write_bytes(bytes(range(200)))
    with h5py.File(scan.values, "r+") as file:
        data = file["entry_0000/measurement"]
        name = next(iter(data))
        del data[name]
        if kind == "external":
            data.create_dataset(name, (8,), "u1", external=[(str(secret), 0, 8)])
        else:
            layout = h5py.VirtualLayout((8,), "u1")
            layout[:] = h5py.VirtualSource(str(secret), "x", (8,))
            data.create_virtual_dataset(name, layout)
    before = scan.master.read_bytes()

    report = rebuild(root)

    (skipped,) = report.skipped
    assert "is in other files" in skipped.reason
    assert scan.master.read_bytes() == before


def test_a_scan_file_of_another_number_is_no_scan_file_here(root: Path) -> None:
    scan = write_scan(root)
    moved = scan.folder.with_name("scan0005")
    shutil.copytree(scan.folder, moved)
    (moved / scan.values.name).rename(moved / "scan0005_values.h5")

    (skipped,) = rebuild(root).skipped

    assert "scan number 1" in skipped.reason


def test_what_scanbus_did_not_write_is_not_replaced(root: Path) -> None:
    scan = write_scan(root)
    scan.dataset.write_bytes(b"somebody's notes")
    with pytest.raises(NameTakenError):
        rebuild(root)
    assert scan.dataset.read_bytes() == b"somebody's notes"


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RootUnusableError, match="no such folder"):
        rebuild(tmp_path / "gone")


def test_links_out_of_the_root_are_not_followed(root: Path, tmp_path: Path) -> None:
    outside = write_scan(tmp_path / "outside")
    inside = write_scan(root)
    (inside.folder.with_name("scan0007")).symlink_to(outside.folder)
    report = rebuild(root)
    assert report.skipped == ()
    assert len([one for one in report.masters if "scan0" in str(one)]) == 1


def test_progress_is_told(root: Path) -> None:
    write_scan(root)
    said: list[tuple[str, int, int | None]] = []
    rebuild(root, progress=lambda *told: said.append(told))
    assert said == [("scans", 1, 1)]


def test_the_command_says_what_it_did(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_scan(root)
    write_scan(root, number=2, uid=OTHER).values.unlink()

    assert main(["master", "rebuild", "--root", str(root), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert str(scan.master) in said["masters"]
    assert [one["is_damaged"] for one in said["skipped"]] == [False]

    assert main(["master", "rebuild", "--root", str(root)]) == 0
    printed = capsys.readouterr()
    assert "4 masters written" in printed.out
    assert "no scan file" in printed.err


def test_a_folder_that_is_not_named_after_a_scan_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not named as the folder of a scan"):
        read_contents(tmp_path)
