"""NeXus fields of what a detector says about itself when a series starts.

Keys are those of the SIMPLON API: of its configuration, which stream V1 sends and MAX
IV's senders forward in part, and of stream V2 with what Jungfraujoch adds.

Values are untrusted: what is no finite number or short text is left out. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from scanbus.publisher.gateways.runner.messages import SeriesStarted

__all__ = ["KEYS_V1", "described_v1", "described_v2", "plain_value"]

_MAX_TEXT = 1024
_MAX_FRAMES = 2**40
# Key of the header, name in NXdetector, units. Units are those of the SIMPLON API.
_DETECTOR_V1 = (
    ("beam_center_x", "beam_center_x", "pixel"),
    ("beam_center_y", "beam_center_y", "pixel"),
    ("bit_depth_image", "bit_depth_image", ""),
    ("bit_depth_readout", "bit_depth_readout", ""),
    ("count_time", "count_time", "s"),
    ("countrate_correction_applied", "countrate_correction_applied", ""),
    ("countrate_correction_count_cutoff", "saturation_value", ""),
    ("description", "description", ""),
    ("detector_distance", "distance", "m"),
    ("detector_number", "serial_number", ""),
    ("detector_readout_time", "detector_readout_time", "s"),
    ("eiger_fw_version", "eiger_fw_version", ""),
    ("flatfield_correction_applied", "flatfield_applied", ""),
    ("frame_time", "frame_time", "s"),
    ("ntrigger", "ntrigger", ""),
    ("pixel_mask_applied", "pixel_mask_applied", ""),
    ("sensor_material", "sensor_material", ""),
    ("sensor_thickness", "sensor_thickness", "m"),
    ("software_version", "software_version", ""),
    ("threshold_energy", "threshold_energy", "eV"),
    ("virtual_pixel_correction_applied", "virtual_pixel_interpolation_applied", ""),
    ("x_pixel_size", "x_pixel_size", "m"),
    ("y_pixel_size", "y_pixel_size", "m"),
)
_DETECTOR_V2 = (
    ("beam_center_x", "beam_center_x", "pixel"),
    ("beam_center_y", "beam_center_y", "pixel"),
    ("count_time", "count_time", "s"),
    ("countrate_correction_enabled", "countrate_correction_applied", ""),
    ("detector_description", "description", ""),
    ("detector_distance", "distance", "m"),
    ("detector_serial_number", "serial_number", ""),
    ("error_value", "error_value", ""),
    ("flatfield_enabled", "flatfield_applied", ""),
    ("frame_time", "frame_time", "s"),
    ("pixel_mask_enabled", "pixel_mask_applied", ""),
    ("pixel_size_x", "x_pixel_size", "m"),
    ("pixel_size_y", "y_pixel_size", "m"),
    ("saturation_value", "saturation_value", ""),
    ("sensor_material", "sensor_material", ""),
    ("sensor_thickness", "sensor_thickness", "m"),
    ("virtual_pixel_interpolation_enabled", "virtual_pixel_interpolation_applied", ""),
)
_AXES = ("omega", "chi", "kappa", "phi", "two_theta")
# Of the configuration of stream V1: what is read of it.
KEYS_V1 = (
    *(key for key, _, _ in _DETECTOR_V1),
    *("nimages", "photon_energy", "wavelength"),
    *(f"{axis}_{what}" for axis in _AXES for what in ("start", "increment")),
)

Arrays = Mapping[str, npt.NDArray[Any]]


def plain_value(value: object) -> str | float | int | bool | None:
    """Return a finite number or a short text; None for anything else.

    Examples
    --------
    >>> plain_value(0.5), plain_value("Si"), plain_value([1]), plain_value(float("nan"))
    (0.5, 'Si', None, None)
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None


def _fields(
    given: Mapping[str, Any], table: tuple[tuple[str, str, str], ...]
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, name, units in table:
        value = plain_value(given.get(key))
        if value is None:
            continue
        fields[name] = value
        if units:
            fields[f"{name}@units"] = units
    return fields


def _number(value: object) -> float | None:
    found = plain_value(value)
    return None if found is None or isinstance(found, str | bool) else float(found)


def _beam(energy: object, wavelength: object) -> dict[str, Any]:
    """Return the group of the beam; zeros mean that nobody set them."""
    fields: dict[str, Any] = {}
    for name, value, units in (
        ("incident_energy", _number(energy), "eV"),
        ("incident_wavelength", _number(wavelength), "angstrom"),
    ):
        if value:
            fields |= {name: value, f"{name}@units": units}
    return {"instrument": {"beam": fields}} if fields else {}


def _goniometer(axes: Iterator[tuple[str, float | None, float | None]]) -> Any:
    fields: dict[str, Any] = {}
    for name, start, increment in axes:
        if start is not None:
            fields |= {name: start, f"{name}@units": "deg"}
        if increment is not None:
            key = f"{name}_increment_set"
            fields |= {key: increment, f"{key}@units": "deg"}
    return {"sample": {"goniometer": fields}} if fields else {}


# ----------------------------------------------------------------------- stream V1


def described_v1(
    series: str, config: Mapping[str, Any], arrays: Arrays
) -> SeriesStarted:
    """Return the start of a series, given the detector's configuration.

    Parameters
    ----------
    series : str
        Name of the series.
    config : mapping
        Part 2 of the header, or what the REST interface says; may be empty.
    arrays : mapping
        Flat field, pixel mask and table of count rates, as far as they were sent.
    """
    axes = (
        (name, _number(config.get(f"{name}_start")), _increment_v1(config, name))
        for name in _AXES
    )
    beam = _beam(config.get("photon_energy"), config.get("wavelength"))
    return SeriesStarted(
        series,
        n_frames=_n_frames_v1(config),
        fields={**_fields(config, _DETECTOR_V1), **arrays},
        metadata={**beam, **_goniometer(axes)},
    )


def _increment_v1(config: Mapping[str, Any], axis: str) -> float | None:
    return _number(config.get(f"{axis}_increment"))


def _n_frames_v1(config: Mapping[str, Any]) -> int | None:
    """Return the number of images: of each trigger, times the number of triggers."""
    images, triggers = config.get("nimages"), config.get("ntrigger", 1)
    if type(images) is not int or type(triggers) is not int:
        return None
    return _count(images * triggers) if 0 < triggers <= _MAX_FRAMES else None


def _count(number: object) -> int | None:
    return number if type(number) is int and 0 < number <= _MAX_FRAMES else None


# ----------------------------------------------------------------------- stream V2


def described_v2(
    series: str, given: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]]
) -> SeriesStarted:
    """Return the start of a series, given the `start` message.

    Parameters
    ----------
    series : str
        Name of the series.
    given : mapping
        The message; unknown keys are skipped.
    arrays : mapping
        Channel to its flat field, mask and threshold; the empty name for all channels.
    """
    goniometer = given.get("goniometer")
    axes = goniometer if isinstance(goniometer, Mapping) else {}
    described = (
        (name, _number(axis.get("start")), _number(axis.get("increment")))
        for name, axis in axes.items()
        if name in _AXES and isinstance(axis, Mapping)
    )
    beam = _beam(given.get("incident_energy"), given.get("incident_wavelength"))
    key = plain_value(given.get("series_unique_id"))
    times = {"arm_date": plain_value(given.get("arm_date"))}
    fields = {name: value for name, value in times.items() if value is not None}
    return SeriesStarted(
        series,
        key=key if isinstance(key, str) else "",
        n_frames=_count(given.get("number_of_images")),
        fields={**_fields(given, _DETECTOR_V2), **fields, **arrays.get("", {})},
        channel_fields={name: each for name, each in arrays.items() if name},
        metadata={**beam, **_goniometer(described), **_user_data(given)},
    )


def _user_data(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the user had the detector send along, if it is a plain value."""
    found = plain_value(given.get("user_data"))
    return {} if found is None else {"user_data": found}
