"""What NXmx does not claim: rotations, axes and numbers that readers cannot use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.test_layout_nxmx import (
    DEVICE,
    LINKING,
    MAPPING,
    contents_of,
    masters_of,
    names,
    value,
)


def test_positions_that_are_missing_are_no_rotation() -> None:
    gap = np.arange(10.0)
    gap[3] = np.nan
    for positions, said in ((gap, "positions are missing"), (np.arange(7.0), "each")):
        for master in masters_of(contents_of(axes={"omega": positions})).values():
            assert any(said in each for each in master.missing), said


def test_what_dials_misunderstands_of_a_rotation_is_told() -> None:
    for positions, said in (
        (90 - np.arange(10) / 2, "decreases"),
        (np.array([0, 1, 3, 4, 6, 7, 9, 10, 12, 13.0]), "uneven"),
    ):
        master = masters_of(contents_of(axes={"omega": positions}))[LINKING]
        assert any(said in each for each in master.remarks), said
        assert master.missing == ()


def test_a_beam_centre_may_be_a_length() -> None:
    device = {**DEVICE, "beam_center_x": 0.3, "beam_center_x@units": "mm"}
    master = masters_of(contents_of(device=device))[MAPPING]
    path = "entry/instrument/detector/beam_center_x"
    assert value(master, path) == pytest.approx(4.0)


@pytest.mark.parametrize(
    "sample",
    [
        {"depends_on": "/1.1/sample/transformations/phi"},
        {"depends_on": "sample", "transformations": {"phi": 5.0}},
        {"depends_on": ".", "transformations": {"phi": 5.0, "phi@units": "deg"}},
    ],
)
def test_axes_that_lead_nowhere_are_not_used(sample: dict[str, Any]) -> None:
    contents = contents_of(more={"sample": sample}, axes={"omega": np.arange(10.0)})
    master = masters_of(contents)[LINKING]
    path = "/entry/sample/transformations/omega"
    assert value(master, "entry/sample/depends_on") == path
    assert any("sample/depends_on is not used" in each for each in master.remarks)


def test_axes_of_a_program_are_followed_in_the_file() -> None:
    phi = {
        "phi": 5.0,
        "phi@units": "deg",
        "phi@vector": [1.0, 0.0, 0.0],
        "phi@transformation_type": "rotation",
        "phi@depends_on": ".",
    }
    said = {"depends_on": "/1.1/sample/transformations/phi", "transformations": phi}
    master = masters_of(contents_of(more={"sample": said}))[MAPPING]
    path = "/entry/sample/transformations/phi"
    assert value(master, "entry/sample/depends_on") == path
    assert value(master, path.removeprefix("/")) == 5.0


def test_numbers_that_are_none_are_left_out() -> None:
    odd = {"saturation_value": "nine", "count_time": [1, 2], "description": 5}
    master = masters_of(contents_of(device={**DEVICE, **odd}))[MAPPING]
    assert not {*odd} & {*names(master, "entry/instrument/detector")}


def test_a_scan_without_frames_claims_nothing() -> None:
    contents = contents_of(segments={"eiger": ()})
    for master in masters_of(contents).values():
        assert "frames" in master.missing
