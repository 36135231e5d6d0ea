"""Headers of DECTRIS detectors: mini-CBF ("PILATUS_1.2") and their TIFFs.

https://github.com/dectris/documentation
"""

from __future__ import annotations

import re
from typing import Any

from scanbus.publisher.gateways.files.headers.facts import (
    HeaderFacts,
    ScanAxis,
    instrument,
    nexus_name,
    with_units,
)
from scanbus.publisher.gateways.files.headers.keywords import (
    Keywords,
    Rule,
    first_number,
)

__all__ = ["read_dectris"]

_DATE = re.compile(r"\d{4}[-/]\w{2,3}[-/]\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?\S*")
_SENSOR = re.compile(r"(\w+) sensor,? *thickness *:? *([-+.\deE]+) *m")
_MATERIALS = {"silicon": "Si", "cadmium telluride": "CdTe", "gallium arsenide": "GaAs"}
_DETECTOR = (
    Rule(("exposure_time",), "count_time", "s"),
    Rule(("exposure_period",), "frame_time", "s"),
    Rule(("tau",), "dead_time", "s"),
    Rule(("threshold_setting",), "threshold_energy", "eV"),
    Rule(("detector_distance",), "distance", "m"),
)
# Angles and offsets that a header may state, which is also the name of the motor.
_ANGLES = ("omega", "phi", "kappa", "chi")
_MOTORS = (
    *((name, "deg") for name in (*_ANGLES, "alpha", "detector_2theta")),
    ("detector_voffset", "m"),
)
# How the sensor line looks as a keyword.
_SENSOR_WORDS = ("silicon", "cdte", "gaas", "cadmium", "gallium")


def read_dectris(text: str) -> HeaderFacts:
    """Return what the text of such a header says."""
    keywords = _keywords(text)
    model, _, serial = keywords.text("detector").partition(", S/N")
    detector = nexus_name(model)
    fields: dict[str, Any] = {}
    if model.strip():
        fields["description"] = model.strip()
    if serial.strip():
        fields["serial_number"] = serial.strip()
    fields |= _fields(keywords) | _sensor(text)
    beam = _beam(keywords)
    transmission = keywords.number("filter_transmission")
    axis = _axis(keywords)
    positioners = _positioners(keywords, axis)
    flux = keywords.number("flux")
    date = _DATE.search(text)
    rest = keywords.rest()
    return HeaderFacts(
        detector=detector,
        tree=instrument(
            detector,
            fields,
            text,
            rest,
            beam=beam,
            attenuator=with_units("attenuator_transmission", transmission, ""),
        ),
        positioners=positioners,
        axis=axis,
        counters={} if flux is None else {"flux": flux},
        date=date[0] if date else "",
        ends_after_s=keywords.number("exposure_time") or 0.0,
        keywords=rest,
        text=text,
        flags_pixels=True,
    )


def _keywords(text: str) -> Keywords:
    """Return the value of every keyword, the first one if it is repeated."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"\s*#?\s*([A-Za-z]\w*)\s*[:=]?\s*(.*?)\s*$", line)
        if match and match[2]:
            found.setdefault(match[1], match[2])
    return Keywords(found, _SENSOR_WORDS)


def _fields(keywords: Keywords) -> dict[str, Any]:
    fields = keywords.fields(_DETECTOR)
    sizes = keywords.numbers("pixel_size", 2)
    for name, value in zip(("x_pixel_size", "y_pixel_size"), sizes, strict=False):
        fields |= with_units(name, value, "m")
    center = keywords.numbers("beam_xy", 2)
    for name, value in zip(("beam_center_x", "beam_center_y"), center, strict=False):
        fields |= with_units(name, value, "pixel")
    cutoff = keywords.number("count_cutoff")
    if cutoff is not None:
        fields["saturation_value"] = int(cutoff)
    gain = keywords.text("gain_setting")
    return {**fields, "gain_setting": gain} if gain else fields


def _sensor(text: str) -> dict[str, Any]:
    """Return the sensor's material, in the spelling of NXmx, and its thickness."""
    found = _SENSOR.search(text)
    if not found:
        return {}
    material = _MATERIALS.get(found[1].lower(), found[1])
    thickness = with_units("sensor_thickness", first_number(found[2]), "m")
    return {"sensor_material": material, **thickness}


def _beam(keywords: Keywords) -> dict[str, Any]:
    wavelength = keywords.number("wavelength")
    if not wavelength:  # 0 if the beamline did not set it
        wavelength = None
    beam = with_units("incident_wavelength", wavelength, "angstrom")
    # Without units, as in the header.
    beam |= with_units("total_flux", keywords.number("flux"), "")
    polarization = keywords.number("polarization")
    if polarization is not None:
        # Intensity, horizontal, diagonal, circular; synchrotron beams are horizontal.
        beam["incident_polarization_stokes"] = [1.0, polarization, 0.0, 0.0]
    return beam


def _axis(keywords: Keywords) -> ScanAxis | None:
    """Return the rotation axis: the motor with the same start and increment."""
    start = keywords.number("start_angle")
    increment = keywords.number("angle_increment") or 0.0
    turns = {name: keywords.number(f"{name}_increment") or 0.0 for name in _ANGLES}
    if start is None:
        return None
    for name in _ANGLES:
        if keywords.number(name) == start and turns[name] == increment:
            return ScanAxis(name, start, increment)
    return ScanAxis("omega", start, increment)


def _positioners(
    keywords: Keywords, axis: ScanAxis | None
) -> dict[str, tuple[str, float]]:
    found = {}
    for name, units in _MOTORS:
        value = keywords.number(name)
        if value is not None:
            found[name] = (units, value)
    if axis is not None:
        found[axis.name] = (axis.units, axis.start)
    return found
