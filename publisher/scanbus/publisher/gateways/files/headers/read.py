"""Find out which dialect a header is of, and read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scanbus.publisher.gateways.files.headers.dectris import read_dectris
from scanbus.publisher.gateways.files.headers.diffractometers import (
    find_dialect,
    read_diffractometer,
)
from scanbus.publisher.gateways.files.headers.edf import STRUCTURE as EDF_STRUCTURE
from scanbus.publisher.gateways.files.headers.edf import read_edf
from scanbus.publisher.gateways.files.headers.facts import (
    DEFAULT_DETECTOR,
    HeaderFacts,
    instrument,
)
from scanbus.publisher.gateways.files.headers.keywords import Keywords, clean_text
from scanbus.publisher.gateways.files.headers.nexus import (
    HDF5_KEY,
    Hdf5Header,
    read_nexus,
)
from scanbus.publisher.gateways.files.headers.smv import STRUCTURE as SMV_STRUCTURE
from scanbus.publisher.gateways.files.headers.smv import read_smv

__all__ = ["read_header"]

_CBF_TEXT: Final = "_array_data.header_contents"
_TIFF_TEXT: Final = "imageDescription"
# Keywords of CBF, TIFF and other formats that say how the file is written.
_STRUCTURE: Final = frozenset(
    (
        "_array_data.header_convention",
        "bits",
        "colormap",
        "compression",
        "compression_type",
        "content-md5",
        "content-transfer-encoding",
        "content-type",
        "conversions",
        "dimensions",
        "height",
        "imagedescription",
        "info",
        "maxval",
        "nbits",
        "ncolumns",
        "nrows",
        "photometricinterpretation",
        "rowsperstrip",
        "sampleformat",
        "stripbytecounts",
        "stripoffsets",
        "subformat",
        "width",
        "x-binary-element-byte-order",
        "x-binary-element-type",
        "x-binary-id",
        "x-binary-number-of-elements",
        "x-binary-size",
        "x-binary-size-fastest-dimension",
        "x-binary-size-padding",
        "x-binary-size-second-dimension",
    )
)
_DATES: Final = ("time_of_day", "date", "time", "timestamp", "datetime")


def read_header(header: Mapping[Any, Any]) -> HeaderFacts:
    """Return the values of a header of any of the dialects.

    Parameters
    ----------
    header : mapping
        Keywords and values as fabio returns them, or as `read_nexus` takes them.

    Examples
    --------
    >>> text = "# Detector: PILATUS3 6M, S/N 60-0119"
    >>> read_header({"_array_data.header_contents": text}).detector
    'pilatus3_6m'
    """
    around = header.get(HDF5_KEY)
    if isinstance(around, Hdf5Header):  # Any other file may have that keyword, too.
        return read_nexus(around)
    contents = header.get(_CBF_TEXT) or header.get(_TIFF_TEXT)
    if _is_dectris(contents):
        return read_dectris(clean_text(str(contents)))
    if "Pixel_size" in header or "Exposure_time" in header:  # a DECTRIS TIFF
        lines = (f"# {key} {value}" for key, value in header.items())
        return read_dectris(clean_text("\n".join(lines)))
    return _by_keywords(Keywords(_with_lines(header, contents)), _text_of(header))


def _by_keywords(keywords: Keywords, text: str) -> HeaderFacts:
    """Read a header that is known by the keywords in it."""
    if keywords.has("dim_1") or keywords.has("motor_mne"):
        keywords.ignore(EDF_STRUCTURE)
        return read_edf(keywords, text)
    if keywords.has("header_bytes"):
        keywords.ignore(SMV_STRUCTURE)
        return read_smv(keywords, text)
    keywords.ignore(_STRUCTURE)
    dialect = find_dialect(keywords)
    if dialect is not None:
        return read_diffractometer(dialect, keywords, text)
    date = keywords.text(*_DATES)
    rest = keywords.rest()
    tree = instrument(DEFAULT_DETECTOR, {}, text, rest)
    return HeaderFacts(tree=tree, date=date, keywords=rest, text=text)


def _is_dectris(contents: Any) -> bool:
    return isinstance(contents, str) and contents.lstrip().startswith("#")


def _text_of(header: Mapping[Any, Any]) -> str:
    lines = (f"{_plain(key)} = {_plain(value)}" for key, value in header.items())
    return clean_text("\n".join(lines))


def _plain(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _with_lines(header: Mapping[Any, Any], contents: Any) -> dict[Any, Any]:
    """Return a header with the keywords that stand as lines in one of its values."""
    found = dict(header)
    if not isinstance(contents, str):
        return found
    for line in contents.splitlines():
        keyword, equals, value = line.partition("=")
        if equals and keyword.strip():
            found.setdefault(keyword.strip(), value.strip())
    return found
