"""What `check_files` finds in ledgers that differ from the files, or cannot be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from scanbus.schemas import VerdictWord
from scanbus.writer.check import check_files
from scanbus.writer.masters.write import write_scan_master
from tests.domain.test_check_damage import OWN, hit, problems
from tests.support.written_scans import WrittenScan, write_scan


@pytest.fixture
def scan(tmp_path: Path) -> WrittenScan:
    return write_scan(tmp_path)


def test_a_verdict_that_forgets_points_is_found(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, lost=[(4, 8), (28, 30)])
    record = scan.contents.record
    assert record.verdict is not None
    ledgers = {
        name: one.model_copy(update={"missing": (), "written": one.expected})
        for name, one in record.verdict.channels.items()
    }
    record.verdict = record.verdict.model_copy(
        update={"channels": ledgers, "verdict": VerdictWord.COMPLETE}
    )
    write_scan_master(scan.folder, scan.contents)
    report = check_files([scan.master])
    assert "eiger: missing, but not by the ledger" in problems(report)
    assert "verdict complete; scan0001_values.h5: partial" in problems(report)
    assert "th: another account than in scan0001_values.h5" in problems(report)
    assert ((4, 8), (28, 30)) in hit(report)


def test_a_ledger_that_does_not_add_up_is_found(scan: WrittenScan) -> None:
    record = scan.contents.record
    assert record.verdict is not None
    eiger = record.verdict.channels["eiger"]
    wrong: tuple[dict[str, Any], ...]
    wrong = {"written": 29}, {"expected": 28, "written": 28}, {"missing": ((0, 1),)}
    sentences = (
        "counts 29 of 30",
        "30 points, the ledger expects 28",
        "missing by the ledger, but in the files",
    )
    for changes, sentence in zip(wrong, sentences, strict=True):
        channels = {"eiger": eiger.model_copy(update=changes)}
        verdict = record.verdict.model_copy(update={"channels": channels})
        contents = replace(scan.contents, record=replace(record, verdict=verdict))
        write_scan_master(scan.folder, contents)
        assert sentence in problems(check_files([scan.master]))


def test_a_ledger_beside_the_verdict_must_be_the_same(scan: WrittenScan) -> None:
    with h5py.File(scan.values, "r+") as file:
        file[OWN]["ledger"][()] = "{}"
    assert "differs from that of the verdict" in problems(check_files([scan.values]))


@pytest.mark.parametrize("name", ["verdict", "events"])
def test_words_that_cannot_be_read_are_found(scan: WrittenScan, name: str) -> None:
    with h5py.File(scan.values, "r+") as file:
        del file[OWN][name]
        file[OWN][name] = ["{"] if name == "events" else "{"
    report = check_files([scan.values])
    assert f"{OWN}/{name}: cannot be read" in problems(report)
