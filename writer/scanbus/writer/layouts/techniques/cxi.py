"""CXI: diffraction patterns of ptychography and where the sample stood for each.

References
----------
NXcxi_ptycho of NeXus's contributed definitions, and the CXI format 1.50 (F. Maia,
Nature Methods 9, 854): energies in joules, lengths in metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.common.beam import (
    HC_EV_ANGSTROM,
    lacks_wavelength,
    wavelength_of,
)
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.conversions import converted
from scanbus.writer.layouts.common.named_channels import channel_named
from scanbus.writer.layouts.common.required import lacking, with_definition
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.techniques.parts import (
    file_names,
    source_of,
    start_of,
    targeted,
)
from scanbus.writer.model.nexus_tree import Array, Dataset, Group, HardLink, Node, Value

__all__ = ["CXI"]

_NAME: Final = "cxi"
_ENTRY: Final = "entry_1"
_VERSION: Final = 150
_JOULES: Final = 1.602176634e-19
"""Joules of an electronvolt (CODATA 2018, exact)."""
_DETECTOR: Final = "/entry_1/instrument_1/detector_1"
_SAMPLE: Final = "/entry_1/sample_1"
_SIZES: Final = ("distance", "x_pixel_size", "y_pixel_size")
_SPREAD: Final = "instrument/beam/incident_energy_spread"
_MOVED: Final = "technique/cxi/x and technique/cxi/y"
_REQUIRED: Final = (
    "instrument_1/source_1/name",
    "instrument_1/source_1/type",
    "instrument_1/source_1/probe",
    "instrument_1/source_1/energy",
    "instrument_1/beam_1/energy",
    "instrument_1/beam_1/incident_beam_energy",
    "instrument_1/beam_1/incident_energy_spread",
    "instrument_1/detector_1/data",
    "instrument_1/detector_1/translation",
    *(f"instrument_1/detector_1/{name}" for name in _SIZES),
    "sample_1/geometry_1/translation",
)


def _naming(view: ScanView) -> tuple[str, ...]:
    if len(view.detectors) == 1:
        return (f"{view.scan_name}.cxi",)
    return tuple(file_names(view, _NAME, view.detectors, "cxi").values())


def _masters(view: ScanView) -> Mapping[str, Master]:
    if not view.detectors:
        raise LayoutError(_NAME, "the scan has no detector of two-dimensional frames")
    names = zip(_naming(view), view.detectors, strict=True)
    return {name: _master(view, place) for name, place in names}


def _master(view: ScanView, place: Place) -> Master:
    frames = targeted(view.points(place.channel.name), f"{_DETECTOR}/data")
    moved = _translation(view, place)
    children: dict[str, Node] = start_of(view)
    children["instrument_1"] = Group(
        "NXinstrument",
        children={
            "name": view.dataset("instrument/name")
            or Dataset(view.record.identity.beamline),
            "source_1": _source(view),
            "beam_1": _beam(view),
            "detector_1": _detector(view, place, frames, moved),
        },
    )
    children["sample_1"] = _sample(view, moved)
    # CXI has them in the entry; NeXus's definition has them beside it.
    links = _links(frames, moved)
    children["data_1"] = Group("NXdata", _plotted(frames), links)
    entry = Group("NXentry", {"default": "data_1"}, children)
    missing = lacking(entry, _REQUIRED, _sources(view, place))
    master: dict[str, Node] = {
        "cxi_version": Dataset(_VERSION),
        _ENTRY: with_definition(entry, "NXcxi_ptycho", missing),
        "data_1": Group("NXcollection", children=links),
        "data": _data(frames, moved),
    }
    return Master(master, missing)


def _sources(view: ScanView, place: Place) -> dict[str, str]:
    """Return by which paths of the metadata the required parts come."""
    energy = lacks_wavelength(view)
    found = {
        "instrument_1/source_1/energy": energy,
        "instrument_1/beam_1/energy": energy,
        "instrument_1/beam_1/incident_beam_energy": energy,
        "instrument_1/beam_1/incident_energy_spread": _SPREAD,
        "instrument_1/detector_1/data": "frames",
        "instrument_1/detector_1/translation": _MOVED,
        "sample_1/geometry_1/translation": _MOVED,
    }
    for name in ("name", "type", "probe"):
        found[f"instrument_1/source_1/{name}"] = f"instrument/source/{name}"
    for name in _SIZES:
        path = f"instrument/{place.device}/{name}"
        found[f"instrument_1/detector_1/{name}"] = view.lacks(path, "m")
    return found


def _source(view: ScanView) -> Group:
    found = source_of(view)
    energy = _joules(view)
    children: dict[str, Node] = {**found.children}
    children.pop("energy", None)
    if energy is not None:
        children["energy"] = Dataset(energy, {"units": "J"})
    return Group("NXsource", children=children)


def _joules(view: ScanView) -> float | None:
    wavelength = wavelength_of(view)
    return None if wavelength is None else HC_EV_ANGSTROM / wavelength * _JOULES


def _beam(view: ScanView) -> Group:
    children: dict[str, Node] = {}
    energy = _joules(view)
    if energy is not None:
        children["energy"] = Dataset(energy, {"units": "J"})
        electronvolts = Dataset(energy / _JOULES, {"units": "eV"})
        children["incident_beam_energy"] = electronvolts
    spread = view.number("instrument/beam/incident_energy_spread", "eV")
    if spread is not None:
        children["incident_energy_spread"] = Dataset(spread, {"units": "eV"})
    return Group("NXbeam", children=children)


def _detector(
    view: ScanView, place: Place, frames: Node | None, moved: Array | None
) -> Group:
    children: dict[str, Node] = {}
    for name in _SIZES:
        value = view.size(f"instrument/{place.device}/{name}", "m")
        if value is not None:
            children[name] = Dataset(value, {"units": "m"})
    attributes: dict[str, Value] = {}
    if frames is not None:
        children["data"] = frames
        children["data_1"] = HardLink(f"{_DETECTOR}/data")
        attributes = {"signal": "data", "axes": ("translation", ".", ".")}
    if moved is not None:
        told: dict[str, Value] = {
            "units": "m",
            "axes": "translation:$slice:$dim",
            "interpretation": "image",
            "target": f"{_DETECTOR}/translation",
        }
        children["translation"] = Dataset(moved, told)
    vector: dict[str, Node] = {"vector": Dataset(np.array([0.0, 0.0, 1.0]))}
    children["transformations"] = Group("NXtransformations", children=vector)
    return Group("NXdetector", attributes, children)


def _sample(view: ScanView, moved: Array | None) -> Group:
    name = view.text("sample/name")
    children: dict[str, Node] = {}
    if name:
        children["name"] = Dataset(name)
    if moved is None:
        return Group("NXsample", children=children)
    axes: dict[str, Node] = {}
    for number, axis in enumerate("xy"):
        vector = np.eye(3)[number]
        axes[axis] = Dataset(
            moved[:, number],
            {
                "units": "m",
                "transformation_type": "translation",
                "vector": vector,
                "depends_on": ".",
                "target": f"{_SAMPLE}/transformations/{axis}",
            },
        )
    direction: dict[str, Value] = {"vector": np.array([0.0, 0.0, 1.0])}
    children["transformations"] = Group("NXtransformations", direction, axes)
    link: dict[str, Node] = {"translation": HardLink(f"{_DETECTOR}/translation")}
    children["geometry_1"] = Group("NXcollection", children=link)
    return Group("NXsample", children=children)


def _links(frames: Node | None, moved: Array | None) -> dict[str, Node]:
    found: dict[str, Node] = {}
    if frames is not None:
        found["data"] = HardLink(f"{_DETECTOR}/data")
    if moved is not None:
        found["translation"] = HardLink(f"{_DETECTOR}/translation")
    return found


def _plotted(frames: Node | None) -> dict[str, Value]:
    return {} if frames is None else {"signal": "data"}


def _data(frames: Node | None, moved: Array | None) -> Group:
    links: dict[str, Node] = {}
    attributes = _plotted(frames)
    if frames is not None:
        links["data"] = HardLink(f"{_DETECTOR}/data")
    if moved is not None:
        attributes["axes"] = ("x", ".", ".")
        for axis in "xy":
            links[axis] = HardLink(f"{_SAMPLE}/transformations/{axis}")
            attributes[f"{axis}_indices"] = 0
            links[f"{axis}_indices"] = Dataset("0")
    return Group("NXdata", attributes, links)


def _translation(view: ScanView, place: Place) -> Array | None:
    """Return where the sample stood for each frame, shape (frames, 3), in metres.

    None while the positions are not known, or if there are not as many as frames.
    """
    found = [_metres(view, _axis(view, letter)) for letter in "xy"]
    if any(positions is None for positions in found):
        return None
    known = [positions for positions in found if positions is not None]
    n_frames = place.n_points or 0
    if not n_frames or any(len(positions) != n_frames for positions in known):
        return None
    return np.stack([*known, np.zeros(n_frames)], axis=1)


def _axis(view: ScanView, letter: str) -> Place | None:
    """Return the motor of a direction: a named one, or the only one that ends so."""
    place = channel_named(view, _NAME, letter, (letter,))
    if place is None and not view.text(f"technique/{_NAME}/{letter}"):
        found = [
            axis
            for axis in view.axes
            if axis.channel.name.lower().endswith(letter)
            and axis.channel.units
            and converted(1.0, axis.channel.units, "m") is not None
        ]
        place = found[0] if len(found) == 1 else None
    return place


def _metres(view: ScanView, place: Place | None) -> Array | None:
    if place is None or not place.channel.units:
        return None
    factor = converted(1.0, place.channel.units, "m")
    positions = view.positions(place.channel.name)
    if factor is None or positions is None or not np.isfinite(positions).all():
        return None
    return positions * factor


CXI: Final = Profile(
    _NAME,
    _naming,
    _masters,
    "ptychography: patterns and positions, for PyNX and others",
    (
        "frames",
        _MOVED,
        "instrument/beam/incident_energy",
        _SPREAD,
        "instrument/DETECTOR/distance",
        "instrument/DETECTOR/x_pixel_size",
        "instrument/DETECTOR/y_pixel_size",
        "instrument/source/name",
        "instrument/source/type",
        "instrument/source/probe",
    ),
)
