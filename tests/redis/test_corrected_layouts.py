"""Files of layouts follow corrections of metadata, and rebuilds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import pytest

from scanbus.publisher.gateways.files import publish_files
from scanbus.writer import WriterSettings, amend, check_files, rebuild, run_writer
from tests.support.headered_images import written_cbf
from tests.support.roots import made_root
from tests.support.trees import differences
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis

PAIR = ("scan0001_master.h5", "scan0001.nxs")
# What the headers of these files leave out.
REST: dict[str, Any] = {
    "instrument/pilatus3_6m/beam_center_x": 30.5,
    "instrument/pilatus3_6m/beam_center_y": 31.5,
    "instrument/pilatus3_6m/sensor_material": "Si",
    "instrument/pilatus3_6m/sensor_thickness": 0.00045,
    "instrument/pilatus3_6m/sensor_thickness@units": "m",
}


@pytest.fixture
def folder(redis_url: str, tmp_path: Path) -> Path:
    """Return the folder of a scan whose headers lack half of what NXmx requires."""
    files = [tmp_path / f"run_{number}.cbf" for number in range(4)]
    for number, path in enumerate(files):
        written_cbf(number, path)
    publish_files(redis_url, files, layouts=("nxmx",), time_zone="+02:00")
    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path / "root"))
    run_writer(settings, once=True)
    return found_below(tmp_path / "root", "scan0001.h5")[0].parent


def test_a_correction_completes_a_definition(folder: Path) -> None:
    for name in PAIR:
        with h5py.File(folder / name) as file:
            assert "definition" not in file["entry"]
            lacks = set(file.attrs["scanbus_missing"])
        assert lacks == {key for key in REST if "@" not in key}
    # What is missing is named by the path that sets it.
    done = amend(folder, REST, reason="from the logbook", author="me@here")
    assert not [note for note in done.notes if "no definition" in note]
    for name in PAIR:
        with h5py.File(folder / name) as file:
            assert file["entry/definition"].asstr()[()] == "NXmx"
            assert "scanbus_missing" not in file.attrs
            assert file["entry/instrument/detector/beam_center_x"][()] == 30.5
    assert check_files([folder], everything=True).findings == ()


def test_a_rebuild_makes_the_same_pair_again(folder: Path, tmp_path: Path) -> None:
    amend(folder, REST, reason="from the logbook", author="me@here")
    root, before = tmp_path / "root", tmp_path / "before"
    shutil.copytree(root, before)
    for name in PAIR:
        (folder / name).unlink()
    assert rebuild(root).skipped == ()
    assert all((folder / name).is_file() for name in PAIR)
    assert differences(before, root) == []


def test_a_check_knows_and_reads_both_files(folder: Path) -> None:
    (folder / "scan0001_by_hand.h5").write_bytes((folder / "scan0001.h5").read_bytes())
    report = check_files([folder])
    assert report.ok
    (said,) = [note for note in report.notes if "not files of the scan" in note]
    assert said.endswith(": scan0001_by_hand.h5")
    for name in PAIR:
        with (folder / name).open("r+b") as file:
            file.truncate(1000)
    found = {Path(each.file).name for each in check_files([folder]).findings}
    assert found == set(PAIR)
