"""The main job, end to end: publisher, Redis, writer and files as users have them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabio
import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
from silx.io.nxdata.parse import get_default

from scanbus.bus.store import connect, writers_alive
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import Verdict, VerdictWord
from scanbus.subscriber import Subscriber
from scanbus.writer import check_files, replay
from tests.support.checklist import check_file
from tests.support.trees import differences, files_of
from tests.support.waiting import found_below
from tests.support.writers import wait_until, writer

N_POINTS = 1000
COUNTERS = tuple(f"ct{number}" for number in range(10))


def mixed_data() -> dict[str, Any]:
    """What a scan of every kind of channel sends, by channel."""
    rng = np.random.default_rng(7)
    data: dict[str, Any] = {
        "th": np.linspace(0, 10, N_POINTS),
        "tth": np.linspace(0, 20, N_POINTS),
        **{name: rng.normal(size=N_POINTS) for name in COUNTERS},
        "mca": rng.poisson(20, (N_POINTS, 4096)).astype(np.uint32),
        "hits": [rng.normal(size=n % 9).astype(np.float32) for n in range(N_POINTS)],
        "label": [f"punkt {n} µm" for n in range(N_POINTS)],
        "fast": rng.poisson(2, (N_POINTS, 64, 48)).astype(np.uint16),
        "slow": rng.integers(-2, 2**20, (N_POINTS // 2, 96, 64)).astype(np.int32),
    }
    return data


def publish(url: str, data: dict[str, Any]) -> tuple[str, Verdict]:
    with Publisher(url, name="acceptance") as publisher:
        with publisher.scan(
            title="a2scan th 0 10 tth 0 20 999 0.1",
            proposal="hg123",
            beamline="id00",
            collection="sample",
            dataset="0001",
            scan_number=1,
            instrument="a diffractometer",
            metadata={"sample": {"name": "quartz"}},
            positioners={"th": 0.0, "phi": 3.5},
            require_writer=True,
        ) as scan:
            scan.channel("th", units="deg", role="axis", group="scan")
            scan.channel("tth", units="deg", role="axis", group="scan")
            for name in COUNTERS:
                scan.channel(name, group="scan")
            scan.channel(
                "mca", role="spectrum", dtype="uint32", shape=(4096,), group="scan"
            )
            scan.channel("hits", dtype="float32", shape=(-1,), max_point_bytes=64)
            scan.channel("label", dtype="string", max_point_bytes=32)
            scan.detector("fast", shape=(64, 48), dtype="uint16")
            scan.detector("slow", shape=(96, 64), dtype="int32")
            for n in range(N_POINTS):
                for name in data:
                    if name != "slow":
                        one = data[name][n]
                        scan.send(name, [one] if name == "hits" else one)
                    elif n % 2 == 0:
                        scan.send("slow", data["slow"][n // 2])
                if n == 500:
                    scan.update(metadata={"sample": {"temperature": 20.5}}, note="half")
        verdict = scan.verdict(60.0)
    return scan.uid, verdict


Written = tuple[Path, str, str, Verdict, dict[str, Any]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """A scan written while it was sent: root, bus, uid, verdict, what was sent."""
    root, data = tmp_path_factory.mktemp("root"), mixed_data()
    with PrivateRedis() as server:  # On the shared one are scans of other tests.
        with writer(server.url, root) as one:
            wait_for_writer(server.url)
            uid, verdict = publish(server.url, data)
            assert one.leave() == 0
        yield root, server.url, uid, verdict, data


def wait_for_writer(url: str) -> None:
    with connect(url, name="test") as client:
        wait_until(lambda: writers_alive(client))


def test_every_channel_of_a_mixed_scan_is_in_the_file_as_it_was_sent(
    written: Written,
) -> None:
    root, _, _, verdict, data = written

    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(root / verdict.master) as file:
        measurement = file["1.1/measurement"]
        assert set(measurement) >= set(data) - {"hits"}
        for name in ("th", "tth", *COUNTERS, "mca", "fast", "slow"):
            np.testing.assert_array_equal(measurement[name][()], data[name], name)
            assert measurement[name].dtype == data[name].dtype
        assert list(measurement["label"].asstr()[()]) == data["label"]
        padded = measurement["hits"][()]
        for n, points in enumerate(data["hits"]):
            np.testing.assert_array_equal(padded[n, : len(points)], points)
            assert np.isnan(padded[n, len(points) :]).all()


def test_metadata_on_the_way_notes_and_positioners_are_in_the_file(
    written: Written,
) -> None:
    root, _, _, verdict, data = written

    with h5py.File(root / verdict.master) as file:
        entry = file["1.1"]
        assert entry["sample/name"].asstr()[()] == "quartz"
        assert entry["sample/temperature"][()] == 20.5
        assert entry["notes/note_01/data"].asstr()[()] == "half"
        assert entry["instrument/positioners_start/phi"][()] == 3.5
        np.testing.assert_array_equal(entry["instrument/positioners/th"], data["th"])


def test_silx_and_an_old_h5dump_and_the_checklist_accept_the_files(
    written: Written,
) -> None:
    root, _, _, verdict, _ = written
    master = root / verdict.master

    with h5py.File(master) as file:
        plot = get_default(file)
        assert plot is not None
        assert plot.is_valid
        # HDF5 does not open again, with other flags, what is open behind a link.
        del plot
    assert check_file(master) == []
    for name in files_of(root):
        if not name.endswith(".h5"):
            continue
        if not shutil.which("h5dump"):
            pytest.skip("h5dump is not installed")
        command = ["h5dump", "-pH", str(root / name)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, (name, done.stderr)


def test_the_folder_can_be_moved_and_still_opens(
    written: Written, tmp_path: Path
) -> None:
    root, _, _, _, data = written
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)

    session = next(moved.glob("hg123/id00/*/RAW_DATA"))
    with h5py.File(session / "hg123_id00.h5") as file:
        (entry,) = file.values()
        last = entry["measurement/fast"][999]
        np.testing.assert_array_equal(last, data["fast"][999])
        del entry
    report = check_files([session / "hg123_id00.h5"], everything=True)
    assert report.ok
    assert report.n_chunks == report.n_chunks_checked > 0


def test_replay_gives_the_same_files(written: Written, tmp_path: Path) -> None:
    root, url, uid, verdict, _ = written

    assert replay(url, uid, tmp_path) == verdict
    assert differences(root, tmp_path) == []


def test_a_subscriber_reads_the_same_from_the_bus(written: Written) -> None:
    _, url, uid, _, data = written

    with Subscriber(url) as subscriber:
        scan = subscriber.scan(uid)
        np.testing.assert_array_equal(scan.read("ct3"), data["ct3"])
        assert scan.read("label", 10, 12) == data["label"][10:12]
        point, frame = scan.latest("slow")
        np.testing.assert_array_equal(frame, data["slow"][point])


def test_real_frames_come_out_pixel_for_pixel(
    redis_url: str, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "thaumatin_grid").glob("*.cbf.bz2"))
    with writer(redis_url, tmp_path):
        wait_for_writer(redis_url)
        options = ["--redis", redis_url, "--proposal", "hg123", "--sample", "thau"]
        assert main(["publish", "files", *map(str, files), *options]) == 0

    (master,) = found_below(tmp_path, "scan0001.h5")
    with h5py.File(master) as file:
        plot: Any = get_default(file)
        assert plot.signal.shape == (10, 2527, 2463)
        for number, path in enumerate(files):
            frame = plot.signal[number]
            assert frame.dtype == np.int32
            np.testing.assert_array_equal(frame, fabio.open(path).data)
        assert {-1, -2} <= set(np.unique(frame))
    for name in files_of(tmp_path):
        if not name.endswith(".h5"):
            continue
        command = ["h5dump", "-pH", str(tmp_path / name)]
        if shutil.which("h5dump"):
            subprocess.run(command, capture_output=True, check=True)
