"""Headers of SMV files: ADSC, Rayonix, Rigaku's d*TREK and who else writes ``.img``.

Their beam centres are in mm, in pixels here. Which of both axes is x differs between
beamlines: it stays as the header has it.
"""

from __future__ import annotations

from typing import Any

from scanbus.publisher.gateways.files.headers.facts import (
    HeaderFacts,
    ScanAxis,
    instrument,
    nexus_name,
    with_units,
)
from scanbus.publisher.gateways.files.headers.keywords import Keywords, Rule

__all__ = ["STRUCTURE", "read_smv"]

STRUCTURE = frozenset(
    (
        "header_bytes",
        "dim",
        "byte_order",
        "type",
        "data_type",
        "size1",
        "size2",
        "compression",
    )
)
"""Keywords that say how the file is written."""

_DETECTOR = (
    Rule(("time", "exposure_time"), "count_time", "s"),
    Rule(("distance",), "distance", "m", 1e-3),
    Rule(("pixel_size",), "x_pixel_size", "m", 1e-3),
    Rule(("pixel_size",), "y_pixel_size", "m", 1e-3),
    Rule(("ccd_image_saturation", "saturated_value"), "saturation_value", ""),
)
_MOTORS = (
    ("omega", ("omega",)),
    ("phi", ("phi",)),
    ("kappa", ("kappa",)),
    ("chi", ("chi",)),
    ("two_theta", ("twotheta", "two_theta")),
)


def read_smv(keywords: Keywords, text: str) -> HeaderFacts:
    """Return what such a header says."""
    model = keywords.text("detector_model", "detector", "detector_names")
    serial = keywords.text("detector_sn")
    detector = nexus_name(model)
    fields: dict[str, Any] = {"description": model} if model else {}
    if serial:
        fields["serial_number"] = serial
    fields |= keywords.fields(_DETECTOR, positive=True)
    fields |= _center(keywords, fields.get("x_pixel_size"))
    axis = _axis(keywords)
    exposure = fields.get("count_time", 0.0)
    date = keywords.text("date", "dtrek_date_time")
    wavelength = _wavelength(keywords)
    positioners = _positioners(keywords, axis)
    rest = keywords.rest()
    return HeaderFacts(
        detector=detector,
        tree=instrument(
            detector,
            fields,
            text,
            rest,
            beam=with_units("incident_wavelength", wavelength, "angstrom"),
        ),
        positioners=positioners,
        axis=axis,
        date=date,
        ends_after_s=exposure,
        keywords=rest,
        text=text,
    )


def _wavelength(keywords: Keywords) -> float | None:
    # d*TREK has the number of wavelengths first.
    found = keywords.numbers("source_wavelength", 2)[1:]
    wavelength = keywords.number("wavelength") or next(iter(found), None)
    return wavelength or None


def _center(keywords: Keywords, pixel_m: float | None) -> dict[str, Any]:
    x, y = keywords.number("beam_center_x"), keywords.number("beam_center_y")
    if not pixel_m or not x or not y:
        return {}
    pixel_mm = pixel_m * 1e3
    return {
        **with_units("beam_center_x", float(f"{x / pixel_mm:.9g}"), "pixel"),
        **with_units("beam_center_y", float(f"{y / pixel_mm:.9g}"), "pixel"),
    }


def _axis(keywords: Keywords) -> ScanAxis | None:
    """Return the oscillation: of ADSC, or the rotation of d*TREK."""
    name = keywords.text("osc_axis", "axis", "rotation_axis_name")
    start, increment = keywords.number("osc_start"), keywords.number("osc_range")
    rotation = keywords.numbers("rotation", 3)
    if start is None and rotation:
        start, increment = rotation[0], rotation[2]
    if start is None:
        return None
    return ScanAxis(nexus_name(name, "phi"), start, increment or 0.0)


def _positioners(
    keywords: Keywords, axis: ScanAxis | None
) -> dict[str, tuple[str, float]]:
    found: dict[str, tuple[str, float]] = {}
    for name, names in _MOTORS:
        value = keywords.number(*names)
        if value is not None:
            found[name] = "deg", value
    if axis is not None:
        found[axis.name] = axis.units, axis.start
    return found
