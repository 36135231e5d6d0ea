"""Plots as readers find them: silx says of what kind each one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from silx.io.nxdata import parse as nxdata

from scanbus.schemas import ChannelDescription, LaneDescription, Role, Storage
from scanbus.schemas.plots import default_plots
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.scan_contents import data_path
from tests.support.checklist import check_file
from tests.support.scan_folders import channel, lane, make_scan

ROWS = np.repeat(np.arange(5), 5)
COLUMNS = np.tile(np.arange(5), (5, 1))
SNAKE = COLUMNS.copy()
SNAKE[1::2] = SNAKE[1::2, ::-1]


def values() -> LaneDescription:
    return lane(
        "fast",
        Storage.VALUES,
        channel("sy", "fast", role=Role.AXIS, units="mm"),
        channel("sx", "fast", role=Role.AXIS, units="mm"),
        channel("still", "fast", role=Role.AXIS, units="deg"),
        channel("diode", "fast", units="A"),
        channel("count", "fast", dtype="int32", units="1/s"),
        channel("pico", "fast", units="A"),
    )


def master(root: Path, **changed: Any) -> Path:
    """Write the master of a scan with some values of its scan file changed."""
    described = values()
    plots = default_plots(described.channels)
    folder, contents = make_scan(root, lanes=(described,), plots=plots)
    said = {"still": np.ones(25), **changed}
    with h5py.File(folder / "scan0001_values.h5", "r+") as file:
        for one in described.channels:
            if one.name in said:
                file[data_path(described, one)][...] = said[one.name]
    return write_scan_master(folder, contents)


@pytest.mark.parametrize("columns", [COLUMNS, SNAKE], ids=["raster", "snake"])
def test_a_mesh_is_an_image_of_each_counter(tmp_path: Path, columns: Any) -> None:
    counts = (10 * ROWS + columns.ravel()).astype("i4")
    counts[7] = np.iinfo("i4").min  # A point without a value.
    path = master(tmp_path, sy=ROWS / 2, sx=-columns.ravel(), count=counts)

    with h5py.File(path) as file:
        default: Any = nxdata.get_default(file)
        assert default.is_image
        assert default.axes_dataset_names == ["sy", "sx"]
        assert default.auxiliary_signals_dataset_names == ["pico"]
        np.testing.assert_array_equal(default.axes[0], np.arange(5) / 2)
        np.testing.assert_array_equal(default.axes[1], -np.arange(5))

        image = file["1.1/plot0D_1_s/count"]
        expected = 10.0 * np.arange(5)[:, None] + np.arange(5)
        expected[1, columns.ravel()[7]] = np.nan
        np.testing.assert_array_equal(image, expected)
        assert image.attrs["units"] == "1/s"
        assert "_FillValue" not in image.attrs
    assert check_file(path) == []


def test_motors_that_move_together_make_a_curve(tmp_path: Path) -> None:
    way = np.arange(25.0)
    with h5py.File(master(tmp_path, sy=way, sx=way**2)) as file:
        default: Any = nxdata.get_default(file)
        assert default.is_curve
        assert default.axes_dataset_names == ["sy"]
        assert file["1.1/plot0D"].attrs["sx_indices"] == 0
        np.testing.assert_array_equal(file["1.1/plot0D/sx"], way**2)


def test_motors_that_move_anyhow_make_points(tmp_path: Path) -> None:
    sy, sx = np.random.default_rng(3).random((2, 25))
    with h5py.File(master(tmp_path, sy=sy, sx=sx)) as file:
        default: Any = nxdata.get_default(file)
        assert default.is_valid
        assert default.is_scatter
        assert default.axes_dataset_names == ["sy", "sx"]


def test_a_motor_that_stood_still_is_no_axis(tmp_path: Path) -> None:
    still = np.full(25, 3.0)
    with h5py.File(master(tmp_path, sy=still, sx=np.arange(25))) as file:
        default: Any = nxdata.get_default(file)
        assert default.is_curve
        assert default.axes_dataset_names == ["sx"]


def frames(**said: Any) -> ChannelDescription:
    return channel("cam", "cam", role=Role.DETECTOR, codec="bitshuffle-lz4", **said)


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (frames(dtype="uint32", shape=(6, 8)), np.uint32(2**32 - 1)),
        (frames(dtype="int32", shape=(6, 8), fill_value=-2), np.int32(-2)),
        (frames(dtype="float32", shape=(6, 8), fill_value=-1), np.float32(-1)),
        (frames(dtype="uint8", shape=(6, 8), fill_value=0), np.uint8(0)),
        (frames(dtype="uint8", shape=(6, 8, 3)), None),  # Every byte is a colour.
        (frames(dtype="float32", shape=(6, 8)), None),  # NaN needs no word.
        (frames(dtype="bool", shape=(6, 8)), None),
    ],
)
def test_mask_values_are_named_as_scalars(
    tmp_path: Path, described: ChannelDescription, expected: Any
) -> None:
    folder, contents = make_scan(
        tmp_path, lanes=(lane("cam", Storage.FILES, described),), plots=()
    )
    with h5py.File(write_scan_master(folder, contents)) as file:
        attributes = file["1.1/measurement/cam"].attrs
        if expected is None:
            assert "_FillValue" not in attributes
            return
        assert attributes.get_id("_FillValue").shape == ()
        assert attributes["_FillValue"] == expected
        assert attributes["_FillValue"].dtype == expected.dtype


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_silx_draws_colours(tmp_path: Path, dtype: str) -> None:
    described = frames(dtype=dtype, shape=(6, 8, 3))
    folder, contents = make_scan(
        tmp_path, lanes=(lane("cam", Storage.FILES, described),), plots=()
    )
    with h5py.File(write_scan_master(folder, contents)) as file:
        default: Any = nxdata.get_default(file)
        assert default.is_valid
        assert default.interpretation == "rgb-image"
