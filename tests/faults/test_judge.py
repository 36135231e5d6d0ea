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
