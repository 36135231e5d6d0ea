"""Names and fields of devices as Bliss, pyFAI and PyMca expect them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scanbus.schemas import ChannelDescription, Role, Storage
from scanbus.writer.layouts.esrf import layout
from scanbus.writer.model.nexus_tree import (
    CopiedDataset,
    Dataset,
    ExternalLink,
    Group,
    HardLink,
    Node,
    SoftLink,
)
from scanbus.writer.model.scan_contents import ScanContents, SegmentFile
from tests.support.scan_folders import channel, identity, lane, record
from tests.unit.test_layout_esrf import STAMP, at, value_at, values_of

VALUES = "scan0001_values.h5"
FRAMES = channel("cam", "cam", role=Role.DETECTOR, shape=(4, 6), dtype="uint16")


def entry(*channels: ChannelDescription, **metadata: Any) -> Group:
    """Return the entry of a scan; channels of the group `g` are small values."""
    small = [one for one in channels if one.group == "g"]
    lanes = [lane("g", Storage.VALUES, *small)] if small else []
    lanes += [
        lane(one.name, Storage.FILES, one) for one in channels if one.group != "g"
    ]
    contents = ScanContents(
        record(identity(), lanes=tuple(lanes), plots=(), metadata=metadata),
        {
            one.name: (SegmentFile(f"{one.name}_0000.h5", 0, 5),)
            for one in lanes
            if one.storage is Storage.FILES
        },
        VALUES,
        values=(values_of(VALUES, 5, lanes),),
    )
    found = layout(contents, stamp=STAMP).children["1.1"]
    assert isinstance(found, Group)
    return found


def members(found: Group, path: str) -> dict[str, Node]:
    node = at(found, path)
    assert isinstance(node, Group)
    return dict(node.children)


def spectra(name: str, device: str, **more: Any) -> ChannelDescription:
    return channel(name, name, device=device, role=Role.SPECTRUM, shape=(8,), **more)


def test_an_mca_has_the_names_of_bliss() -> None:
    found = entry(
        spectra("fx_spectrum_det0", "fx_det0"),
        channel("fx_icr_det0", "g", device="fx_det0"),
        channel("fx_det0_realtime", "g", device="fx_det0"),
        channel("fx_det0_energy_livetime", "g"),  # No device of its own was said.
        channel("i0", "g"),
    )
    assert {
        name: node.path
        for name, node in members(found, "measurement").items()
        if isinstance(node, SoftLink)
    } == {
        "fx_det0": "/1.1/instrument/fx_det0/spectrum",
        "fx_det0_trigger_count_rate": "/1.1/instrument/fx_det0/trigger_count_rate",
        "fx_det0_elapsed_time": "/1.1/instrument/fx_det0/elapsed_time",
        "fx_det0_live_time": "/1.1/instrument/fx_det0/live_time",
        "i0": "/1.1/instrument/i0/data",
    }


def test_names_of_an_mca_that_others_have_stay_those_of_the_channels() -> None:
    found = entry(
        spectra("m_spectrum", "m"),
        channel("m_icr", "g", device="m"),
        channel("m", "g", device="other"),
        channel("m_trigger_count_rate", "g", device="other"),
    )
    assert set(members(found, "measurement")) == {
        "m_spectrum",
        "m_icr",
        "m",
        "m_trigger_count_rate",
    }


def test_statistics_of_a_sampling_counter_stand_with_it() -> None:
    found = entry(
        channel("diode", "g", nexus={"field": "mean"}),
        *(channel(f"diode_{what}", "g") for what in ("N", "std", "p2v")),
        channel("x_max", "g"),
    )
    device = members(found, "instrument/diode")
    assert set(device) == {"mean", "data", "N", "std", "p2v"}
    assert device["data"] == SoftLink("/1.1/instrument/diode/mean")
    assert "diode_std" in members(found, "measurement")
    assert "data" in members(found, "instrument/x_max")


def test_values_of_a_region_have_their_own_names() -> None:
    names = ("cam_roi1_sum", "cam_roi1_avg")
    found = entry(*(channel(name, "g", device="cam_roi1") for name in names))
    assert set(members(found, "instrument/cam_roi1")) == {"sum", "avg", "data"}


def test_a_motor_by_its_class_has_no_data() -> None:
    omega = channel("omega", "g", nexus={"nx_class": "NXpositioner", "field": "value"})
    assert set(members(entry(omega), "instrument/omega")) == {"value"}


def test_detectors_have_what_pyfai_looks_for() -> None:
    mask = [[0] * 6] * 3 + [[0, 1, 2**30, 0, 0, 0]]
    found = entry(
        channel("i0", "g"),
        FRAMES,
        instrument={
            "cam": {
                "x_pixel_size": 75,
                "x_pixel_size@units": "um",
                "y_pixel_size": 0.172,
                "y_pixel_size@units": "mm",
                "pixel_mask": mask,
            }
        },
    )
    assert value_at(found, "instrument/cam/shape").tolist() == [4, 6]
    size = value_at(found, "instrument/cam/pixel_size")
    np.testing.assert_allclose(size, [172e-6, 75e-6])
    made = value_at(found, "instrument/cam/mask")
    assert made.dtype == np.int8
    np.testing.assert_array_equal(made, np.array(mask) != 0)
    devices = [
        name
        for name, node in members(found, "instrument").items()
        if isinstance(node, Group) and node.nx_class == "NXdetector"
    ]
    assert devices == ["cam", "i0"]  # pyFAI takes the first one.


@pytest.mark.parametrize(
    "said",
    [
        {"x_pixel_size": 1e-4},
        {"x_pixel_size": 1, "x_pixel_size@units": "inch", "y_pixel_size": 1},
        {"x_pixel_size": "wide", "y_pixel_size": [1, 2]},
        {"pixel_mask": [[0, 1]], "energy": "red"},
        {"pixel_mask": "none"},
    ],
)
def test_what_cannot_be_understood_makes_no_field(said: dict[str, Any]) -> None:
    found = members(entry(FRAMES, instrument={"cam": said}), "instrument/cam")
    assert {"pixel_size", "mask"}.isdisjoint(found)


def test_what_the_program_says_stays() -> None:
    found = entry(FRAMES, instrument={"cam": {"shape": [9, 9]}})
    assert value_at(found, "instrument/cam/shape").tolist() == [9, 9]


def test_spectra_have_what_pymca_looks_for() -> None:
    energies = [500.0 + 10 * number for number in range(8)]
    found = entry(
        spectra("mca", "mca"),
        instrument={
            "mca": {"energy": energies, "energy@units": "eV", "count_time": 0.5}
        },
    )
    np.testing.assert_allclose(
        value_at(found, "instrument/mca/calibration"), [0.5, 0.01, 0]
    )
    assert value_at(found, "instrument/mca/channels").tolist() == list(range(8))
    assert value_at(found, "instrument/mca/preset_time") == 0.5

    said = {"calibration_offset": 5, "calibration_slope": 10}
    units = {f"{name}@units": "eV" for name in said}
    found = entry(spectra("mca", "mca"), instrument={"mca": {**said, **units}})
    np.testing.assert_allclose(
        value_at(found, "instrument/mca/calibration"), [0.005, 0.01, 0]
    )

    uneven = {"mca": {"energy": [number**2 for number in range(8)]}}
    found = entry(spectra("mca", "mca"), instrument=uneven)
    assert "calibration" not in members(found, "instrument/mca")


def test_originals_of_links_name_their_path() -> None:
    described = spectra("mca", "mca", nexus={"axes": ("energy",)})
    found = entry(described, instrument={"mca": {"energy": list(range(8))}})
    for path in ("instrument/mca/spectrum", "instrument/mca/energy", "plot_mca"):
        node = at(found, path)
        assert not isinstance(node, SoftLink | HardLink | ExternalLink)
        assert node.attributes["target"] == f"/1.1/{path}"


def test_a_target_of_the_metadata_makes_no_link() -> None:
    told = {"@target": "/x", "a": {"@target": "/x", "b": 1, "b@target": [1, 2]}}
    found = entry(channel("i0", "g", nexus={"attributes": {"target": "/x"}}), **told)
    assert found.attributes["target_2"] == "/x"
    for path in ("a", "a/b"):
        node = at(found, path)
        assert isinstance(node, Group | Dataset)
        assert "target" not in node.attributes
        assert "target_2" in node.attributes
    node = at(found, "instrument/i0/data")
    assert isinstance(node, CopiedDataset)
    assert node.attributes["target"] == "/1.1/instrument/i0/data"


def test_a_sequence_links_its_scans() -> None:
    found = entry(channel("i0", "g"), subscans={"2.1": "uid00000002", "@a": "b"})
    assert members(found, "subscans") == {
        "2.1": ExternalLink("../scan0002/scan0002.h5", "/scan0002_uid00000002/2.1")
    }


def test_a_sequence_is_no_part_of_itself() -> None:
    said = {"1.1": "uid00000001", "2.1": "uid00000002"}
    found = entry(channel("i0", "g"), subscans=said)
    assert members(found, "subscans")["1.1"] == Dataset("uid00000001")
    assert isinstance(members(found, "subscans")["2.1"], ExternalLink)


@pytest.mark.parametrize(
    "said", [{"2.1": "../../x"}, {"two": "uid00000002"}, {"2.1": 5}, "text", {}]
)
def test_what_names_no_scans_stays_metadata(said: Any) -> None:
    found = entry(channel("i0", "g"), subscans=said)
    node = at(found, "subscans")
    assert isinstance(node, Group | Dataset)
    links = node.children.values() if isinstance(node, Group) else ()
    assert not any(isinstance(link, ExternalLink) for link in links)


def test_a_master_lists_the_files_of_its_scan() -> None:
    found = entry(channel("i0", "g"), FRAMES)
    files = ("scan0001_values.h5", "cam_0000.h5")
    assert value_at(found, "scanbus/files") == files


def test_technique_and_subentries_stay_as_they_are_told() -> None:
    found = entry(
        channel("i0", "g"),
        technique={"scan": {"energy": 17.0, "energy@units": "keV"}},
        saxs={"@NX_class": "NXsubentry", "definition": "NXsas"},
    )
    technique, saxs = at(found, "technique"), at(found, "saxs")
    assert isinstance(technique, Group)
    assert isinstance(saxs, Group)
    assert (technique.nx_class or "NXcollection") == "NXcollection"
    assert saxs.nx_class == "NXsubentry"
    assert value_at(found, "saxs/definition") == "NXsas"
    energy = at(found, "technique/scan/energy")
    assert isinstance(energy, Dataset)
    assert energy.attributes == {"units": "keV"}
