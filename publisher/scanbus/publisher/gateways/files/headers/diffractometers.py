"""Headers of detectors on diffractometers that state angles at start and end.

MarCCD and Rayonix (the header within the TIFF, 3072 bytes at 1024), mar345, Bruker
(SAXI, formats 86 and 100), Oxford Diffraction, Esperanto. Keywords are those of fabio,
in lower case; a zero or negative length means that nobody set it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scanbus.publisher.gateways.files.headers.facts import (
    DEFAULT_DETECTOR,
    HeaderFacts,
    ScanAxis,
    instrument,
    with_units,
)
from scanbus.publisher.gateways.files.headers.keywords import Keywords, Rule

__all__ = ["find_dialect", "read_diffractometer"]


@dataclass(frozen=True, slots=True)
class _Angle:
    """An angle: keyword and place in its value, at the start and at the end."""

    name: str
    start: tuple[str, int]
    end: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a format has what.

    Attributes
    ----------
    marks : tuple of str
        Keywords by which a header is known.
    detector : tuple of Rule
        Fields of the detector, all positive numbers.
    angles : tuple of _Angle
        Angles, in degrees times `per_degree`.
    wavelength : tuple
        Keyword, and length of its unit in angstrom.
    center : tuple of tuple
        Keyword and place of both beam centres, and their unit in pixels.
    dates : tuple of str
        Keywords of the date.
    structure : frozenset of str
        Keywords that say how the file is written.
    """

    marks: tuple[str, ...]
    detector: tuple[Rule, ...]
    angles: tuple[_Angle, ...]
    wavelength: tuple[str, float]
    center: tuple[tuple[str, int], tuple[str, int], float]
    dates: tuple[str, ...]
    per_degree: float = 1.0
    structure: frozenset[str] = frozenset()


def _from_to(start: str, end: str, **keys: str) -> tuple[_Angle, ...]:
    """Return angles whose keywords are made from patterns."""
    return tuple(
        _Angle(name, (start.format(key), 0), (end.format(key), 0))
        for name, key in keys.items()
    )


_MARCCD = Dialect(
    marks=("start_phi", "xtal_to_detector", "source_wavelength"),
    detector=(
        Rule(("exposure_time", "integration_time"), "count_time", "s", 1e-3),
        Rule(("xtal_to_detector", "start_xtal_to_detector"), "distance", "m", 1e-6),
        Rule(("pixelsize_x",), "x_pixel_size", "m", 1e-9),
        Rule(("pixelsize_y",), "y_pixel_size", "m", 1e-9),
        Rule(("saturated_value",), "saturation_value", ""),
    ),
    angles=_from_to(
        "start_{}",
        "end_{}",
        omega="omega",
        phi="phi",
        chi="chi",
        kappa="kappa",
        two_theta="twotheta",
    ),
    wavelength=("source_wavelength", 1e-5),
    center=(("beam_x", 0), ("beam_y", 0), 1e-3),
    dates=("acquire_timestamp", "header_timestamp"),
    per_degree=1000.0,
    structure=frozenset(
        ("header_type", "header_name", "header_byte_order", "header_size", "pad")
    ),
)
_MAR345 = Dialect(
    marks=("startphi", "endphi", "pixellength"),
    detector=(
        Rule(("time",), "count_time", "s"),
        Rule(("distance",), "distance", "m", 1e-3),
        Rule(("pixellength",), "x_pixel_size", "m", 1e-3),
        Rule(("pixelheight",), "y_pixel_size", "m", 1e-3),
    ),
    angles=(
        _Angle("phi", ("startphi", 0), ("endphi", 0)),
        _Angle("omega", ("startomega", 0), ("endomega", 0)),
        _Angle("chi", ("chi", 0)),
        _Angle("two_theta", ("twotheta", 0)),
    ),
    wavelength=("wavelength", 1.0),
    center=(("center_x", 0), ("center_y", 0), 1.0),
    dates=("date",),
    structure=frozenset(
        (
            "numhigh",
            "numpixels",
            "format",
            "dim",
            "high",
            "pixel_length",
            "pixel_height",
        )
    ),
)
_BRUKER = Dialect(
    marks=("format", "hdrblks", "nrows"),
    detector=(
        Rule(("elapsdr", "elapsda"), "count_time", "s"),
        Rule(("distanc",), "distance", "m", 1e-2),
    ),
    angles=tuple(
        _Angle(name, ("angles", place), ("ending", place))
        for place, name in enumerate(("two_theta", "omega", "phi", "chi"))
    ),
    wavelength=("wavelen", 1.0),
    center=(("center", 0), ("center", 1), 1.0),
    dates=("created",),
    structure=frozenset(("hdrblks", "datastart", "noverfl", "npixelb", "filenam")),
)
_OXFORD = Dialect(
    marks=("omega start in deg", "omega end in deg"),
    detector=(
        Rule(("exposure time in sec",), "count_time", "s"),
        Rule(("distance in mm",), "distance", "m", 1e-3),
        Rule(("real pixel size x (mm)",), "x_pixel_size", "m", 1e-3),
        Rule(("real pixel size y (mm)",), "y_pixel_size", "m", 1e-3),
    ),
    angles=_from_to(
        "{} start in deg",
        "{} end in deg",
        omega="omega",
        theta="theta",
        kappa="kappa",
        phi="phi",
    ),
    wavelength=("wavelength alpha1", 1.0),
    center=(("beam center x", 0), ("beam center y", 0), 1.0),
    dates=("time",),
    structure=frozenset(("compression", "oi", "ol", "nsupplement")),
)
_ESPERANTO = Dialect(
    marks=("esperanto format",),
    detector=(
        Rule(("dexposuretimeinsec",), "count_time", "s"),
        Rule(("ddistanceinmm",), "distance", "m", 1e-3),
        Rule(("drealpixelsizex",), "x_pixel_size", "m", 1e-3),
        Rule(("drealpixelsizey",), "y_pixel_size", "m", 1e-3),
    ),
    angles=_from_to("d{}_s", "d{}_e", omega="om", theta="th", kappa="ka", phi="ph"),
    wavelength=("dalpha1", 1.0),
    center=(("dxorigininpix", 0), ("dyorigininpix", 0), 1.0),
    dates=("timestampstring",),
    # Lines of the header, whose values stand on their own, too.
    structure=frozenset(
        (
            "image",
            "time",
            "monitor",
            "pixelsize",
            "timestamp",
            "startanglesindeg",
            "endanglesindeg",
            "goniomodel_1",
            "goniomodel_2",
            "wavelength",
        )
    ),
)
_DIALECTS = (_MARCCD, _MAR345, _BRUKER, _OXFORD, _ESPERANTO)


def find_dialect(keywords: Keywords) -> Dialect | None:
    """Return the dialect of a header, if it is one of these."""
    for dialect in _DIALECTS:
        if all(keywords.has(mark) for mark in dialect.marks):
            return dialect
    return None


def read_diffractometer(dialect: Dialect, keywords: Keywords, text: str) -> HeaderFacts:
    """Return what such a header says."""
    keywords.ignore(dialect.structure)
    fields: dict[str, Any] = keywords.fields(dialect.detector, positive=True)
    fields |= _center(dialect, keywords)
    keyword, unit = dialect.wavelength
    wavelength = keywords.number(keyword)
    if not wavelength or wavelength < 0:
        wavelength = None
    else:
        wavelength = float(f"{wavelength * unit:.9g}")
    positioners, axis = _angles(dialect, keywords)
    date = keywords.text(*dialect.dates)
    rest = keywords.rest()
    return HeaderFacts(
        tree=instrument(
            DEFAULT_DETECTOR,
            fields,
            text,
            rest,
            beam=with_units("incident_wavelength", wavelength, "angstrom"),
        ),
        positioners=positioners,
        axis=axis,
        date=date,
        ends_after_s=float(fields.get("count_time", 0.0)),
        keywords=rest,
        text=text,
    )


def _center(dialect: Dialect, keywords: Keywords) -> dict[str, Any]:
    x_at, y_at, unit = dialect.center
    x, y = keywords.number_at(*x_at), keywords.number_at(*y_at)
    if not x or not y:  # Both 0: nobody set them.
        return {}
    return {
        **with_units("beam_center_x", float(f"{x * unit:.9g}"), "pixel"),
        **with_units("beam_center_y", float(f"{y * unit:.9g}"), "pixel"),
    }


def _angles(
    dialect: Dialect, keywords: Keywords
) -> tuple[dict[str, tuple[str, float]], ScanAxis | None]:
    """Return the angle at the start for each motor, and the one that turns."""
    found: dict[str, tuple[str, float]] = {}
    axis: ScanAxis | None = None
    for angle in dialect.angles:
        start = keywords.number_at(*angle.start)
        if start is None:
            continue
        start /= dialect.per_degree
        found[angle.name] = "deg", start
        end = None if angle.end is None else keywords.number_at(*angle.end)
        turn = 0.0 if end is None else round(end / dialect.per_degree - start, 9)
        if turn and axis is None:
            axis = ScanAxis(angle.name, start, turn)
    return found, axis
