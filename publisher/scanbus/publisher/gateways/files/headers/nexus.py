"""What stands beside the frames of an HDF5 file, in NeXus as detectors write it.

Fields of the NXdetector and NXbeam are taken as they are, with their units. A field
with one number for each frame gives each frame its own: angles of NXmx's goniometer and
transformations, counters, times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from scanbus.publisher.gateways.files.headers.facts import (
    HeaderFacts,
    Scalar,
    ScanAxis,
    nexus_name,
    with_units,
)
from scanbus.schemas.valid_names import unique_name

__all__ = ["HDF5_KEY", "Hdf5Field", "Hdf5Header", "read_nexus"]

HDF5_KEY: Final = "hdf5"
"""The key of an `Hdf5Header` in the header of a frame."""

_MODELS: Final = ("description", "model", "name", "local_name")
_DATES: Final = ("data_collection_date", "start_time", "date")
_END: Final = "_end"
_POSITIONER: Final = "NXpositioner"
# Names that every group has.
_PLAIN: Final = frozenset(("data", "value"))
# Derived from the angles themselves.
_OF_ANGLES: Final = ("_increment", "_range_average", "_range_total", "_start")
_ANGLES: Final = ("omega", "phi", "chi", "kappa", "two_theta", "theta")
_WAVELENGTHS: Final = ("incident_wavelength", "wavelength")


@dataclass(frozen=True, slots=True)
class Hdf5Field:
    """A field of an HDF5 file.

    Attributes
    ----------
    value : number, str or numpy.ndarray
        The value; an array has one number for each frame.
    units : str
        Its units.
    """

    value: Any
    units: str = ""


@dataclass(frozen=True)
class Hdf5Header:
    """The fields around the frames of a file, and which frame is meant.

    Attributes
    ----------
    entry : dict
        Path below the NXentry, such as ``instrument/detector/count_time``, to field.
    classes : dict
        Path of a group to its ``NX_class``.
    number, n_frames : int
        Number of this frame, from 0, of all that the fields are of.
    """

    entry: Mapping[str, Hdf5Field] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    number: int = 0
    n_frames: int = 1

    def of_frame(self, number: int) -> Hdf5Header:
        """Return the same for the frame that is `number` frames later."""
        return replace(self, number=self.number + number)


def read_nexus(header: Hdf5Header) -> HeaderFacts:
    """Return what is said of one frame."""
    reader = _Reader(header)
    detector_path = reader.group_of("NXdetector")
    fields = reader.fields(detector_path) if detector_path else {}
    model = next((str(fields[name]) for name in _MODELS if fields.get(name)), "")
    specific = reader.specific(detector_path)
    fields |= {name: value for name, value in specific.items() if name not in fields}
    if "distance" not in fields and "detector_distance" in fields:  # DECTRIS's name
        units = str(fields.get("detector_distance@units", ""))
        fields |= with_units("distance", fields["detector_distance"], units)
    detector = nexus_name(model)
    axis, positioners = reader.angles()
    exposure = _number(fields.get("count_time"))
    period = _number(fields.get("frame_time"))
    date = next((text for name in _DATES if (text := reader.text(name))), "")
    if header.number and period is None:
        date = ""  # Nobody says how long the frames before it took.
    return HeaderFacts(
        detector=detector,
        tree=_tree(detector, fields, reader),
        positioners=positioners,
        axis=axis,
        date=date,
        starts_after_s=header.number * (period or 0.0),
        ends_after_s=exposure or 0.0,
        end_date=reader.text("end_time"),
        keywords=reader.per_frame(),
    )


def _tree(detector: str, fields: dict[str, Any], reader: _Reader) -> dict[str, Any]:
    devices: dict[str, Any] = {detector: {"@NX_class": "NXdetector", **fields}}
    for nx_class in ("NXbeam", "NXattenuator", "NXmonochromator", "NXsource"):
        path = reader.group_of(nx_class)
        found = reader.fields(path) if path else {}
        if found:
            devices[nx_class[2:]] = {"@NX_class": nx_class, **found}
    beam = devices.get("beam", {})
    for name in _WAVELENGTHS[1:]:
        if name in beam:
            units = str(beam.get(f"{name}@units", ""))
            known = with_units(_WAVELENGTHS[0], beam[name], units)
            devices["beam"] = {**known, **beam}
    tree: dict[str, Any] = {"instrument": devices}
    sample = reader.group_of("NXsample")
    if sample and (name := reader.text("name", sample)):
        tree["sample"] = {"@NX_class": "NXsample", "name": name}
    return tree


class _Reader:
    """Takes fields out of a header, and remembers which it took."""

    def __init__(self, header: Hdf5Header) -> None:
        self._header = header
        self._taken: set[str] = set()

    def group_of(self, nx_class: str) -> str:
        """Return the path of the first group of a class."""
        classes = self._header.classes
        return next((path for path in classes if classes[path] == nx_class), "")

    def fields(self, path: str) -> dict[str, Any]:
        """Return the fields of a group that are one value, with units."""
        found: dict[str, Any] = {}
        for name, each in self._of(path):
            if _is_per_frame(each, self._header.n_frames):
                continue
            value = _plain(each.value)
            if value is None:
                continue
            self._taken.add(f"{path}/{name}")
            found[name] = value
            if each.units and not isinstance(value, str):
                found[f"{name}@units"] = each.units
        return found

    def specific(self, detector: str) -> dict[str, Any]:
        """Return what DECTRIS keeps apart, and readers look for in the detector."""
        found = self.fields(f"{detector}/detectorSpecific") if detector else {}
        known: dict[str, Any] = {}
        if "countrate_correction_count_cutoff" in found:
            cutoff = found["countrate_correction_count_cutoff"]
            known["saturation_value"] = cutoff
        for place in ("pixel_mask", "detectorSpecific/pixel_mask"):
            each = self._header.entry.get(f"{detector}/{place}")
            if each is not None and getattr(each.value, "ndim", 0) == 2:
                known["pixel_mask"] = np.asarray(each.value).astype(
                    np.uint32, copy=False
                )
                break
        return known

    def text(self, name: str, path: str = "") -> str:
        """Return the first text field of a name, below a path."""
        for where, each in self._header.entry.items():
            if where.startswith(path) and where.rpartition("/")[2] == name:
                value = _plain(each.value)
                if isinstance(value, str) and value:
                    return value
        return ""

    def angles(self) -> tuple[ScanAxis | None, dict[str, tuple[str, float]]]:
        """Return the angle that turns, and the angle of this frame for each motor."""
        positioners: dict[str, tuple[str, float]] = {}
        axis: ScanAxis | None = None
        for path, each in self._header.entry.items():
            folder, _, name = path.rpartition("/")
            stem = path
            if name == "value" and self._header.classes.get(folder) == _POSITIONER:
                name, stem = nexus_name(folder.rpartition("/")[2]), f"{folder}/"
            elif name not in _ANGLES or "detector" in folder.split("/")[:2]:
                continue
            suffixes = (_END, *_OF_ANGLES)
            self._taken.update(_beside(stem, suffix) for suffix in suffixes)
            self._taken.add(path)
            value = self._at(each)
            if value is None or name in positioners:
                continue
            units = "deg" if each.units.startswith("deg") else each.units
            positioners[name] = units, value
            turn = self._turn(stem, value)
            if turn and axis is None:
                axis = ScanAxis(name, value, turn, units or "deg")
        return axis, positioners

    def _turn(self, stem: str, start: float) -> float:
        entry = self._header.entry
        end = entry.get(_beside(stem, _END))
        found = None if end is None else self._at(end)
        if found is not None:
            return round(found - start, 9)
        increment = entry.get(_beside(stem, "_increment"))
        return 0.0 if increment is None else self._at(increment) or 0.0

    def per_frame(self) -> dict[str, Scalar]:
        """Return further numbers of this frame, by their names."""
        found: dict[str, Scalar] = {}
        names: set[str] = set()
        for path, each in self._header.entry.items():
            if path in self._taken or not _is_per_frame(each, self._header.n_frames):
                continue
            name = unique_name(_name_of(path), names)
            names.add(name)  # Also without a value: names are those of all frames.
            value = self._at(each)
            if value is not None:
                found[name] = value
        return found

    def _of(self, path: str) -> list[tuple[str, Hdf5Field]]:
        start = f"{path}/"
        return [
            (where.removeprefix(start), each)
            for where, each in self._header.entry.items()
            if where.startswith(start) and "/" not in where.removeprefix(start)
        ]

    def _at(self, each: Hdf5Field) -> float | None:
        """Return the number of this frame."""
        if not _is_per_frame(each, self._header.n_frames):
            return _number(_plain(each.value))
        number = self._header.number
        is_there = number < self._header.n_frames
        return _number(_plain(each.value[number])) if is_there else None


def _beside(stem: str, suffix: str) -> str:
    """Return the path of a field that belongs to another, or to a group."""
    return f"{stem}{suffix.removeprefix('_') if stem.endswith('/') else suffix}"


def _name_of(path: str) -> str:
    """Return what to call a field; the group says more than ``data``.

    Examples
    --------
    >>> _name_of("instrument/i0/data"), _name_of("sample/temperature")
    ('i0', 'temperature')
    """
    folder, _, name = path.rpartition("/")
    return folder.rpartition("/")[2] if folder and name in _PLAIN else name


def _is_per_frame(each: Hdf5Field, n_frames: int) -> bool:
    shape = getattr(each.value, "shape", ())
    return n_frames > 1 and shape == (n_frames,)


def _plain(value: Any) -> Scalar | None:
    """Return a field that is one number or text as it is in Python."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size == 1 else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return value.replace("\0", "").strip()
    if isinstance(value, int):
        return value
    is_finite = isinstance(value, float) and math.isfinite(value)
    return value if is_finite else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
