"""Pairs of NXmx files as trees: nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from scanbus.schemas import Positioner, Role, Storage
from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.esrf import view_of
from scanbus.writer.layouts.nxmx import NXMX
from scanbus.writer.layouts.profile import Master
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.nexus_tree import (
    CopiedArray,
    Dataset,
    ExternalLink,
    Group,
    HardLink,
    Node,
    VirtualDataset,
)
from scanbus.writer.model.scan_contents import (
    ScanContents,
    SegmentFile,
    data_path,
    linked_path,
)
from scanbus.writer.model.value_files import StoredArray, ValueFile
from tests.support.scan_folders import channel, identity, lane, record

STAMP = FileStamp("2024-01-31T00:00:00+01:00", "1", "1.14.6", "3.13")
SHAPE = (6, 8)
LINKING, MAPPING = "scan0003_master.h5", "scan0003.nxs"
DETECTOR = "entry/instrument/detector"
DEVICE: dict[str, Any] = {
    "distance": 250.0,
    "distance@units": "mm",
    "x_pixel_size": 75e-6,
    "x_pixel_size@units": "m",
    "y_pixel_size": 100e-6,
    "y_pixel_size@units": "m",
    "beam_center_x": 4.0,
    "beam_center_y": 2.5,
    "sensor_material": "Silicon",
    "sensor_thickness": 450.0,
    "sensor_thickness@units": "um",
    "saturation_value": 1000,
}
BEAM = {"incident_wavelength": 0.9, "incident_wavelength@units": "angstrom"}
EVEN = {"eiger": (SegmentFile("eiger_0000.h5", 0, 10),)}


def frames_of(name: str, **said: Any) -> Any:
    described = {"dtype": "uint32", "shape": SHAPE, "codec": "bitshuffle-lz4", **said}
    return channel(name, name, role=Role.DETECTOR, **described)


def contents_of(
    *,
    device: dict[str, Any] = DEVICE,
    beam: dict[str, Any] = BEAM,
    detectors: tuple[Any, ...] = (),
    axes: dict[str, Any] | None = None,
    segments: Mapping[str, tuple[SegmentFile, ...]] = EVEN,
    is_over: bool = True,
    more: dict[str, Any] | None = None,
    positioners: dict[str, Positioner] | None = None,
    **instrument: Any,
) -> ScanContents:
    """Return a scan of ten frames; axes are names with their positions."""
    axes = axes or {}
    detectors = detectors or (frames_of("eiger"),)
    scanned = [channel(name, "axes", role=Role.AXIS, units="deg") for name in axes]
    lanes = [lane(each.name, Storage.FILES, each) for each in detectors]
    if scanned:
        lanes.insert(0, lane("axes", Storage.VALUES, *scanned))
    metadata = {"instrument": {"eiger": device, "beam": beam, **instrument}}
    scan = record(
        identity(3),
        lanes=tuple(lanes),
        metadata={**metadata, **(more or {})},
        positioners=positioners or {},
        plots=(),
    )
    if not is_over:
        scan.ended = scan.verdict = None
    arrays = {data_path(lanes[0], each): StoredArray((10,), 80) for each in scanned}
    values = "scan0003_values.h5"
    positions = {name: np.asarray(found, float) for name, found in axes.items()}
    return ScanContents(
        scan,
        segments,
        values if scanned else None,
        values=(ValueFile(values, arrays),) if scanned else (),
        positions=positions,
    )


def masters_of(contents: ScanContents) -> dict[str, Master]:
    view = view_of(contents, STAMP)
    masters = dict(NXMX.masters(view))
    assert tuple(masters) == NXMX.naming(view)
    return masters


def at(master: Master, path: str) -> Node:
    node: Node = Group("NXroot", children=master.children)
    for name in path.split("/"):
        assert isinstance(node, Group), path
        node = node.children[name]
    return node


def value(master: Master, path: str) -> Any:
    node = at(master, path)
    assert isinstance(node, Dataset), path
    return node.value


def names(master: Master, path: str) -> list[str]:
    node = at(master, path)
    assert isinstance(node, Group)
    return list(node.children)


def test_one_file_links_the_data_files_and_one_maps_their_frames() -> None:
    segments = {
        "eiger": (
            SegmentFile("eiger_0000.h5", 0, 10),
            SegmentFile("eiger_0001.h5", 10, 13),
        )
    }
    contents = contents_of(segments=segments)
    masters = masters_of(contents)
    assert names(masters[LINKING], "entry/data") == ["data_000001", "data_000002"]
    for number in (0, 1):
        link = at(masters[LINKING], f"entry/data/data_{number + 1:06}")
        file = f"eiger_{number:04}.h5"
        assert isinstance(link, ExternalLink)
        assert link.file == file
        uid = contents.record.uid
        inside = "/entry_0000/measurement/data"
        assert link.path == linked_path(file, uid, inside)
    assert names(masters[MAPPING], "entry/data") == ["data"]
    data = at(masters[MAPPING], "entry/data/data")
    assert isinstance(data, VirtualDataset)
    assert data.shape == (13, *SHAPE)
    assert [source.file for source in data.sources] == [
        "eiger_0000.h5",
        "eiger_0001.h5",
    ]
    assert masters[LINKING].missing == masters[MAPPING].missing == ()


def test_the_frames_are_the_first_data_that_a_reader_meets() -> None:
    for master in masters_of(contents_of()).values():
        entry = at(master, "entry")
        assert isinstance(entry, Group)
        first = next(
            name
            for name, node in entry.children.items()
            if isinstance(node, Group) and node.nx_class == "NXdata"
        )
        assert first == entry.attributes["default"] == "data"


def test_several_detectors_have_a_pair_each() -> None:
    contents = contents_of(
        detectors=(frames_of("eiger"), frames_of("cam", dtype="uint16")),
        segments={**EVEN, "cam": (SegmentFile("cam_0000.h5", 0, 10),)},
    )
    masters = masters_of(contents)
    assert sorted(masters) == [
        "scan0003_cam.nxs",
        "scan0003_cam_master.h5",
        "scan0003_eiger.nxs",
        "scan0003_eiger_master.h5",
    ]
    assert masters["scan0003_eiger.nxs"].missing == ()
    # Of this one nobody said where it stands.
    assert "instrument/cam/distance" in masters["scan0003_cam.nxs"].missing


@pytest.mark.parametrize("shape", [(16,), (6, 8, 3)])
def test_a_scan_without_two_dimensional_frames_has_no_pair(
    shape: tuple[int, ...],
) -> None:
    contents = contents_of(detectors=(frames_of("mca", shape=shape),))
    with pytest.raises(LayoutError, match="no detector of two-dimensional frames"):
        masters_of(contents)


def test_a_scan_without_frames_yet_says_what_it_will_lack() -> None:
    masters = masters_of(contents_of(segments={}, is_over=False))
    for master in masters.values():
        assert master.missing == ("frames",)
        assert names(master, "entry/data") == []


@pytest.mark.parametrize(
    ("lengths", "is_told"),
    [([10, 10], False), ([10, 10, 3], False), ([10, 3, 10], True), ([3, 10], True)],
)
def test_files_of_uneven_length_are_told_to_whoever_uses_xds(
    lengths: list[int], *, is_told: bool
) -> None:
    ends = np.cumsum(lengths)
    files = tuple(
        SegmentFile(f"eiger_{number:04}.h5", int(end - length), int(end))
        for number, (end, length) in enumerate(zip(ends, lengths, strict=True))
    )
    master = masters_of(contents_of(segments={"eiger": files}))[LINKING]
    assert bool(master.remarks) is is_told


# ------------------------------------------------------------------------ geometry


def test_the_corner_of_the_detector_follows_from_the_beam_centre() -> None:
    for master in masters_of(contents_of()).values():
        assert value(master, f"{DETECTOR}/distance") == pytest.approx(0.25)
        module = f"{DETECTOR}/module"
        offset = at(master, f"{module}/module_offset")
        fast = at(master, f"{module}/fast_pixel_direction")
        slow = at(master, f"{module}/slow_pixel_direction")
        assert isinstance(offset, Dataset)
        assert isinstance(fast, Dataset)
        assert isinstance(slow, Dataset)
        assert offset.attributes["offset"] == pytest.approx([3e-4, 2.5e-4, 0])
        assert offset.attributes["depends_on"] == value(
            master, f"{DETECTOR}/depends_on"
        )
        # The beam meets the detector where the corner and so many pixels lead.
        beam = np.asarray(offset.attributes["offset"])
        for pixels, step in ((4.0, fast), (2.5, slow)):
            vector = np.asarray(step.attributes["vector"])
            beam = beam + pixels * np.asarray(step.value) * vector
        np.testing.assert_allclose(beam, 0, atol=1e-12)
        assert value(master, f"{module}/data_size").tolist() == list(SHAPE)


@pytest.mark.parametrize("name", ["distance", "x_pixel_size", "beam_center_y"])
def test_without_a_part_of_the_geometry_there_is_no_definition(name: str) -> None:
    device = {
        key: each for key, each in DEVICE.items() if key.partition("@")[0] != name
    }
    for master in masters_of(contents_of(device=device)).values():
        assert master.missing == (f"instrument/eiger/{name}",)
        assert "definition" not in names(master, "entry")
        assert "module" not in names(master, DETECTOR)


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ({"distance": 250.0}, "instrument/eiger/distance@units"),
        (
            {"distance": 1.0, "distance@units": "s"},
            "instrument/eiger/distance (no number that is one in m)",
        ),
        (
            {"distance": 0.0, "distance@units": "m"},
            "instrument/eiger/distance (it is not above 0)",
        ),
        ({"sensor_thickness": 450}, "instrument/eiger/sensor_thickness@units"),
    ],
)
def test_a_length_that_nobody_can_use_is_missing(
    said: dict[str, Any], missing: str
) -> None:
    (name,) = {key.partition("@")[0] for key in said}
    others = {key: one for key, one in DEVICE.items() if key.partition("@")[0] != name}
    for master in masters_of(contents_of(device={**others, **said})).values():
        assert master.missing == (missing,)


def test_a_material_that_dxtbx_does_not_know_is_named() -> None:
    device = {**DEVICE, "sensor_material": "Diamond"}
    (missing,) = masters_of(contents_of(device=device))[MAPPING].missing
    assert "sensor_material" in missing
    assert "Diamond" in missing


@pytest.mark.parametrize(
    ("beam", "monochromator"),
    [
        ({"incident_energy": 12.398419843, "incident_energy@units": "keV"}, {}),
        ({"incident_wavelength": 0.1, "incident_wavelength@units": "nm"}, {}),
        ({}, {"energy": 12398.419843, "energy@units": "eV"}),
        ({}, {"wavelength": 1.0, "wavelength@units": "angstrom"}),
        (
            {"incident_wavelength": 0.0},
            {"wavelength": 1.0, "wavelength@units": "angstrom"},
        ),
    ],
)
def test_the_wavelength_is_in_angstrom_whoever_says_it(
    beam: dict[str, Any], monochromator: dict[str, Any]
) -> None:
    contents = contents_of(beam=beam, monochromator=monochromator)
    for master in masters_of(contents).values():
        node = at(master, "entry/instrument/beam/incident_wavelength")
        assert isinstance(node, Dataset)
        assert node.value == pytest.approx(1.0)
        assert node.attributes["units"] == "angstrom"


def test_a_mask_is_once_in_the_file_that_xds_reads() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, 2] = 1
    contents = contents_of(device={**DEVICE, "pixel_mask": mask.tolist()})
    masters = masters_of(contents)
    path = f"{DETECTOR}/detectorSpecific/pixel_mask"
    copy = at(masters[LINKING], path)
    assert isinstance(copy, CopiedArray)
    assert copy.is_contiguous
    assert copy.dtype == np.uint32
    assert at(masters[LINKING], f"{DETECTOR}/pixel_mask") == HardLink(f"/{path}")
    mapped = at(masters[MAPPING], f"{DETECTOR}/pixel_mask")
    assert isinstance(mapped, CopiedArray)
    assert not mapped.is_contiguous
    assert isinstance(mapped.source, Dataset)
    np.testing.assert_array_equal(mapped.source.value, mask)


@pytest.mark.parametrize("mask", [None, [[0, 1], [0, 0]], "bad pixels"])
def test_without_a_mask_that_fits_all_pixels_are_good(mask: Any) -> None:
    device = DEVICE if mask is None else {**DEVICE, "pixel_mask": mask}
    masters = masters_of(contents_of(device=device))
    node = at(masters[LINKING], f"{DETECTOR}/detectorSpecific/pixel_mask")
    assert isinstance(node, CopiedArray)
    assert isinstance(node.source, Dataset)
    assert not np.any(node.source.value)
    assert np.shape(node.source.value) == SHAPE
    for master in masters.values():
        assert "pixel_mask" not in names(master, DETECTOR)


# ---------------------------------------------------------------- rotation and times


def angles(contents: ScanContents, name: str = "omega") -> tuple[Any, Any]:
    """Return start and end of each frame's rotation, in the file of DIALS."""
    master = masters_of(contents)[MAPPING]
    path = "entry/sample/transformations"
    assert value(master, "entry/sample/depends_on") == f"/{path}/{name}"
    return value(master, f"{path}/{name}"), value(master, f"{path}/{name}_end")


def test_a_detector_that_was_told_of_a_rotation_has_its_angles() -> None:
    gonio = {
        "chi": 45.0,
        "chi@units": "deg",
        "chi_increment_set": 0.0,
        "phi": 10.0,
        "phi@units": "deg",
        "phi_increment_set": 0.5,
        "phi_increment_set@units": "deg",
    }
    contents = contents_of(more={"sample": {"name": "s", "goniometer": gonio}})
    start, end = angles(contents, "phi")
    np.testing.assert_allclose(start, 10 + 0.5 * np.arange(10))
    np.testing.assert_allclose(end, 10.5 + 0.5 * np.arange(10))


def test_a_motor_that_stands_still_turns_by_nothing() -> None:
    still = {"omega": Positioner(value=89.5, units="deg")}
    start, end = angles(contents_of(positioners=still))
    np.testing.assert_array_equal(start, np.full(10, 89.5))
    np.testing.assert_array_equal(end, start)


def test_without_an_axis_the_sample_depends_on_nothing() -> None:
    for master in masters_of(contents_of()).values():
        assert value(master, "entry/sample/depends_on") == "."


def test_the_axis_that_moves_turns_the_sample() -> None:
    contents = contents_of(axes={"chi": np.zeros(10), "omega": np.arange(10) / 4})
    master = masters_of(contents)[MAPPING]
    path = "entry/sample/transformations/omega"
    assert value(master, "entry/sample/depends_on") == f"/{path}"
    # The width of a frame is the step from one to the next.
    np.testing.assert_allclose(value(master, f"{path}_end"), np.arange(1, 11) / 4)


def test_an_angle_of_anything_is_no_rotation_unless_it_is_named() -> None:
    axes = {"mono": np.arange(10.0)}
    master = masters_of(contents_of(axes=axes))[MAPPING]
    assert value(master, "entry/sample/depends_on") == "."
    other = masters_of(contents_of(axes=axes))[LINKING]
    assert any("mono is not taken for the rotation" in each for each in other.remarks)
    named = {"technique": {"nxmx": {"rotation": "mono"}}}
    master = masters_of(contents_of(axes=axes, more=named))[MAPPING]
    path = "entry/sample/transformations/mono"
    assert value(master, "entry/sample/depends_on") == f"/{path}"


def test_uneven_steps_have_no_end_that_anybody_could_compute() -> None:
    uneven = np.array([0, 1, 3, 4, 7, 8, 9, 10, 11, 15.0])
    master = masters_of(contents_of(axes={"omega": uneven}))[MAPPING]
    assert names(master, "entry/sample/transformations") == ["omega"]


def test_the_end_is_estimated_by_the_frames_that_were_declared() -> None:
    device = {**DEVICE, "frame_time": 20.0, "frame_time@units": "ms"}
    contents = contents_of(
        device=device,
        detectors=(frames_of("eiger", points=500),),
        more={"start_time": "2024-01-31T01:00:00+01:00"},
        is_over=False,
    )
    for master in masters_of(contents).values():
        assert value(master, "entry/start_time") == "2024-01-31T00:00:00Z"
        assert value(master, "entry/end_time_estimated") == "2024-01-31T00:00:10Z"
        assert "end_time" not in names(master, "entry")


def test_the_end_of_what_has_no_length_is_estimated_as_its_start() -> None:
    for master in masters_of(contents_of(is_over=False)).values():
        start = value(master, "entry/start_time")
        assert start.endswith("Z")
        assert value(master, "entry/end_time_estimated") == start


def test_the_end_replaces_its_estimate() -> None:
    for master in masters_of(contents_of()).values():
        end = value(master, "entry/end_time")
        assert end.endswith("Z")
        assert value(master, "entry/end_time_estimated") == end


def test_times_without_a_zone_stay_and_are_told() -> None:
    contents = contents_of(more={"start_time": "2024-01-31T01:00:00"})
    master = masters_of(contents)[LINKING]
    assert value(master, "entry/start_time") == "2024-01-31T01:00:00"
    assert any("no time zone" in remark for remark in master.remarks)


def test_the_source_is_the_beamline_if_nobody_names_it() -> None:
    assert value(masters_of(contents_of())[MAPPING], "entry/source/name") == "id00"
    source = {"@NX_class": "NXsource", "name": "Ring"}
    named = contents_of(source=source)
    assert value(masters_of(named)[MAPPING], "entry/source/name") == "Ring"


def test_triggers_divide_the_frames_only_if_they_can() -> None:
    path = f"{DETECTOR}/detectorSpecific"
    for given, n_triggers in ((5, 5), (3, 1), (0, 1)):
        contents = contents_of(device={**DEVICE, "ntrigger": given})
        master = masters_of(contents)[LINKING]
        assert value(master, f"{path}/ntrigger") == n_triggers
        assert value(master, f"{path}/nimages") == 10 // n_triggers
