"""Odd datasets: what one of them says keeps ICAT from no other."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from scanbus.schemas.errors import IcatMessageError
from scanbus.writer import icat_from_nexus, send_dataset
from tests.support.icat import write_finished_scan


@pytest.mark.parametrize("units", ["9**9**9", "10**10**10", "9^9^9^9"])
def test_units_that_nobody_can_compute_are_named(units: str) -> None:
    source = {"current": 192.5, "current@units": units}
    found = icat_from_nexus({"instrument": {"source": source}})
    assert "InstrumentSource_current" not in found.values
    assert any("instrument/source/current" in each for each in found.problems)


@pytest.mark.parametrize(
    "times",
    [
        {"start_time": "0001-01-01T00:00:00+12:00"},
        {"end_time": "9999-12-31T23:59:59-12:00"},
        {"start_time": "2024-01-01T00:00:00Z", "end_time": "2020-01-01T00:00:00Z"},
        {"start_time": "9999-01-01T00:00:00Z"},
    ],
)
def test_times_that_cannot_be_are_those_of_the_events(
    tmp_path: Path, times: dict[str, Any]
) -> None:
    dataset = write_finished_scan(tmp_path, metadata=times)
    send_dataset(dataset, [])
    (kept,) = dataset.parent.parent.joinpath("__icat__").glob("*.xml")
    text = kept.read_text()
    start, end = (
        datetime.fromisoformat(text.partition(f"{name}>")[2].partition("<")[0])
        for name in ("startDate", "endDate")
    )
    assert start <= end
    assert end.year < 9000


def test_a_link_to_a_dataset_is_no_dataset(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    link = dataset.with_name("lyso_0002")
    link.symlink_to(dataset)
    with pytest.raises(IcatMessageError, match="symbolic link"):
        send_dataset(link, [])
