"""Judges of technique files take what is right and refuse what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.checklist import layout_judges as judge
from tests.checklist.handmade import FRAMES, GEOMETRY, cxi, fluo, mx_pair, put, tomo
from tests.checklist.judges import ask
from tests.checklist.neggia_rules import durin_problems, neggia_problems

# Programs of others start slowly on a machine that has much to do.
pytestmark = pytest.mark.timeout(400)

DETECTOR = "entry/instrument/detector"
SUMS = FRAMES.sum(axis=(1, 2)).tolist()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An NXmx master with links, and one with a virtual dataset."""
    return mx_pair(tmp_path)


def changed(path: Path, **fields: Any) -> Path:
    """Change fields of the detector; None removes one."""
    with h5py.File(path, "r+") as file:
        for name, value in fields.items():
            attributes = dict(file[f"{DETECTOR}/{name}"].attrs)
            del file[f"{DETECTOR}/{name}"]
            if value is not None:
                put(file, {f"{DETECTOR}/{name}": value})
                file[f"{DETECTOR}/{name}"].attrs.update(attributes)
    return path


def test_nxvalidate_names_what_is_missing(pair: tuple[Path, Path]) -> None:
    assert [judge.nxvalidate(one) for one in pair] == [[], []]
    (said,) = judge.nxvalidate(changed(pair[1], sensor_thickness=None))
    assert said.startswith(f"Field: /{DETECTOR}/sensor_thickness: This required field")


def test_nxvalidate_refuses_an_entry_that_names_no_definition(
    pair: tuple[Path, Path],
) -> None:
    with h5py.File(pair[1], "r+") as file:
        del file["entry/definition"]
    assert judge.nxvalidate(pair[1])
    assert judge.nxvalidate(pair[1], definition="NXmx") != []
    assert judge.nxvalidate(pair[1].with_name("none.nxs")) != []


def test_nxmx_and_dials_agree(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for path in pair:
        assert judge.nxmx(path) == pytest.approx(GEOMETRY)
        assert judge.dials_import(path, tmp_path) == pytest.approx(GEOMETRY)
        assert judge.dials_frames(path) == SUMS
        assert judge.fabio_frames(path) == SUMS


def test_dials_refuses_what_nxvalidate_takes(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    path = changed(pair[1], sensor_material="Unobtainium")
    assert judge.nxvalidate(path) == []
    with pytest.raises(AssertionError, match="Unknown material"):
        judge.dials_import(path, tmp_path)


def test_pynxtools_wants_the_type_of_both_ends(pair: tuple[Path, Path]) -> None:
    assert judge.pynxtools(pair[1]) == []
    with h5py.File(pair[1], "r+") as file:
        del file["entry/sample/transformations/omega_end"].attrs["transformation_type"]
    (said,) = judge.pynxtools(pair[1])
    assert "omega_end" in said


def test_the_rules_of_the_plugins_of_xds(pair: tuple[Path, Path]) -> None:
    linked, virtual = pair
    assert neggia_problems(linked) == durin_problems(linked) == []
    assert durin_problems(virtual) == []
    assert neggia_problems(virtual) == ["/entry/data/data_000001 is missing"]


def replaced(**creation: Any) -> Callable[[h5py.File], None]:
    """Return what puts frames with other properties behind the link."""

    def change(file: h5py.File) -> None:
        frames = creation.pop("data", FRAMES)
        with h5py.File(Path(file.filename).with_name("frames.h5"), "w") as other:
            other.create_dataset("data", data=frames, **creation)

    return change


def short_first_block(file: h5py.File) -> None:
    put(
        file,
        {f"entry/data/data_00000{n}": FRAMES[:n] for n in (2, 3)},
        chunks=(1, 6, 8),
    )


def removed(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(f"{DETECTOR}/{name}")


def chunked_mask(file: h5py.File) -> None:
    name = f"{DETECTOR}/detectorSpecific/pixel_mask"
    del file[name]
    put(file, {name: np.zeros((6, 8), np.uint32)}, chunks=(6, 8))


BY_ZSTD: dict[str, Any] = {"chunks": (1, 6, 8), **hdf5plugin.Bitshuffle(cname="zstd")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced(chunks=(5, 6, 8)), "not of one frame"),
        (replaced(chunks=(1, 6, 8), compression="gzip"), "filter 1,"),
        (replaced(**BY_ZSTD), "without lz4"),
        (replaced(data=FRAMES.astype("f4"), chunks=(1, 6, 8)), "not an integer"),
        (removed("x_pixel_size"), "x_pixel_size is missing"),
        (removed("detectorSpecific/nimages"), "nimages is missing"),
        (removed("detectorSpecific/pixel_mask"), "pixel_mask is missing"),
        (chunked_mask, "not stand in one piece"),
        (short_first_block, "nimages times ntrigger is 10, and there are 15"),
    ],
)
def test_neggia_would_refuse(
    pair: tuple[Path, Path], change: Callable[[h5py.File], None], said: str
) -> None:
    with h5py.File(pair[0], "r+") as file:
        change(file)
    assert any(said in one for one in neggia_problems(pair[0]))


def test_durin_would_refuse(pair: tuple[Path, Path]) -> None:
    with h5py.File(pair[0], "r+") as file:
        file["entry"].attrs["NX_class"] = "NXentry"  # h5py makes this UTF-8
        file[f"{DETECTOR}/x_pixel_size"].attrs["units"] = "nm"
        replaced(**BY_ZSTD)(file)
    found = " ".join(durin_problems(pair[0]))
    for said in ("/entry@NX_class is not", "units is not", "in nm", "without lz4"):
        assert said in found


def test_tomoscan_and_nxtomo_read_a_tomography(tmp_path: Path) -> None:
    path = tomo(tmp_path / "tomo.nx")
    assert judge.nxvalidate(path) == []
    found = judge.nxtomo(path)
    assert found.pop("angle_deg") == [0.0, 0.0, 0.0, 45.0, 90.0, 135.0]
    assert found.pop("image_key") == [2, 1, 0, 0, 0, 0]
    expected = {"distance_m": 0.1, "pixel_x_m": 1e-6, "pixel_y_m": 1e-6}
    assert found == pytest.approx({**expected, "energy_kev": 12.0})
    expected = {"projections": 4, "flats": 1, "darks": 1}
    assert judge.tomoscan(path) == {**expected, "shape": [6, 8], "problems": []}
    with h5py.File(path, "r+") as file:
        del file[f"{DETECTOR}/distance"]
    (said,) = judge.tomoscan(path)["problems"]
    assert said.startswith("distance")


def test_nxtomomill_copies_a_tomography_with_its_frames(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tomo(tmp_path / "tomo.nx")
    copy = judge.nxtomomill_copy(path, tmp_path / "elsewhere" / "copy.nx")
    assert judge.nxtomo(copy) == judge.nxtomo(path)
    with h5py.File(copy, locking=False) as file:
        np.testing.assert_array_equal(file[f"{DETECTOR}/data"][()], FRAMES[:6])


def test_pymca_lists_the_spectra_of_nxfluo(tmp_path: Path) -> None:
    path = fluo(tmp_path / "fluo.h5")
    assert judge.nxvalidate(path) == []
    (found,) = judge.pymca_spectra(path).items()
    assert found == ("/entry/data/data", [5, 16])


def test_the_reader_of_cxi(tmp_path: Path) -> None:
    path = cxi(tmp_path / "ptycho.cxi")
    found = judge.cxi_reader(path)
    assert found["sums"] == SUMS
    assert found["translation_m"] == [10, 3]
    with h5py.File(path, "r+") as file:
        del file["entry_1/instrument_1/source_1/energy"]
    with pytest.raises(AssertionError, match="energy"):
        judge.cxi_reader(path)


def test_openpmd_says_what_is_missing(tmp_path: Path) -> None:
    example = tmp_path / "example.h5"
    ask("openpmd_validator", _EXAMPLE, tmp_path)
    assert judge.openpmd_validator(example) == []
    with h5py.File(example, "r+") as file:
        del file.attrs["openPMD"]
    assert any("openPMD" in one for one in judge.openpmd_validator(example))


_EXAMPLE = """
import os
os.chdir(sys.argv[1])
from openpmd_validator import createExamples_h5
createExamples_h5.main()
answer = None
"""
