"""Files of techniques: what they hold, what they lack, and that they come again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.schemas import VerdictWord, merged
from scanbus.writer import check_files, rebuild
from tests.support.technique_scan import (
    ANGLES_DEG,
    ENERGY_KEV,
    FRAMES,
    IMAGE_KEYS,
    METADATA,
    N_POINTS,
    POSITIONS_M,
    SPECTRA,
    Wanted,
    written_techniques,
)
from tests.support.trees import differences
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis
FILES = {
    "scan0001_nxtomo.nxs": "NXtomo",
    "scan0001_nxfluo.nxs": "NXfluo",
    "scan0001_nxxas.nxs": "NXxas",
    "scan0001_nxsas.nxs": "NXsas",
    "scan0001.cxi": "NXcxi_ptycho",
}
OTHERS = ("scan0001_openpmd.h5", "scan0001.h5")


def entry_of(file: h5py.File) -> h5py.Group:
    return file["entry_1" if "entry_1" in file else "entry"]


def equal(node: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(node[()], wanted)


def test_files_of_techniques_have_what_was_published(
    redis_url: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    ((folder, verdict),) = written_techniques(redis_url, root, Wanted())
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.notes == ()
    for name, definition in FILES.items():
        with h5py.File(folder / name) as file:
            assert entry_of(file)["definition"].asstr()[()] == definition
    with h5py.File(folder / "scan0001_nxtomo.nxs") as file:
        equal(file["entry/data/data"], FRAMES)
        equal(file["entry/data/image_key"], IMAGE_KEYS)
        equal(file["entry/data/rotation_angle"], ANGLES_DEG)
        assert file["entry/instrument/detector/distance"][()] == 1.5
    with h5py.File(folder / "scan0001_nxfluo.nxs") as file:
        equal(file["entry/data/data"], SPECTRA)
        equal(file["entry/data/energy"], 0.05 + 0.01 * np.arange(64))
        equal(file["entry/monitor/data"], 100 + np.arange(N_POINTS))
    with h5py.File(folder / "scan0001_nxxas.nxs") as file:
        equal(file["entry/data/energy"], ENERGY_KEV)
        equal(file["entry/data/absorbed_beam"], 50 + np.arange(N_POINTS))
        equal(file["entry/instrument/incoming_beam/data"], 100 + np.arange(N_POINTS))
        assert file["entry/data/mode"].asstr()[()] == "Transmission"
    with h5py.File(folder / "scan0001_nxsas.nxs") as file:
        equal(file["entry/data/data"], FRAMES)
        wavelength = file["entry/instrument/monochromator/wavelength"][()]
        assert wavelength == pytest.approx(0.729319, rel=1e-6)
        assert file["entry/control/integral"][()] == 1045
    with h5py.File(folder / "scan0001.cxi") as file:
        equal(file["data_1/data"], FRAMES)
        np.testing.assert_allclose(file["data_1/translation"][()], POSITIONS_M)
        energy = file["entry_1/instrument_1/source_1/energy"][()]
        assert energy == pytest.approx(17e3 * 1.602176634e-19)
    assert check_files([folder]).ok


def test_a_rebuild_makes_them_again(redis_url: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    written_techniques(redis_url, root, Wanted())
    again = tmp_path / "again"
    shutil.copytree(root, again)
    for name in (*FILES, *OTHERS):
        found_below(again, name)[0].unlink()
    assert not rebuild(again).skipped
    assert differences(root, again) == []


LACKING = [
    ("nxtomo", "image_key", "lacks technique/image_key"),
    ("nxtomo", "rot", "lacks technique/nxtomo/rotation"),
    ("nxtomo", "eiger", "no detector of two-dimensional frames"),
    ("nxfluo", "i0", "lacks technique/nxfluo/monitor"),
    ("nxfluo", "mca", "no spectra of a fixed length"),
    ("nxxas", "energy", "lacks technique/nxxas/energy"),
    ("nxxas", "i1", "lacks technique/nxxas/absorbed_beam"),
    ("nxsas", "i0", "lacks technique/nxsas/monitor"),
    ("nxsas", "eiger", "no detector of two-dimensional frames"),
    ("cxi", "sy", "lacks technique/cxi/x and technique/cxi/y"),
    ("cxi", "eiger", "no detector of two-dimensional frames"),
]


def test_what_a_scan_lacks_is_named_and_the_definition_left_out(
    redis_url: str, tmp_path: Path
) -> None:
    scans = [
        Wanted(layouts=(layout,), without=(without,)) for layout, without, _ in LACKING
    ]
    found = written_techniques(redis_url, tmp_path / "root", *scans)
    for (layout, _, lacks), (folder, verdict) in zip(LACKING, found, strict=True):
        assert verdict.verdict is VerdictWord.COMPLETE
        assert [note for note in verdict.notes if lacks in note], verdict.notes
        paths = [*folder.glob("*.nxs"), *folder.glob("*.cxi")]
        assert bool(paths) is ("definition" in "".join(verdict.notes)), layout
        for path in paths:
            with h5py.File(path) as file:
                assert "definition" not in entry_of(file)


def test_scans_of_few_points_have_files_too(redis_url: str, tmp_path: Path) -> None:
    scans = [Wanted(n_points=n_points) for n_points in (0, 1, 2)]
    for folder, verdict in written_techniques(redis_url, tmp_path / "root", *scans):
        assert verdict.verdict is VerdictWord.COMPLETE
        assert not [note for note in verdict.notes if "Error" in note]
        for name in FILES:
            with h5py.File(folder / name.replace("scan0001", folder.name)) as file:
                assert entry_of(file).attrs["NX_class"] == "NXentry"
        assert check_files([folder]).ok


HOSTILE: list[dict[str, Any]] = [
    {},
    {"technique": 5},
    {"technique": {"nxtomo": [1, 2], "nxxas": "x" * 9999, "cxi": {"x": ["sx"]}}},
    {"technique": {"nxtomo": {"rotation": "../rot", "image_key": 10**30}}},
    {"technique": {"image_key": float("inf")}},
    {"technique": {"image_key": "nonsense"}},
    {"instrument": {"eiger": {"distance": "far", "x_pixel_size": [1, 2]}}},
    {"instrument": {"eiger": {"distance": 1.0, "distance@units": "9**9**9"}}},
    {"instrument": {"monochromator": {"energy": 0.0, "wavelength": -1.0}}},
    {"instrument": {"monochromator": {"energy": float("nan")}}},
    {"instrument": {"mca": {"energy": "a", "calibration": np.zeros((3, 3))}}},
    {"instrument": {"mca": {"calibration": np.array([np.nan, 1.0, 0.0])}}},
    {"instrument": 3, "sample": "text", "source": 1.0},
    {"sample": {"name": 5}},
    {"instrument": {"mca": {"calibration": ["a", "b", "c"]}}},
    {"instrument": {"mca": {"energy": ["a"] * 64}}},
    {"instrument": {"mca": {"energy": np.ones(64), "energy@units": "m"}}},
    {"technique": {"image_key": 2.5, "nxxas": {"mode": "odd"}}},
    {"start_time": "2026-13-45T99:00:00", "end_time": "T"},
]


def test_odd_metadata_cost_neither_scan_nor_files(
    redis_url: str, tmp_path: Path
) -> None:
    layouts = ("nxmx", "nxtomo", "nxfluo", "nxxas", "nxsas", "cxi")
    scans = [Wanted(layouts, metadata) for metadata in HOSTILE]
    found = written_techniques(redis_url, tmp_path / "root", *scans)
    for metadata, (folder, verdict) in zip(HOSTILE, found, strict=True):
        assert verdict.verdict is VerdictWord.COMPLETE, metadata
        assert not [note for note in verdict.notes if "are not written" in note]
        names = {
            path.name.replace(folder.name, "scan0001") for path in folder.iterdir()
        }
        assert {*FILES, "scan0001.nxs", "scan0001_master.h5"} <= names, metadata
        assert check_files([folder]).ok, metadata


def test_numbers_that_do_not_fit_are_no_claim(redis_url: str, tmp_path: Path) -> None:
    """Energies of NaN, keys of fractions: the file comes without a definition."""
    odd: dict[str, dict[str, Any]] = {
        "nxfluo": {
            "instrument": {"mca": {"calibration": np.array([np.nan, 1.0, 0.0])}}
        },
        "nxtomo": {"technique": {"image_key": 2.5}},
        "nxsas": {"instrument": {"eiger": {"distance": -1.0, "distance@units": "m"}}},
        "cxi": {"instrument": {"eiger": {"distance": 1500.0}}},
    }
    scans = [
        Wanted((layout,), merged(METADATA, changed), ("image_key",))
        for layout, changed in odd.items()
    ]
    scans[-1] = Wanted(("cxi",), {**METADATA, "instrument": odd["cxi"]["instrument"]})
    gap = np.where(np.arange(N_POINTS) == 3, np.nan, np.arange(N_POINTS))
    layouts = [*odd, "nxtomo", "nxtomo", "nxxas", "cxi"]
    for layout, name, values in (
        ("nxtomo", "image_key", np.arange(N_POINTS)),
        ("nxtomo", "rot", gap),
        ("nxxas", "energy", gap),
        ("cxi", "sx", gap),
    ):
        scans.append(Wanted((layout,), changed={name: values}))
    found = written_techniques(redis_url, tmp_path / "root", *scans)
    for layout, (folder, verdict) in zip(layouts, found, strict=True):
        assert [note for note in verdict.notes if "no definition" in note], layout
        for path in (*folder.glob("*.nxs"), *folder.glob("*.cxi")):
            with h5py.File(path) as file:
                assert "definition" not in entry_of(file)


def test_a_key_for_all_frames_may_be_a_word(redis_url: str, tmp_path: Path) -> None:
    metadata = {**METADATA, "technique": {"image_key": "flat"}}
    others = ("image_key", "energy", "sx", "sy")
    wanted = Wanted(("nxtomo",), metadata, others)
    ((folder, _),) = written_techniques(redis_url, tmp_path / "root", wanted)
    with h5py.File(folder / "scan0001_nxtomo.nxs") as file:
        equal(file["entry/data/image_key"], np.ones(N_POINTS))
        assert file["entry/definition"].asstr()[()] == "NXtomo"
