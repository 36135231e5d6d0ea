"""Frames of colour, of several thresholds, stacks: sent, written, plotted, read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import numpy.typing as npt
import pytest
from silx.io.nxdata import parse as nxdata

from scanbus.bus.codecs import CODEC_NAMES, find_codec
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Scan
from scanbus.schemas import VerdictWord
from scanbus.subscriber import Subscriber
from scanbus.writer import check_files, rebuild
from tests.support.checklist import check_file
from tests.support.published import unjudged_scan
from tests.support.writers import final_verdict, writer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

N_FRAMES = 7
ENERGIES = [6000.0, 12000.0]


class Kind(NamedTuple):
    """One detector, and what its data must say."""

    shape: tuple[int, ...]
    dtype: str
    interpretation: str
    nexus: dict[str, Any]
    codec: str = "bitshuffle-lz4"


KINDS = {
    "thresholds": Kind(
        (2, 20, 30),
        "uint32",
        "image",
        {
            "axes": ("threshold_energy", "y", "x"),
            "threshold_energy": ENERGIES,
            "y": list(range(20)),
        },
    ),
    "colour": Kind((20, 30, 3), "uint8", "rgb-image", {}),
    "transparent": Kind((20, 30, 4), "uint8", "rgba-image", {}, "gzip-shuffle"),
    "declared": Kind(
        (20, 30, 3), "uint16", "rgb-image", {"interpretation": "rgb-image"}
    ),
    "stack": Kind((5, 20, 30), "float32", "image", {}, "zstd"),
    "movie": Kind((2, 20, 30, 3), "uint8", "rgb-image", {}, "blosc2"),
    "narrow": Kind((20, 2, 3), "uint8", "image", {}, "none"),
    "most": Kind((2, 3, 2, 8, 9), "complex64", "image", {}, "lz4"),
}
THRESHOLDS = ("split_low", "split_high")


def frames_of(name: str) -> npt.NDArray[Any]:
    kind = KINDS[name]
    rng = np.random.default_rng(sorted(KINDS).index(name))
    return rng.integers(0, 200, (N_FRAMES, *kind.shape)).astype(kind.dtype)


@pytest.fixture(scope="module")
def scan_and_master(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Scan, Path]]:
    """One scan with all of them, written."""
    root = tmp_path_factory.mktemp("more") / "data"
    with PrivateRedis() as server:
        with unjudged_scan(server.url, proposal="hg123", scan_number=1) as scan:
            send_all(scan)
        with writer(server.url, root):
            verdict = final_verdict(server.url, scan.uid)
        assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
        yield server.url, scan, root / verdict.master


def send_all(scan: Scan) -> None:
    scan.channel("th", role="axis")
    for name, kind in KINDS.items():
        scan.detector(
            name,
            shape=kind.shape,
            dtype=kind.dtype,
            codec=kind.codec,
            nexus=kind.nexus,
            points_per_chunk=1,
        )
    for name in THRESHOLDS:
        scan.detector(name, shape=(20, 30), dtype="uint16", device="split")
    scan.send("th", np.arange(N_FRAMES, dtype=float))
    for name, kind in KINDS.items():
        frames = frames_of(name)
        scan.send(name, frames[0])
        scan.send(name, frames[1:4])
        packed = [bytes(find_codec(kind.codec).encode(one[None])) for one in frames[4:]]
        scan.send(name, packed=packed)
    for name in THRESHOLDS:
        for number in range(N_FRAMES):
            scan.send(name, np.full((20, 30), number, np.uint16), point=number)


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_in_the_file_as_it_was_sent(
    name: str, scan_and_master: tuple[str, Scan, Path]
) -> None:
    with h5py.File(scan_and_master[2]) as file:
        data = file[f"1.1/measurement/{name}"]
        np.testing.assert_array_equal(data[()], frames_of(name))
        assert data.dtype == KINDS[name].dtype
        assert data.attrs["interpretation"] == KINDS[name].interpretation


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_plot_that_readers_take(
    name: str, scan_and_master: tuple[str, Scan, Path]
) -> None:
    kind = KINDS[name]
    with h5py.File(scan_and_master[2]) as file:
        first = next(iter(KINDS))
        group = file["1.1/plot2D" if name == first else f"1.1/plot_{name}"]
        plot: Any = nxdata.NXdata(group)
        assert plot.is_valid, plot.issues
        assert plot.signal.shape == (N_FRAMES, *kind.shape)
        assert plot.interpretation == kind.interpretation
        axes = [*group.attrs["axes"]]
        assert len(axes) == len(kind.shape) + 1
        if name == "thresholds":
            assert axes == [".", "threshold_energy", "y", "."]
            assert group.attrs["threshold_energy_indices"] == 1
            assert group["threshold_energy"][()].tolist() == ENERGIES
            assert len(group["y"]) == 20
        else:
            assert axes == ["."] * len(axes)


def test_the_default_plot_is_one_of_frames(
    scan_and_master: tuple[str, Scan, Path],
) -> None:
    with h5py.File(scan_and_master[2]) as file:
        default: Any = nxdata.get_default(file)
        assert default is not None
        assert default.is_valid
        assert default.signal.ndim == 4


def test_thresholds_of_one_device_stand_side_by_side(
    scan_and_master: tuple[str, Scan, Path],
) -> None:
    with h5py.File(scan_and_master[2]) as file:
        device = file["1.1/instrument/split"]
        assert {*device} >= {"image", "data", "high"}
        for name in THRESHOLDS:
            found = file[f"1.1/measurement/{name}"][:, 0, 0]
            assert found.tolist() == [*range(N_FRAMES)]


def test_the_master_stands_every_check_and_the_rebuild(
    scan_and_master: tuple[str, Scan, Path],
) -> None:
    master = scan_and_master[2]
    assert check_file(master) == []
    report = check_files([master], everything=True)
    assert report.ok, report.findings
    master.unlink()
    assert not rebuild(master.parents[7]).skipped
    assert check_file(master) == []


@pytest.mark.parametrize("name", KINDS)
def test_subscribers_get_every_frame(
    name: str, scan_and_master: tuple[str, Scan, Path]
) -> None:
    url, scan, _ = scan_and_master
    with Subscriber(url) as subscriber:
        reader = subscriber.scan(scan.uid)
        assert reader.channels[name].shape == KINDS[name].shape
        np.testing.assert_array_equal(reader.read(name), frames_of(name))
        np.testing.assert_array_equal(reader.point(name, 5), frames_of(name)[5])
        batches = [batch.values for batch in reader.stream(name)]
        np.testing.assert_array_equal(np.concatenate(batches), frames_of(name))


def test_thresholds_by_reference_are_mapped(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANBUS_EXTERNAL_ROOTS", str(tmp_path))
    frames = frames_of("thresholds")
    for index, part in enumerate(np.split(frames, [3])):
        with h5py.File(tmp_path / f"{index}.h5", "w") as file:
            file["data"] = part.astype(">u4")
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        kind = KINDS["thresholds"]
        scan.external_detector(
            "eiger", shape=kind.shape, dtype=kind.dtype, nexus=kind.nexus
        )
        scan.reference("eiger", tmp_path / "0.h5", "/data", count=3)
        scan.reference("eiger", tmp_path / "1.h5", "/data", count=4)
    root = tmp_path / "data"
    with writer(redis_url, root):
        verdict = final_verdict(redis_url, scan.uid)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    with h5py.File(root / verdict.master) as file:
        np.testing.assert_array_equal(file["1.1/measurement/eiger"][()], frames)
        default: Any = nxdata.get_default(file)
        assert default is not None
        assert default.is_valid
        axes = [*file["1.1/plotselect"].attrs["axes"]]
        assert axes == [".", "threshold_energy", "y", "."]


@pytest.mark.parametrize(
    ("shape", "axes"), [((1,) * 6, ()), ((2, 3), ("y",)), ((2, 3), ("x", "y", "z"))]
)
def test_what_fits_no_frame_is_refused(
    shape: tuple[int, ...], axes: tuple[str, ...], redis_url: str
) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        with pytest.raises(ValueError, match=r"shape|axes"):
            scan.detector("d", shape=shape, dtype="uint8", nexus={"axes": axes})
        scan.channel("i0")
        scan.send("i0", 1.0)


def test_all_codecs_are_among_them() -> None:
    used = {kind.codec for kind in KINDS.values()}
    assert {*CODEC_NAMES} - used == {"bitshuffle-zstd"}
