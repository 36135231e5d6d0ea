"""What readers show of a scan while it runs, and how they see its end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import EndReason
from tests.checklist.judges import ask, ask_debian
from tests.checklist.readers import reads
from tests.checklist.sample import FOLDERS
from tests.support.writers import wait_until, writer

# Programs of others start slowly on a machine that has much to do.
pytestmark = pytest.mark.timeout(400)

POINTS = np.arange(100)
SENT = 60
SPECTRA = np.multiply.outer(POINTS, np.arange(16)).astype(np.uint32)
SHAPE = (256, 256)


@dataclass
class Running:
    """A scan of which the first points are sent, and its masters."""

    scan: Scan
    master: Path
    dataset: Path

    def send(self, points: slice) -> None:
        self.scan.send("diode", POINTS[points] / 4)
        self.scan.send("mca", SPECTRA[points])
        for point in POINTS[points]:
            self.scan.send("eiger", np.full(SHAPE, point, np.uint32))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A scan that runs; its masters show what was sent."""
    root = tmp_path_factory.mktemp("running") / "data"
    with (
        PrivateRedis() as server,
        writer(server.url, root),
        Publisher(server.url) as publisher,
        publisher.scan(quota_bytes=2**22, **FOLDERS) as scan,
    ):
        scan.channel("diode", units="A")
        scan.channel("mca", role="spectrum", shape=(16,), dtype="uint32")
        scan.detector(
            "eiger", shape=SHAPE, dtype="uint32", codec="none", points_per_chunk=1
        )
        folder = root / "hg123"
        one = Running(scan, folder, folder)
        one.send(slice(0, SENT))
        scan.flush()
        (one.master,) = wait_until(lambda: [*folder.glob("**/scan0001/scan0001.h5")])
        one.dataset = one.master.parent.parent / f"{one.master.parent.parent.name}.h5"
        wait_until(lambda: _is_shown(one.master) and one.dataset.is_file())
        yield one


def _is_shown(master: Path) -> bool:
    """Say whether all small values are there, and frames of finished segments."""
    with h5py.File(master, locking=False) as file:
        shown = {name: len(values) for name, values in file["1.1/measurement"].items()}
    return shown.pop("eiger", 0) > 0 and shown == {"diode": SENT, "mca": SENT}


def assert_shown(answer: dict[str, Any], stop: int = SENT) -> None:
    assert set(answer) == {"diode", "mca", "eiger"}
    np.testing.assert_array_equal(answer["diode"], POINTS[:stop] / 4)
    np.testing.assert_array_equal(answer["mca"], SPECTRA[:stop])
    n_frames = len(answer["eiger"])
    assert n_frames == stop if stop == len(POINTS) else 0 < n_frames <= stop
    np.testing.assert_array_equal(answer["eiger"], POINTS[:n_frames] * np.prod(SHAPE))


# Of frames the sums.
READ = """
measured = File(sys.argv[1])["1.1/measurement"]
answer = {name: measured[name][()].tolist() for name in ("diode", "mca")}
answer["eiger"] = measured["eiger"][()].sum(axis=(1, 2)).tolist()
"""


@reads("h5py", running="ok")
def test_h5py_reads_a_running_scan(running: Running) -> None:
    code = f"from h5py import File{READ}"
    assert_shown(ask("h5py", code, running.dataset))


@reads("h5py with HDF5 1.10", running="ok")
def test_an_old_h5py_reads_a_running_scan(running: Running) -> None:
    code = f"from h5py import File{READ}"
    assert_shown(ask_debian(code, running.dataset))


@reads("silx", running="ok")
def test_silx_reads_a_running_scan(running: Running) -> None:
    code = f"from silx.io import open as File{READ}"
    assert_shown(ask("silx", code, running.dataset))


@reads("blissdata `static_hdf5`", running="ok")
def test_blissdata_reads_a_running_scan(running: Running) -> None:
    code = f"from blissdata.h5api.static_hdf5 import File{READ}"
    assert_shown(ask("blissdata", code, running.dataset))


DYNAMIC = """
from blissdata.h5api.dynamic_hdf5 import File
master, dataset, has_begun = sys.argv[1:]
answer = {"diode": [], "mca": [], "eiger": []}
with File(master, retry_timeout=100, retry_period=0.1) as file:
    measured = file["1.1"]["measurement"]
    for name, found in answer.items():
        for value in measured[name]:
            found.append(int(value.sum()) if name == "eiger" else value.tolist())
            open(has_begun, "w").close()
with File(dataset, retry_timeout=1, retry_period=0.1) as file:
    answer["dataset"] = [value.tolist() for value in file["/1.1/measurement/diode"]]
"""
AT_ITS_END = "ok, and ends with the scan"
WAITS = "waits for the end of an entry that it does not find: take scan masters"


@reads("blissdata `dynamic_hdf5`", values="ok", spectra="ok", frames="ok")
@reads("blissdata `dynamic_hdf5`", dataset=WAITS, running=AT_ITS_END)
def test_dynamic_hdf5_reads_to_the_end(running: Running, tmp_path: Path) -> None:
    has_begun = tmp_path / "begun"

    def go_on() -> None:
        wait_until(has_begun.exists)
        running.send(slice(SENT, None))
        running.scan.finish(EndReason.SUCCESS)

    with ThreadPoolExecutor() as threads:
        rest = threads.submit(go_on)
        answer = ask("blissdata", DYNAMIC, running.master, running.dataset, has_begun)
        rest.result()
    assert answer.pop("dataset") == []
    assert_shown(answer, len(POINTS))
