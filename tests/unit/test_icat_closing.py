"""When a dataset is closed."""

from __future__ import annotations

from pathlib import Path

from scanbus.writer.icat.closing import closed_datasets
from scanbus.writer.icat.contents import Activity, DatasetPlace

NOW_S = 10_000.0
IDLE_S = 600.0
ROOT = Path("/data")


def place(dataset: str, proposal: str = "hg1", beamline: str = "id00") -> DatasetPlace:
    folder = ROOT / proposal / beamline / "20240131/RAW_DATA/lyso" / f"lyso_{dataset}"
    return DatasetPlace(ROOT, folder, proposal, beamline, "20240131", "lyso", dataset)


def closed(activities: dict[DatasetPlace, Activity]) -> list[str]:
    found = closed_datasets(activities, now_s=NOW_S, idle_s=IDLE_S)
    return [each.dataset for each in found]


def recent(began_s: float, *unfinished: str, n_finished: int = 1) -> Activity:
    return Activity(n_finished, began_s, NOW_S - 5, unfinished)


def test_the_latest_dataset_stays_open() -> None:
    assert closed({place("1"): recent(1.0)}) == []


def test_one_is_closed_when_a_scan_of_another_begins() -> None:
    found = closed({place("1"): recent(1.0), place("2"): recent(2.0)})
    assert found == ["1"]


def test_a_scan_that_goes_on_closes_the_dataset_before() -> None:
    running = recent(2.0, "scan 1", n_finished=0)
    assert closed({place("1"): recent(1.0), place("2"): running}) == ["1"]


def test_one_with_scans_that_are_written_is_open_whatever_comes() -> None:
    found = closed({place("1"): recent(1.0, "scan 2"), place("2"): recent(2.0)})
    assert found == []


def test_other_proposals_and_other_beamlines_close_nothing() -> None:
    found = closed(
        {
            place("1"): recent(1.0),
            place("2", proposal="hg2"): recent(2.0),
            place("3", beamline="id01"): recent(3.0),
        }
    )
    assert found == []


def test_nothing_new_for_the_idle_time_closes_it() -> None:
    idle = Activity(1, 1.0, NOW_S - IDLE_S)
    assert closed({place("1"): idle}) == ["1"]


def test_an_interrupted_scan_keeps_it_open_beyond_the_idle_time() -> None:
    idle = Activity(1, 1.0, NOW_S - IDLE_S, ("scan 2",))
    assert closed({place("1"): idle}) == []


def test_a_dataset_without_a_finished_scan_is_never_closed() -> None:
    assert closed({place("1"): Activity(), place("2"): recent(2.0)}) == []


def test_those_that_began_first_come_first() -> None:
    found = closed({place(str(9 - n)): recent(float(n)) for n in range(4)})
    assert found == ["9", "8", "7"]
