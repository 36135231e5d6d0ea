"""Convert the header of an image to NeXus metadata.

Three dialects: the mini-CBF and TIFF headers of DECTRIS detectors ("PILATUS_1.2"), the
ESRF data format with SPEC's motors and counters, and anything else, of which only the
text is kept. Pure: a header in, facts out. A value that cannot be parsed is left out
here, but never lost: the header's text is kept too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanbus.schemas.valid_names import MAX_NAME_LENGTH

__all__ = ["HeaderFacts", "ScanAxis", "nexus_name", "read_header"]

DEFAULT_DETECTOR = "detector"
# Values that mean "unknown" in DECTRIS headers.
_NOTHING = ("", "(nil)", "n/a", "not implemented", "unknown")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_DATE = re.compile(r"\d{4}[-/]\w{2,3}[-/]\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?\S*")
_SENSOR = re.compile(r"(\w+) sensor,? *thickness *:? *([-+.\deE]+) *m")
_MATERIALS = {"silicon": "Si", "cadmium telluride": "CdTe", "gallium arsenide": "GaAs"}

# Keyword of the header, field of NXdetector, units.
_DECTRIS_DETECTOR = (
    ("Exposure_time", "count_time", "s"),
    ("Exposure_period", "frame_time", "s"),
    ("Tau", "dead_time", "s"),
    ("Threshold_setting", "threshold_energy", "eV"),
    ("Detector_distance", "distance", "m"),
)
# Angles and offsets that a DECTRIS header may state, with the name of the motor.
_DECTRIS_MOTORS = (
    ("Omega", "omega", "deg"),
    ("Phi", "phi", "deg"),
    ("Kappa", "kappa", "deg"),
    ("Chi", "chi", "deg"),
    ("Alpha", "alpha", "deg"),
    ("Detector_2theta", "detector_2theta", "deg"),
    ("Detector_Voffset", "detector_voffset", "m"),
)
# Keywords of the ESRF data format, as pyFAI, LImA and ID02 write them; all lower case.
_EDF_DETECTOR = (
    (("exposuretime", "count_time", "acq_expo_time"), "count_time", "s"),
    (("sampledistance",), "distance", "m"),
    (("psize_1",), "x_pixel_size", "m"),
    (("psize_2",), "y_pixel_size", "m"),
    (("center_1",), "beam_center_x", "pixel"),
    (("center_2",), "beam_center_y", "pixel"),
)
_EDF_NAMES = ("detectormodelname", "camera_model", "detector_model", "camera_type")


@dataclass(frozen=True)
class ScanAxis:
    """The rotation angle of the scan.

    Attributes
    ----------
    name, units : str
        Name and units of the motor.
    start, increment : float
        Angle at the start of this frame, and rotation during it.
    """

    name: str
    start: float
    increment: float
    units: str = "deg"


@dataclass(frozen=True)
class HeaderFacts:
    """The values of one header.

    Attributes
    ----------
    detector : str
        Name of the detector's group.
    tree : dict
        NeXus tree of the entry: ``instrument`` with detector, beam, attenuator.
    positioners : dict
        Units and value per motor.
    axis : ScanAxis or None
        The angle of this frame.
    counters : dict
        Values of the counters of this frame.
    date : str
        Time of the frame, in the form of the header.
    text : str
        Text of the header.
    flags_pixels : bool
        Whether negative counts flag bad pixels.
    """

    detector: str = DEFAULT_DETECTOR
    tree: dict[str, Any] = field(default_factory=dict)
    positioners: dict[str, tuple[str, float]] = field(default_factory=dict)
    axis: ScanAxis | None = None
    counters: dict[str, float] = field(default_factory=dict)
    date: str = ""
    text: str = ""
    flags_pixels: bool = False


def nexus_name(text: str, default: str = DEFAULT_DETECTOR) -> str:
    """Return `text` as a NeXus name, in lower case.

    Examples
    --------
    >>> nexus_name("PILATUS3 6M"), nexus_name("Eiger2 X 4M (II)"), nexus_name("//")
    ('pilatus3_6m', 'eiger2_x_4m_ii', 'detector')
    """
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")
    return name[:MAX_NAME_LENGTH].strip("_") or default


def read_header(header: Mapping[str, Any]) -> HeaderFacts:
    """Return the values of a header of any of the dialects.

    Parameters
    ----------
    header : mapping
        Keywords and values as fabio returns them.

    Examples
    --------
    >>> text = "# Detector: PILATUS3 6M, S/N 60-0119"
    >>> read_header({"_array_data.header_contents": text}).detector
    'pilatus3_6m'
    """
    contents = header.get("_array_data.header_contents")
    if isinstance(contents, str) and contents.strip():
        return _read_dectris(_clean(contents))
    if "Pixel_size" in header or "Exposure_time" in header:  # a DECTRIS TIFF
        lines = (f"# {key} {value}" for key, value in header.items())
        return _read_dectris(_clean("\n".join(lines)))
    text = _clean("\n".join(f"{key} = {value}" for key, value in header.items()))
    small = {key.lower(): str(value).strip() for key, value in header.items()}
    if "dim_1" in small or "motor_mne" in small:
        return _read_edf(small, text)
    tree = _instrument(DEFAULT_DETECTOR, {}, text)
    return HeaderFacts(tree=tree, date=_date_of(small), text=text)


def _clean(text: str) -> str:
    """Return text without characters that metadata may not contain."""
    return text.replace("\0", "").replace("\r\n", "\n").strip()


def _instrument(
    detector: str, fields: dict[str, Any], text: str, **groups: dict[str, Any]
) -> dict[str, Any]:
    """Return the tree of an instrument; groups without fields are left out."""
    described: dict[str, Any] = {"@NX_class": "NXdetector", **fields}
    if text:
        described["header"] = {
            "@NX_class": "NXnote",
            "type": "text/plain",
            "description": "header of the first frame",
            "data": text,
        }
    instrument: dict[str, Any] = {detector: described}
    for name, group in groups.items():
        if group:
            instrument[name] = {"@NX_class": f"NX{name}", **group}
    return {"instrument": instrument}


def _with_units(name: str, value: float | None, units: str) -> dict[str, Any]:
    if value is None:
        return {}
    return {name: value, f"{name}@units": units} if units else {name: value}


def _number(text: str | None) -> float | None:
    """Return the first finite number in a text.

    Examples
    --------
    >>> _number("= 1697.2e-09 s"), _number("(nil)"), _number("nan")
    (1.6972e-06, None, None)
    """
    found = _NUMBER.search(text or "")
    value = float(found[0]) if found else math.nan
    return value if math.isfinite(value) else None


def _numbers(text: str | None, count: int) -> list[float]:
    """Return the first `count` numbers of a text; none at all if there are fewer."""
    found = [float(number) for number in _NUMBER.findall(text or "")]
    return found[:count] if len(found) >= count else []


# --- DECTRIS: https://github.com/dectris/documentation, "PILATUS_1.2"


def _read_dectris(text: str) -> HeaderFacts:
    keywords = _dectris_keywords(text)
    model, _, serial = keywords.get("Detector", "").partition(", S/N")
    detector = nexus_name(model)
    fields: dict[str, Any] = {}
    if model.strip():
        fields["description"] = model.strip()
    if serial.strip():
        fields["serial_number"] = serial.strip()
    fields |= _dectris_fields(keywords) | _sensor(text)
    tree = _instrument(
        detector,
        fields,
        text,
        beam=_dectris_beam(keywords),
        attenuator=_with_units(
            "attenuator_transmission", _number(keywords.get("Filter_transmission")), ""
        ),
    )
    axis = _dectris_axis(keywords)
    flux = _number(keywords.get("Flux"))
    date = _DATE.search(text)
    return HeaderFacts(
        detector=detector,
        tree=tree,
        positioners=_dectris_positioners(keywords, axis),
        axis=axis,
        counters={} if flux is None else {"flux": flux},
        date=date[0] if date else "",
        text=text,
        flags_pixels=True,
    )


def _dectris_keywords(text: str) -> dict[str, str]:
    """Return the value of every keyword, the first one if it is repeated."""
    keywords: dict[str, str] = {}
    for line in text.splitlines():
        found = re.match(r"\s*#?\s*([A-Za-z]\w*)\s*[:=]?\s*(.*?)\s*$", line)
        if found and found[2].lower() not in _NOTHING:
            keywords.setdefault(found[1], found[2])
    return keywords


def _dectris_fields(keywords: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for keyword, name, units in _DECTRIS_DETECTOR:
        fields |= _with_units(name, _number(keywords.get(keyword)), units)
    for name, value in zip(
        ("x_pixel_size", "y_pixel_size"),
        _numbers(keywords.get("Pixel_size"), 2),
        strict=False,
    ):
        fields |= _with_units(name, value, "m")
    for name, value in zip(
        ("beam_center_x", "beam_center_y"),
        _numbers(keywords.get("Beam_xy"), 2),
        strict=False,
    ):
        fields |= _with_units(name, value, "pixel")
    cutoff = _number(keywords.get("Count_cutoff"))
    if cutoff is not None:
        fields["saturation_value"] = int(cutoff)
    if keywords.get("Gain_setting"):
        fields["gain_setting"] = keywords["Gain_setting"]
    return fields


def _sensor(text: str) -> dict[str, Any]:
    """Return the sensor's material, in the spelling of NXmx, and its thickness."""
    found = _SENSOR.search(text)
    if not found:
        return {}
    material = _MATERIALS.get(found[1].lower(), found[1])
    thickness = _with_units("sensor_thickness", _number(found[2]), "m")
    return {"sensor_material": material, **thickness}


def _dectris_beam(keywords: Mapping[str, str]) -> dict[str, Any]:
    wavelength = _number(keywords.get("Wavelength"))
    if not wavelength:  # 0 if the beamline did not set it
        wavelength = None
    beam = _with_units("incident_wavelength", wavelength, "angstrom")
    # Without units, as in the header.
    beam |= _with_units("total_flux", _number(keywords.get("Flux")), "")
    polarization = _number(keywords.get("Polarization"))
    if polarization is not None:
        # Intensity, horizontal, diagonal, circular; synchrotron beams are horizontal.
        beam["incident_polarization_stokes"] = [1.0, polarization, 0.0, 0.0]
    return beam


def _dectris_axis(keywords: Mapping[str, str]) -> ScanAxis | None:
    """Return the rotation axis: the motor with the same start and increment."""
    start = _number(keywords.get("Start_angle"))
    if start is None:
        return None
    increment = _number(keywords.get("Angle_increment")) or 0.0
    for keyword, name, _ in _DECTRIS_MOTORS[:4]:
        same_start = _number(keywords.get(keyword)) == start
        turns_by = _number(keywords.get(f"{keyword}_increment")) or 0.0
        if same_start and turns_by == increment:
            return ScanAxis(name, start, increment)
    return ScanAxis("omega", start, increment)


def _dectris_positioners(
    keywords: Mapping[str, str], axis: ScanAxis | None
) -> dict[str, tuple[str, float]]:
    found = {}
    for keyword, name, units in _DECTRIS_MOTORS:
        value = _number(keywords.get(keyword))
        if value is not None:
            found[name] = (units, value)
    if axis is not None:
        found[axis.name] = (axis.units, axis.start)
    return found


# --- ESRF data format


def _read_edf(header: Mapping[str, str], text: str) -> HeaderFacts:
    model = next((header[key] for key in _EDF_NAMES if header.get(key)), "")
    detector = nexus_name(model)
    fields: dict[str, Any] = {"description": model} if model else {}
    for keys, name, units in _EDF_DETECTOR:
        value = next((_number(header[key]) for key in keys if key in header), None)
        fields |= _with_units(name, value, units)
    wavelength = _number(header.get("wavelength"))
    if wavelength is not None and 0 < wavelength < 1e-6:  # metres
        wavelength = round(wavelength * 1e10, 9)
    beam = _with_units("incident_wavelength", wavelength or None, "angstrom")
    motors = _mnemonics(header, "motor")
    return HeaderFacts(
        detector=detector,
        tree=_instrument(detector, fields, text, beam=beam),
        positioners={name: ("", value) for name, value in motors.items()},
        counters=_mnemonics(header, "counter"),
        date=_date_of(header),
        text=text,
    )


def _mnemonics(header: Mapping[str, str], kind: str) -> dict[str, float]:
    """Return SPEC's ``motor_mne`` and ``motor_pos`` as one mapping.

    Examples
    --------
    >>> _mnemonics({"motor_mne": "th phi", "motor_pos": "1.5 nan x"}, "motor")
    {'th': 1.5}
    """
    names = header.get(f"{kind}_mne", "").split()
    values = header.get(f"{kind}_pos", "").split()
    pairs = zip(names, values, strict=False)
    numbers = {nexus_name(name, ""): _number(value) for name, value in pairs}
    return {
        name: value for name, value in numbers.items() if name and value is not None
    }


def _date_of(header: Mapping[str, str]) -> str:
    for key in ("time_of_day", "date", "time", "time_of_frame"):
        if header.get(key):
            return header[key]
    return ""
