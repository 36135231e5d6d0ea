"""Files of techniques, by nxvalidate and by programs of each technique."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.cli.private_redis import PrivateRedis
from tests.checklist import layout_judges as judge
from tests.support.technique_scan import (
    ANGLES_DEG,
    FRAMES,
    IMAGE_KEYS,
    N_POINTS,
    POSITIONS_M,
    Wanted,
    written_techniques,
)

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of one scan with the files of all techniques."""
    root = tmp_path_factory.mktemp("techniques") / "root"
    with PrivateRedis() as server:
        ((found, _),) = written_techniques(server.url, root, Wanted())
        yield found


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("scan0001_nxtomo.nxs", "/entry"),
        ("scan0001_nxfluo.nxs", "/entry"),
        ("scan0001_nxxas.nxs", "/entry"),
        ("scan0001_nxsas.nxs", "/entry"),
        ("scan0001.cxi", "/entry_1"),
    ],
)
def test_nxvalidate_finds_no_error(folder: Path, name: str, entry: str) -> None:
    assert judge.nxvalidate(folder / name, entry) == []


def test_every_required_field_is_required_by_nxvalidate(
    folder: Path, tmp_path: Path
) -> None:
    """What a profile asks for before it writes a definition is what the judge wants."""
    source = folder / "scan0001_nxsas.nxs"
    for field in ("instrument/detector/distance", "control/integral", "sample/name"):
        path = tmp_path / "less.nxs"
        path.write_bytes(source.read_bytes())
        with h5py.File(path, "r+") as file:
            del file[f"entry/{field}"]
        assert judge.nxvalidate(path), field


def test_nxtomo_and_tomoscan_read_a_tomography(folder: Path, tmp_path: Path) -> None:
    path = folder / "scan0001_nxtomo.nxs"
    found = judge.nxtomo(path)
    assert found["image_key"] == IMAGE_KEYS.tolist()
    assert found["angle_deg"] == pytest.approx(ANGLES_DEG)
    assert found["distance_m"] == pytest.approx(1.5)
    assert found["pixel_x_m"] == pytest.approx(75e-6)
    assert found["energy_kev"] == pytest.approx(17.0)
    seen = judge.tomoscan(path)
    assert seen["projections"] == int((IMAGE_KEYS == 0).sum())
    assert seen["flats"] == int((IMAGE_KEYS == 1).sum())
    assert seen["darks"] == int((IMAGE_KEYS == 2).sum())
    assert seen["shape"] == [16, 12]
    assert seen["problems"] == []
    copy = judge.nxtomomill_copy(path, tmp_path / "copy.nx")
    with h5py.File(copy) as file:
        np.testing.assert_array_equal(
            file["entry/instrument/detector/data"][()], FRAMES
        )


def test_pymca_lists_the_spectra(folder: Path) -> None:
    found = judge.pymca_spectra(folder / "scan0001_nxfluo.nxs")
    assert [N_POINTS, 64] in found.values()


def test_openpmd_finds_no_error(folder: Path) -> None:
    path = folder / "scan0001_openpmd.h5"
    assert judge.openpmd_validator(path) == []
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data/0/meshes/eiger"][()], FRAMES)
        sx = file["data/0/meshes/sx"]
        np.testing.assert_allclose(sx[()] * sx.attrs["unitSI"], POSITIONS_M[:, 0])


def test_a_reader_of_cxi_finds_patterns_and_positions(folder: Path) -> None:
    found = judge.cxi_reader(folder / "scan0001.cxi")
    assert found["version"] == 150
    assert found["energy_j"] == pytest.approx(17e3 * 1.602176634e-19)
    assert found["distance_m"] == pytest.approx(1.5)
    assert found["frames"] == list(FRAMES.shape)
    assert found["translation_m"] == list(POSITIONS_M.shape)
    assert found["sums"] == FRAMES.sum(axis=(1, 2)).tolist()
