"""What `check_files` says of files that are as they should be, and how far it looks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.schemas import EndReason
from scanbus.writer.check import CheckReport, Finding, check_files
from scanbus.writer.check.sampling import sampled
from scanbus.writer.masters.above import write_dataset_masters
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.ledger import judge
from tests.support.written_scans import (
    WrittenScan,
    entries_of,
    frame_lane,
    value_lane,
    write_scan,
    write_segments,
)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> WrittenScan:
    return write_scan(tmp_path_factory.mktemp("scan"))


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("start", ["master", "dataset", "proposal"])
def test_an_intact_scan_is_fine_from_every_master(
    scan: WrittenScan, start: str, everything: bool
) -> None:
    report = check_files([getattr(scan, start)], everything=everything)
    assert report.findings == ()
    assert report.notes == ()
    assert report.ok
    assert report.exit_code == 0
    assert report.n_vds_sources == 3
    assert report.n_chunks == report.n_chunks_checked == 8
    assert report.n_entries == report.n_entries_checked == 10
    assert report.n_files == (5 if start == "master" else 6)


def test_a_moved_tree_is_still_fine(scan: WrittenScan, tmp_path: Path) -> None:
    shutil.copytree(scan.root, tmp_path / "moved")
    moved = replace(scan, root=tmp_path / "moved")
    assert check_files([moved.proposal]).ok


def test_files_that_are_asked_for_twice_are_visited_once(scan: WrittenScan) -> None:
    paths = [scan.segment(0), scan.master, scan.values, scan.segment(0)]
    report = check_files(paths)
    assert report.ok
    assert report.n_files == 5


def test_value_segments_are_checked_too(tmp_path: Path) -> None:
    lane = value_lane()
    entries = entries_of(lane, 30)[:6] + entries_of(lane, 30)[7:]
    write_segments(tmp_path, "0123456789abcdef", lane, entries, n_points=30)
    report = check_files(sorted(tmp_path.glob("*.h5")), everything=True)
    assert report.findings == ()
    assert report.n_entries_checked == 9


def test_a_partial_scan_is_noted_but_sound(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, lost=[(4, 8), (16, 30)])
    report = check_files([scan.master], everything=True)
    assert report.findings == ()
    assert len(report.notes) == 2
    assert all("partial" in note and "missing" in note for note in report.notes)
    assert report.exit_code == 0


def test_a_provisional_verdict_is_noted_and_not_held_against_the_files(
    tmp_path: Path,
) -> None:
    scan = write_scan(tmp_path)
    record = scan.contents.record
    record.verdict = judge(
        record.uid, {}, end_reason=EndReason.SUCCESS, master="", provisional=True
    )
    write_scan_master(scan.folder, scan.contents)
    report = check_files([scan.master])
    assert report.findings == ()
    assert any("provisional" in note for note in report.notes)


def test_a_scan_that_still_runs_is_fine(tmp_path: Path) -> None:
    scan = write_scan(tmp_path)
    scan.values.unlink()
    scan.contents.record.verdict = None
    write_scan_master(scan.folder, replace(scan.contents, values_file=None))
    report = check_files([scan.master])
    assert report.findings == ()
    assert any("no final verdict" in note for note in report.notes)


def test_other_hdf5_files_are_followed_and_said_to_have_no_checksums(
    tmp_path: Path,
) -> None:
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["data"] = np.arange(12).reshape(4, 3)
    layout = h5py.VirtualLayout((8, 3), "i8")
    layout[2:6] = h5py.VirtualSource("source.h5", "data", (4, 3))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_virtual_dataset("joined", layout)
        file["linked"] = h5py.ExternalLink("source.h5", "/data")
        file["again"] = h5py.SoftLink("/linked")
        file["itself"] = file["/"]
    report = check_files([tmp_path / "other.h5"])
    assert report.findings == ()
    assert report.n_files == 2
    assert any("no checksums" in note for note in report.notes)
    assert any("((0, 2), (6, 8))" in note for note in report.notes)


def test_what_stands_elsewhere_is_checked_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["data"] = 1
    with h5py.File(tmp_path / "inside" / "a.h5", "w") as file:
        file["data"] = h5py.ExternalLink("../outside.h5", "/data")
    report = check_files([tmp_path / "inside" / "a.h5"])
    assert report.ok
    assert report.n_files == 2
    assert any("outside of the folder" in note for note in report.notes)


def test_files_that_link_one_another_in_a_circle_are_visited_once(
    tmp_path: Path,
) -> None:
    for name, other in (("a.h5", "b.h5"), ("b.h5", "a.h5")):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = 1
            file["link"] = h5py.ExternalLink(other, "/data")
            file["all"] = h5py.ExternalLink(other, "/")
    report = check_files([tmp_path / "a.h5"])
    assert report.findings == ()
    assert report.n_files == 2


def test_a_sample_has_the_first_and_last_chunk_and_at_least_twenty(
    tmp_path: Path,
) -> None:
    lane = frame_lane(per_segment=1000, per_chunk=1)
    scan = write_scan(tmp_path, [lane], n_points=2300)
    report = check_files([scan.master])
    assert report.ok
    assert report.n_chunks == 2300
    assert 23 <= report.n_chunks_checked <= 26
    assert check_files([scan.master]) == report
    assert check_files([scan.master], everything=True).n_chunks_checked == 2300


@given(st.integers(0, 30_000), st.text(max_size=8))
def test_samples_are_spread_and_the_same_each_time(n_items: int, seed: str) -> None:
    picked = sampled(n_items, seed)
    assert picked == sampled(n_items, seed)
    assert picked == sorted(set(picked))
    assert len(picked) >= min(n_items, 20)
    assert len(picked) >= n_items / 100
    if n_items:
        assert (picked[0], picked[-1]) == (0, n_items - 1)
    assert sampled(n_items, seed, everything=True) == list(range(n_items))


def test_progress_names_the_files(scan: WrittenScan) -> None:
    said: list[tuple[str, int, int | None]] = []

    def progress(file: str, done: int, total: int | None) -> None:
        said.append((file, done, total))

    check_files([scan.master], progress=progress)
    assert {Path(file).name for file, _, _ in said} >= {
        scan.master.name,
        scan.values.name,
        scan.segment(2).name,
    }
    assert all(total is None or done < total for _, done, total in said)


def test_a_report_is_json() -> None:
    finding = Finding("a.h5", "/data", "broken", ((3, 5),))
    report = CheckReport(findings=(finding,), n_files=1)
    found = json.loads(report.to_json())
    assert not found["ok"]
    assert found["findings"][0]["points"] == [[3, 5]]
    assert report.exit_code == 2
    assert CheckReport(unreadable=("a.h5",)).exit_code == 3


def test_two_scans_of_a_dataset_are_both_checked(tmp_path: Path) -> None:
    one = write_scan(tmp_path)
    write_scan(tmp_path, number=2, uid="anotherscan2")
    write_dataset_masters(tmp_path, one.identity)
    report = check_files([one.dataset])
    assert report.findings == ()
    assert report.n_chunks_checked == 16
