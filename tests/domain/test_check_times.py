"""What `check_files` finds in damaged times of points."""

from __future__ import annotations

import h5py
import pytest

from scanbus.writer.check import check_files
from tests.support.written_scans import WrittenScan, write_scan


@pytest.fixture
def scan(tmp_path_factory: pytest.TempPathFactory) -> WrittenScan:
    return write_scan(tmp_path_factory.mktemp("scan"))


@pytest.mark.parametrize(
    ("name", "path"),
    [("values", "times/fast"), ("values", "times/eiger"), ("segment", "time")],
)
def test_a_flipped_bit_of_a_time_is_found(
    scan: WrittenScan, name: str, path: str
) -> None:
    file_path = scan.values if name == "values" else scan.segment(1)
    with h5py.File(file_path, "r+") as file:
        times = file[f"entry_0000/scanbus/{path}"]
        bits = times[()].view("u8")
        bits[-1] ^= 1
        times[...] = bits.view("f8")
    report = check_files([scan.master])
    (finding,) = [one for one in report.findings if one.file == str(file_path)]
    assert finding.dataset == f"/entry_0000/scanbus/{path}"
    assert "times are not what came over the bus" in finding.problem


def test_times_that_are_too_few_are_found(scan: WrittenScan) -> None:
    with h5py.File(scan.segment(1), "r+") as file:
        times = file["entry_0000/scanbus/time"]
        times.resize(len(times) - 1, axis=0)
    report = check_files([scan.master])
    assert "(11,) of float64 for 12 points" in report.findings[0].problem
