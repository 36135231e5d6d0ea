"""NXsas: frames of small-angle scattering, with the geometry that they need.

References
----------
NXsas of the NeXus definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.common.beam import wavelength_of
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.techniques.parts import (
    detector_fields,
    file_names,
    finished,
    monitor,
    sample_of,
    source_of,
    sources_of,
    start_of,
    targeted,
)
from scanbus.writer.model.nexus_tree import Dataset, Group, HardLink, Node, Value

__all__ = ["NXSAS"]

_NAME: Final = "nxsas"
_DATA: Final = "/entry/instrument/detector/data"
_REQUIRED: Final = (
    "instrument/name",
    "instrument/source/type",
    "instrument/source/probe",
    "instrument/monochromator/wavelength",
    "instrument/detector/data",
    "instrument/detector/distance",
    "instrument/detector/x_pixel_size",
    "instrument/detector/y_pixel_size",
    "control/mode",
    "control/preset",
    "control/integral",
    "sample/name",
    "data/data",
)


def _naming(view: ScanView) -> tuple[str, ...]:
    return tuple(file_names(view, _NAME, view.detectors).values())


def _masters(view: ScanView) -> Mapping[str, Master]:
    if not view.detectors:
        raise LayoutError(_NAME, "the scan has no detector of two-dimensional frames")
    names = file_names(view, _NAME, view.detectors)
    return {names[place.channel.name]: _master(view, place) for place in view.detectors}


def _master(view: ScanView, place: Place) -> Master:
    frames = targeted(view.points(place.channel.name), _DATA)
    detector: dict[str, Node] = detector_fields(view, place)
    if frames is not None:
        detector["data"] = frames
    colours: dict[str, Node] = {}
    wavelength = wavelength_of(view)
    if wavelength is not None:
        colours["wavelength"] = Dataset(wavelength, {"units": "angstrom"})
    spread = view.number("instrument/monochromator/wavelength_spread", "")
    if spread is not None:
        colours["wavelength_spread"] = Dataset(spread)
    name = view.dataset("instrument/name")
    instrument: dict[str, Node] = {
        "name": name or Dataset(view.record.identity.beamline),
        "source": source_of(view),
        "monochromator": Group("NXmonochromator", children=colours),
        "detector": Group("NXdetector", children=detector),
    }
    children: dict[str, Node] = start_of(view)
    children["instrument"] = Group("NXinstrument", children=instrument)
    children["sample"] = sample_of(view)
    control = monitor(view, _NAME, with_integral=True)
    if control is not None:
        children["control"] = control
    links: dict[str, Node] = {} if frames is None else {"data": HardLink(_DATA)}
    signal: dict[str, Value] = {} if frames is None else {"signal": "data"}
    children["data"] = Group("NXdata", signal, links)
    return finished(children, "NXsas", _REQUIRED, sources_of(view, _NAME, place))


NXSAS: Final = Profile(
    _NAME,
    _naming,
    _masters,
    "small-angle scattering: frames and their geometry",
    (
        "frames",
        "instrument/beam/incident_wavelength",
        "instrument/DETECTOR/distance",
        "instrument/DETECTOR/x_pixel_size",
        "instrument/DETECTOR/y_pixel_size",
        "instrument/source/type",
        "instrument/source/probe",
        "technique/nxsas/monitor (or a channel i0)",
        "technique/nxsas/preset (or a count time of the detector)",
    ),
)
