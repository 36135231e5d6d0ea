"""Headers of the ESRF data format, as SPEC, LImA, Bliss, pyFAI and ID02 write them."""

from __future__ import annotations

from typing import Any

from scanbus.publisher.gateways.files.headers.facts import (
    HeaderFacts,
    instrument,
    nexus_name,
    with_units,
)
from scanbus.publisher.gateways.files.headers.keywords import (
    Keywords,
    Rule,
    first_number,
)
from scanbus.schemas.valid_names import unique_name

__all__ = ["STRUCTURE", "read_edf"]

STRUCTURE = frozenset(
    (
        "edf_datablockid",
        "edf_binarysize",
        "edf_headersize",
        "edf_dataformatversion",
        "edf_blockboundary",
        "headerid",
        "byteorder",
        "datatype",
        "dim_1",
        "dim_2",
        "dim_3",
        "size",
        "image",
        "compression",
    )
)
"""Keywords that say how the file is written."""

_DETECTOR = (
    Rule(("exposuretime", "count_time", "acq_expo_time"), "count_time", "s"),
    Rule(("sampledistance",), "distance", "m"),
    Rule(("psize_1",), "x_pixel_size", "m"),
    Rule(("psize_2",), "y_pixel_size", "m"),
    Rule(("center_1",), "beam_center_x", "pixel"),
    Rule(("center_2",), "beam_center_y", "pixel"),
)
_MODELS = ("detectormodelname", "camera_model", "detector_model", "camera_type")
_DATES = ("time_of_day", "date", "hsl_time", "time", "time_of_frame")


def read_edf(keywords: Keywords, text: str) -> HeaderFacts:
    """Return what such a header says."""
    model = keywords.text(*_MODELS)
    detector = nexus_name(model)
    fields: dict[str, Any] = {"description": model} if model else {}
    fields |= keywords.fields(_DETECTOR)
    wavelength = keywords.number("wavelength")
    if wavelength is not None and 0 < wavelength < 1e-6:  # metres
        wavelength = round(wavelength * 1e10, 9)
    beam = with_units("incident_wavelength", wavelength or None, "angstrom")
    motors = _mnemonics(keywords, "motor")
    counters = _mnemonics(keywords, "counter")
    date = keywords.text(*_DATES)
    rest = keywords.rest()
    return HeaderFacts(
        detector=detector,
        tree=instrument(detector, fields, text, rest, beam=beam),
        positioners={name: ("", value) for name, value in motors.items()},
        counters=counters,
        date=date,
        keywords=rest,
        text=text,
    )


def _mnemonics(keywords: Keywords, kind: str) -> dict[str, float]:
    """Return SPEC's ``motor_mne`` and ``motor_pos`` as one mapping.

    Examples
    --------
    >>> _mnemonics(Keywords({"motor_mne": "th x", "motor_pos": "1.5 nan 7"}), "motor")
    {'th': 1.5}
    >>> _mnemonics(Keywords({"motor_mne": "rx Rx", "motor_pos": "1 2"}), "motor")
    {'rx': 1.0, 'rx_2': 2.0}
    """
    names = keywords.text(f"{kind}_mne").split()
    values = keywords.text(f"{kind}_pos").split()
    found: dict[str, float] = {}
    for mnemonic, value in zip(names, values, strict=False):
        name, number = nexus_name(mnemonic, ""), first_number(value)
        if name and number is not None:
            found[unique_name(name, found)] = number
    return found
