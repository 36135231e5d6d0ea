"""The judge sees a loss that nobody names, a name that is untrue, and a wrong word."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.faults.content import CHANNELS, n_points, points, scan_uid
from tests.faults.judge import Claim, Finding, judge_run

SEED, NUMBER, LENGTH = 7, 2, 6
TEXT = h5py.string_dtype()


def judged(
    folder: Path,
    *,
    gone: dict[str, list[int]],
    named: dict[str, list[tuple[int, int]]],
    word: str = "partial",
    least: int = LENGTH,
) -> Finding:
    """Judge a scan in which some points are fill values and some are named missing."""
    scan = folder / f"scan{NUMBER:04d}"
    scan.mkdir()
    with h5py.File(scan / f"scan{NUMBER:04d}.h5", "w") as file:
        entry = file.create_group(f"{NUMBER}.1")
        for name in CHANNELS:
            rows = points(SEED, NUMBER, name, 0, n_points(LENGTH, name))
            for point in gone.get(name, ()):
                rows[point] = "" if isinstance(rows, list) else 0
            kind = {"dtype": TEXT} if isinstance(rows, list) else {}
            entry.create_dataset(f"measurement/{name}", data=rows, **kind)
        own = entry.create_group("scanbus")
        own["uid"] = scan_uid(SEED, NUMBER)
        own["verdict"], own["reason"], own["provisional"] = word, "a reason", False
        ledger = own.create_group("ledger")
        ledger["channel"] = list(CHANNELS)
        ledger["expected"] = [n_points(LENGTH, name) for name in CHANNELS]
        for name, ranges in named.items():
            ledger[f"missing/{name}"] = np.array(ranges)
    claim = Claim(False, word, least=dict.fromkeys(CHANNELS, least), named=True)
    return judge_run(folder, SEED, LENGTH, {NUMBER: claim})[NUMBER]


def test_a_loss_that_is_named_is_no_fault(tmp_path: Path) -> None:
    found = judged(tmp_path, gone={"eiger": [3, 4]}, named={"eiger": [(3, 5)]})
    assert found.is_clean, found


def test_a_loss_that_is_not_named_is_one(tmp_path: Path) -> None:
    found = judged(tmp_path, gone={"eiger": [3, 4]}, named={"eiger": [(3, 4)]})
    assert (found.lost, found.wrong_verdicts) == (1, 0)
    assert found.notes == ["eiger: 1 lost unnamed, first 4"]


@pytest.mark.parametrize("channel", ["i0", "fast"])
def test_a_named_loss_that_is_none_is_a_wrong_verdict(
    tmp_path: Path, channel: str
) -> None:
    found = judged(tmp_path, gone={}, named={channel: [(2, 3)]})
    assert (found.lost, found.wrong_verdicts) == (0, 1)


def test_missing_points_under_complete_are_a_wrong_verdict(tmp_path: Path) -> None:
    gone, named = {"mca": [0]}, {"mca": [(0, 1)]}
    found = judged(tmp_path, gone=gone, named=named, word="complete")
    assert found.wrong_verdicts == 1


def write_part(
    root: Path, number: int, uid: str, part: tuple[int, int], parent: str = ""
) -> None:
    """Write the master of a scan that has the points of a part of it."""
    first, length = part
    folder = root / f"scan{number:04d}"
    folder.mkdir()
    with h5py.File(folder / f"scan{number:04d}.h5", "w") as file:
        entry = file.create_group(f"{number}.1")
        own = entry.create_group("scanbus")
        ledger = own.create_group("ledger")
        ledger["channel"] = list(CHANNELS)
        ends = [n_points(length, name) for name in CHANNELS]
        ledger["expected"] = ends
        ledger["written"] = [n_points(length - first, name) for name in CHANNELS]
        for name, end in zip(CHANNELS, ends, strict=True):
            rows = points(SEED, NUMBER, name, 0, end)
            begin = n_points(first, name)
            for point in range(begin):
                rows[point] = "" if isinstance(rows, list) else 0
            kind = {"dtype": TEXT} if isinstance(rows, list) else {}
            entry.create_dataset(f"measurement/{name}", data=rows, **kind)
            if begin:
                ledger[f"missing/{name}"] = np.array([(0, begin)])
        own["uid"], own["provisional"], own["reason"] = uid, False, "a reason"
        own["verdict"] = "partial" if first else "complete"
        if parent:
            own["parent"] = parent


def judged_together(
    root: Path,
    parent: tuple[int, int],
    child: tuple[int, int],
    *,
    closed: bool = True,
    other: str = "",
) -> Finding:
    uid = scan_uid(SEED, NUMBER)
    write_part(root, 5, uid, parent)
    write_part(root, 9, "child", child, parent=other or uid)
    claim = Claim(ended=True, said="complete")
    uids = {uid} if closed else set()
    findings = judge_run(root, SEED, LENGTH, {NUMBER: claim}, closed=uids)
    assert bool(findings[0].notes) is bool(other)
    return findings[NUMBER]


@pytest.mark.parametrize("reached", [0, 2, 5])
def test_a_closed_scan_and_its_child_must_have_all_together(
    tmp_path: Path, reached: int
) -> None:
    found = judged_together(tmp_path, (0, reached), (reached, LENGTH))
    assert found.is_clean, found


def test_points_between_a_closed_scan_and_its_child_are_lost(tmp_path: Path) -> None:
    found = judged_together(tmp_path, (0, 2), (4, LENGTH))
    assert found.lost == 2 * 6 + 4
    assert found.notes[0] == "th: 2 in no scan, first 2"


def test_points_behind_a_child_are_lost(tmp_path: Path) -> None:
    found = judged_together(tmp_path, (0, 2), (2, LENGTH - 1))
    assert found.lost == 6 + 2


def test_points_in_both_are_doubled(tmp_path: Path) -> None:
    found = judged_together(tmp_path, (0, 4), (3, LENGTH))
    assert found.doubled == 6 + 2


def test_a_scan_that_nobody_closed_has_no_child(tmp_path: Path) -> None:
    found = judged_together(tmp_path, (0, 2), (2, LENGTH), closed=False)
    assert "was never closed" in found.notes[0]


def test_a_child_of_no_scan_is_no_scan_of_ours(tmp_path: Path) -> None:
    found = judged_together(tmp_path, (0, 2), (2, LENGTH), other="nobody")
    assert found.lost


def test_a_file_of_somebody_else_must_stay_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "scan0003").mkdir()
    path = tmp_path / "scan0003/scan0003.h5"
    path.write_bytes(b"theirs")
    assert judge_run(tmp_path, SEED, LENGTH, {}, foreign={path: b"theirs"})[0].is_clean
    assert judge_run(tmp_path, SEED, LENGTH, {}, foreign={path: b"other"})[0].notes
