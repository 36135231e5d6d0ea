"""What the headers of images become in NeXus."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from scanbus.publisher.gateways.files.headers import (
    HeaderFacts,
    ScanAxis,
    nexus_name,
    read_header,
)
from scanbus.publisher.gateways.files.masks import pixel_mask
from scanbus.schemas.metadata import MetadataTree
from scanbus.schemas.valid_names import NexusName

PILATUS = (
    "# Detector: PILATUS3 6M, S/N 60-0119\r\n"
    "# 2019-09-11T13:20:28.989\r\n"
    "# Pixel_size 172e-6 m x 173e-6 m\r\n"
    "# Silicon sensor, thickness 0.000450 m\r\n"
    "# Exposure_time 0.0190000 s\r\n"
    "# Exposure_period 0.0200000 s\r\n"
    "# Tau = 1697.2e-09 s\r\n"
    "# Count_cutoff 115897 counts\r\n"
    "# Threshold_setting: 6400 eV\r\n"
    "# Gain_setting: ultra high gain (vrf = -0.050)\r\n"
    "# Flat_field: (nil)\r\n"
    "# Wavelength 0.96859 A\r\n"
    "# Detector_distance 0.35100 m\r\n"
    "# Detector_Voffset 0.00000 m\r\n"
    "# Beam_xy (1261.61, 1306.96) pixels\r\n"
    "# Flux 1.396021\r\n"
    "# Filter_transmission 0.2547\r\n"
    "# Start_angle 89.9997 deg.\r\n"
    "# Angle_increment 0.1000 deg.\r\n"
    "# Polarization 0.990\r\n"
    "# Kappa 1.5000 deg.\r\n"
    "# Phi 12.0000 deg.\r\n"
    "# Phi_increment 0.0000 deg.\r\n"
    "# Omega 89.9997 deg.\r\n"
    "# Omega_increment 0.1000 deg.\r\n"
)


def facts_of(text: str) -> HeaderFacts:
    return read_header({"_array_data.header_contents": text})


def test_a_pilatus_header_describes_the_detector() -> None:
    facts = facts_of(PILATUS)
    detector = facts.tree["instrument"]["pilatus3_6m"]
    assert facts.detector == "pilatus3_6m"
    header = detector.pop("header")
    assert detector == {
        "@NX_class": "NXdetector",
        "description": "PILATUS3 6M",
        "serial_number": "60-0119",
        "count_time": 0.019,
        "count_time@units": "s",
        "frame_time": 0.02,
        "frame_time@units": "s",
        "dead_time": 1.6972e-06,
        "dead_time@units": "s",
        "threshold_energy": 6400.0,
        "threshold_energy@units": "eV",
        "distance": 0.351,
        "distance@units": "m",
        "x_pixel_size": 172e-6,
        "x_pixel_size@units": "m",
        "y_pixel_size": 173e-6,
        "y_pixel_size@units": "m",
        "beam_center_x": 1261.61,
        "beam_center_x@units": "pixel",
        "beam_center_y": 1306.96,
        "beam_center_y@units": "pixel",
        "saturation_value": 115897,
        "gain_setting": "ultra high gain (vrf = -0.050)",
        "sensor_material": "Si",
        "sensor_thickness": 0.00045,
        "sensor_thickness@units": "m",
    }
    assert "Gain_setting: ultra high gain" in header["data"]


def test_a_pilatus_header_describes_beam_and_attenuator() -> None:
    instrument = facts_of(PILATUS).tree["instrument"]
    assert instrument["beam"] == {
        "@NX_class": "NXbeam",
        "incident_wavelength": 0.96859,
        "incident_wavelength@units": "angstrom",
        "total_flux": 1.396021,
        "incident_polarization_stokes": [1.0, 0.99, 0.0, 0.0],
    }
    assert instrument["attenuator"]["attenuator_transmission"] == 0.2547


def test_what_changes_from_frame_to_frame_is_told_apart() -> None:
    facts = facts_of(PILATUS)
    assert facts.axis == ScanAxis("omega", 89.9997, 0.1)
    assert facts.counters == {"flux": 1.396021}
    assert facts.date == "2019-09-11T13:20:28.989"
    assert facts.positioners["kappa"] == ("deg", 1.5)
    assert facts.positioners["omega"] == ("deg", 89.9997)
    assert facts.positioners["detector_voffset"] == ("m", 0.0)


def test_the_axis_is_the_motor_that_turns_like_the_frames() -> None:
    text = "# Start_angle 5 deg.\n# Angle_increment 0.2 deg.\n"
    text += "# Omega 5 deg.\n# Omega_increment 0.0 deg.\n"
    text += "# Phi 5 deg.\n# Phi_increment 0.2 deg.\n"
    assert facts_of(text).axis == ScanAxis("phi", 5.0, 0.2)
    assert facts_of("# Start_angle 3 deg.").axis == ScanAxis("omega", 3.0, 0.0)


@pytest.mark.parametrize(
    ("line", "material", "thickness"),
    [
        ("# Silicon sensor, thickness 0.000320 m", "Si", 0.00032),
        ("# CdTe sensor, thickness 0.001000 m", "CdTe", 0.001),
        ("# GaAs sensor, thickness 0.000500 m", "GaAs", 0.0005),
    ],
)
def test_sensor_material_is_spelled_as_readers_want_it(
    line: str, material: str, thickness: float
) -> None:
    detector = facts_of(line).tree["instrument"]["detector"]
    assert detector["sensor_material"] == material
    assert detector["sensor_thickness"] == thickness


@pytest.mark.parametrize(
    "text",
    [
        "# Wavelength (nil) A",
        "# Wavelength 0.00000 A",
        "# Wavelength",
        "# Beam_xy (nil)",
        "# Count_cutoff many",
        "# Start_angle not implemented",
        "# foo",
        "#",
        "\0\0",
    ],
)
def test_a_value_that_says_nothing_is_left_out(text: str) -> None:
    facts = facts_of("# Detector: X\n" + text)
    assert facts.axis is None
    assert "beam" not in facts.tree["instrument"]
    assert set(facts.tree["instrument"]["x"]) == {
        "@NX_class",
        "description",
        "header",
    }


def test_a_pilatus_tiff_speaks_the_same_dialect() -> None:
    header = {
        "Pixel_size": "172e-6 m x 172e-6 m",
        "Silicon": "sensor, thickness 0.000320 m",
        "Exposure_time": "90.000000 s",
        "Tau": "0 s",
    }
    detector = read_header(header).tree["instrument"]["detector"]
    assert detector["x_pixel_size"] == 172e-6
    assert detector["sensor_material"] == "Si"
    assert detector["count_time"] == 90.0


def test_an_edf_header_gives_motors_counters_and_date() -> None:
    facts = read_header(
        {
            "Dim_1": "500",
            "motor_mne": "th phi 2th broken",
            "motor_pos": "1.5 -2.5e1 7 nan",
            "counter_mne": "i0 diode",
            "counter_pos": "100 200",
            "time_of_day": "1568200828.989",
            "Count_time": "0.5",
        }
    )
    assert facts.positioners == {"th": ("", 1.5), "phi": ("", -25.0), "2th": ("", 7.0)}
    assert facts.counters == {"i0": 100.0, "diode": 200.0}
    assert facts.date == "1568200828.989"
    assert facts.tree["instrument"]["detector"]["count_time"] == 0.5


def test_an_edf_header_as_pyfai_reads_it_gives_geometry() -> None:
    facts = read_header(
        {
            "Dim_1": "500",
            "SampleDistance": "1.25",
            "PSize_1": "8.8e-05",
            "WaveLength": "9.95e-11",
            "Center_1": "250.5",
            "camera_model": "Eiger2 4M",
        }
    )
    assert facts.detector == "eiger2_4m"
    instrument = facts.tree["instrument"]
    assert instrument["beam"]["incident_wavelength"] == pytest.approx(0.995)
    assert instrument["eiger2_4m"]["distance"] == 1.25
    assert instrument["eiger2_4m"]["beam_center_x"] == 250.5


def test_an_unknown_dialect_is_kept_as_text() -> None:
    facts = read_header({"nRows": 600, "software": "camera\0", "info": {}})
    note = facts.tree["instrument"]["detector"]["header"]
    assert "software = camera" in note["data"]
    assert "\0" not in note["data"]


def test_no_header_is_no_problem() -> None:
    assert read_header({}).detector == "detector"


def taken_by_the_bus(tree: Any) -> Any:
    """What the bus makes of metadata: an error if it does not take them."""
    return TypeAdapter(MetadataTree).validate_python(tree)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=80), max_size=8))
def test_any_header_becomes_metadata_that_the_bus_takes(header: dict[str, str]) -> None:
    tree = read_header({"Dim_1": "5", **header}).tree
    assert taken_by_the_bus(tree) == tree


@pytest.mark.parametrize(
    "mark",
    [
        {"HEADER_BYTES": "512"},
        {"start_phi": 0, "xtal_to_detector": 0, "source_wavelength": 0},
        {"StartPhi": 0.0, "EndPhi": 0.0, "PixelLength": 0.1},
        {"FORMAT": "100", "HDRBLKS": 5, "NROWS": "64"},
        {"Omega start in deg": 0.0, "Omega end in deg": 0.0},
        {"ESPERANTO FORMAT": "1"},
        {"imageDescription": "a = 5\n=\nb"},
    ],
)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=80), max_size=4))
def test_any_header_of_other_dialects_becomes_metadata_that_the_bus_takes(
    mark: dict[str, Any], header: dict[str, str]
) -> None:
    facts = read_header({**mark, **header})
    assert taken_by_the_bus(facts.tree) == facts.tree
    for value in facts.values().values():
        TypeAdapter(NexusName).validate_python(value.name)


@given(st.text(max_size=400))
def test_any_text_in_a_cbf_becomes_metadata_that_the_bus_takes(text: str) -> None:
    facts = facts_of("# Detector: " + text + "\n# " + text)
    assert taken_by_the_bus(facts.tree) == facts.tree


@given(st.text(max_size=200))
def test_any_text_becomes_a_nexus_name(text: str) -> None:
    name = nexus_name(text)
    assert TypeAdapter(NexusName).validate_python(name) == name


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
def test_flags_become_a_pixel_mask(dtype: str) -> None:
    frame = np.array([[5, -1, 0], [-2, 9, -3]], dtype=dtype)
    mask = pixel_mask(frame)
    assert mask is not None
    assert mask.dtype == np.uint32
    assert mask.tolist() == [[0, 1, 0], [2, 0, 2]]


@pytest.mark.parametrize(
    "frame", [np.zeros((2, 2), "int32"), np.ones((2, 2), "uint16"), -np.ones((2, 2))]
)
def test_a_frame_without_flags_has_no_mask(frame: Any) -> None:
    assert pixel_mask(frame) is None
