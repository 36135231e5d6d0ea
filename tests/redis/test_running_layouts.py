"""Files of layouts grow with their scan, and survive what kills the writer."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.schemas import VerdictWord
from scanbus.schemas.file_names import scan_master_path
from scanbus.writer import check_files, rebuild
from tests.redis.test_many_segments import config
from tests.support.onlooking import Looking
from tests.support.raw_publisher import RawScan, frames
from tests.support.trees import differences
from tests.support.waiting import found_below, wait_until
from tests.support.writers import WriterProcess, final_verdict, writer

pytestmark = pytest.mark.redis
FAST: dict[str, float | list[str]] = {"master_s": 0.3, "lease_s": 1, "grace_s": 600}
FAST["layouts"] = ["nxmx"]


def send_frames(scan: RawScan, stop: int) -> None:
    while scan.reached["eiger"] < stop:
        first = scan.reached["eiger"]
        scan.send_group(first, first + 4)
        scan.send_frames(first, first + 4)


def mapped(folder: Path) -> int:
    """Return how many frames ``.nxs`` has, after a look at all of them."""
    with h5py.File(folder / "scan0001.nxs", locking=False) as file:
        data = file["entry/data"].get("data")
        if data is None:
            return 0
        np.testing.assert_array_equal(data[()], frames(0, len(data)))
        return len(data)


def linked(folder: Path) -> int:
    """Return how many frames the files have that ``_master.h5`` links."""
    with h5py.File(folder / "scan0001_master.h5", locking=False) as file:
        found = [part[()] for part in file["entry/data"].values()]
        specific = file["entry/instrument/detector/detectorSpecific"]
        assert specific["nimages"][()] * specific["ntrigger"][()] == sum(
            map(len, found)
        )
    if not found:
        return 0
    joined = np.concatenate(found)
    np.testing.assert_array_equal(joined, frames(0, len(joined)))
    return len(joined)


class Onlooker(Looking):
    """A reader of both files, which never have fewer frames than before."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.most = 0

    @property
    def is_blind(self) -> bool:
        """Whether it has seen a fault, and looks no more."""
        return self.fault is not None

    def look(self) -> None:
        if (self._folder / "scan0001.nxs").exists():
            found = mapped(self._folder)
            assert found >= self.most, f"{found} frames, {self.most} before"
            self.most = found
            linked(self._folder)


def test_both_files_grow_with_the_scan(redis_url: str, tmp_path: Path) -> None:
    scan = RawScan(redis_url).prepare()
    root = tmp_path / "root"
    folder = (root / scan_master_path(scan.identity)).parent
    nxs = folder / "scan0001.nxs"
    with writer(redis_url, root, *config(tmp_path, **FAST)):
        for stop in (20, 60):
            send_frames(scan, stop)
            wait_until(lambda: nxs.exists() and mapped(folder) == stop)  # noqa: B023
            assert linked(folder) == stop
        with h5py.File(nxs, locking=False) as file:
            assert "end_time_estimated" in file["entry"]
            assert "end_time" not in file["entry"]
        send_frames(scan, 72)
        scan.end()
        verdict = final_verdict(redis_url, scan.uid)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert mapped(folder) == linked(folder) == 72
    assert any("4 share a chunk" in note for note in verdict.notes)
    assert any("instrument/beam/incident_wavelength" in note for note in verdict.notes)
    with h5py.File(nxs) as file:
        assert "definition" not in file["entry"]
        assert "end_time" in file["entry"]
    assert check_files([folder]).ok


def test_files_of_layouts_survive_writers_that_are_killed(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url, heartbeat_s=600).prepare()
    root = tmp_path / "root"
    folder = (root / scan_master_path(scan.identity)).parent
    options = config(tmp_path, **FAST)
    onlooker = Onlooker(folder)
    with onlooker.looking():
        for round_number in range(1, 5):
            process = WriterProcess(redis_url, root, *options)
            send_frames(scan, 20 * round_number)
            wanted = 20 * (round_number - 1)
            wait_until(lambda: onlooker.most >= wanted or onlooker.is_blind)  # noqa: B023
            process.close()  # It kills it.
        scan.end()
        with writer(redis_url, root, *options):
            verdict = final_verdict(redis_url, scan.uid)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert mapped(folder) == linked(folder) == 80
    assert not [each.name for each in folder.iterdir() if each.suffix == ".tmp"]


def test_a_rebuild_makes_the_same_files(redis_url: str, tmp_path: Path) -> None:
    scan = RawScan(redis_url).prepare()
    root = tmp_path / "root"
    with writer(redis_url, root, *config(tmp_path, **FAST)):
        send_frames(scan, 40)
        scan.end()
        final_verdict(redis_url, scan.uid)
    again = tmp_path / "again"
    shutil.copytree(root, again)
    for name in ("scan0001.h5", "scan0001.nxs", "scan0001_master.h5"):
        found_below(again, name)[0].unlink()
    assert not rebuild(again).skipped
    assert differences(root, again) == []
