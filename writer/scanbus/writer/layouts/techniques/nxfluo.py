"""NXfluo: spectra of X-ray fluorescence, with the energy of each channel.

References
----------
NXfluo of the NeXus definitions, which want integer counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from scanbus.schemas import Role
from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.common.beam import wavelength_of
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.conversions import converted
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.techniques.parts import (
    file_names,
    finished,
    monitor,
    sample_of,
    source_of,
    sources_of,
    start_of,
    targeted,
)
from scanbus.writer.model.nexus_tree import Array, Dataset, Group, HardLink, Node, Value

__all__ = ["NXFLUO"]

_NAME: Final = "nxfluo"
_SPECTRA: Final = "/entry/instrument/fluorescence"
_REQUIRED: Final = (
    "title",
    "start_time",
    "instrument/source/type",
    "instrument/source/name",
    "instrument/source/probe",
    "instrument/monochromator/wavelength",
    "instrument/fluorescence/data",
    "instrument/fluorescence/energy",
    "sample/name",
    "monitor/mode",
    "monitor/preset",
    "monitor/data",
    "data/energy",
    "data/data",
)


def _spectra(view: ScanView) -> tuple[Place, ...]:
    return tuple(
        place
        for place in view.places.values()
        if place.channel.role is Role.SPECTRUM
        and len(place.channel.shape) == 1
        and place.channel.shape[0] > 0
    )


def _naming(view: ScanView) -> tuple[str, ...]:
    return tuple(file_names(view, _NAME, _spectra(view)).values())


def _masters(view: ScanView) -> Mapping[str, Master]:
    places = _spectra(view)
    if not places:
        raise LayoutError(_NAME, "the scan has no spectra of a fixed length")
    names = file_names(view, _NAME, places)
    return {names[place.channel.name]: _master(view, place) for place in places}


def _master(view: ScanView, place: Place) -> Master:
    spectra = targeted(view.points(place.channel.name), f"{_SPECTRA}/data")
    energy = targeted(_energy(view, place), f"{_SPECTRA}/energy")
    fluorescence: dict[str, Node] = {}
    if spectra is not None:
        fluorescence["data"] = spectra
    if energy is not None:
        fluorescence["energy"] = energy
    colours: dict[str, Node] = {}
    wavelength = wavelength_of(view)
    if wavelength is not None:
        colours["wavelength"] = Dataset(wavelength, {"units": "angstrom"})
    name = view.dataset("instrument/name")
    instrument: dict[str, Node] = {
        "name": name or Dataset(view.record.identity.beamline),
        "source": source_of(view),
        "monochromator": Group("NXmonochromator", children=colours),
        "fluorescence": Group("NXdetector", children=fluorescence),
    }
    children: dict[str, Node] = start_of(view)
    children["instrument"] = Group("NXinstrument", children=instrument)
    children["sample"] = sample_of(view)
    counter = monitor(view, _NAME)
    if counter is not None:
        children["monitor"] = counter
    children["data"] = _data(spectra, energy)
    energies = f"instrument/{place.device}/energy"
    sources = {
        **sources_of(view, _NAME),
        **dict.fromkeys(("instrument/fluorescence/data", "data/data"), "spectra"),
        **dict.fromkeys(("instrument/fluorescence/energy", "data/energy"), energies),
    }
    return finished(children, "NXfluo", _REQUIRED, sources, _remarks(place))


def _data(spectra: Node | None, energy: Node | None) -> Group:
    links: dict[str, Node] = {}
    attributes: dict[str, Value] = {}
    if spectra is not None:
        links["data"] = HardLink(f"{_SPECTRA}/data")
        attributes["signal"] = "data"
    if energy is not None:
        links["energy"] = HardLink(f"{_SPECTRA}/energy")
        attributes["axes"] = (".", "energy")
    return Group("NXdata", attributes, links)


def _energy(view: ScanView, place: Place) -> Node | None:
    """Return the energy of each channel, from the metadata or their calibration."""
    (length,) = place.channel.shape
    given = _numbers(view, f"instrument/{place.device}/energy", length)
    if given is not None:
        return Dataset(given, {"units": "keV"})
    line = _numbers(view, f"instrument/{place.device}/calibration", 3)
    if line is None:
        return None
    offset, gain, curvature = line
    numbers = np.arange(length)
    energy = offset + gain * numbers + curvature * numbers**2
    return Dataset(energy, {"units": "keV"})


def _numbers(view: ScanView, path: str, length: int) -> Array | None:
    """Return finite numbers in keV; None if there are not so many."""
    node = view.dataset(path)
    if node is None or np.asarray(node.value).dtype.kind not in "iuf":
        return None
    units = node.attributes.get("units", "")
    factor = converted(1.0, units if isinstance(units, str) else "", "keV")
    values = np.asarray(node.value, np.float64)
    if factor is None or values.shape != (length,) or not np.isfinite(values).all():
        return None
    return values * factor


def _remarks(place: Place) -> tuple[str, ...]:
    if place.channel.numpy_dtype.kind in "iu":
        return ()
    name, dtype = place.channel.name, place.channel.dtype
    return (f"NXfluo wants integer counts, and {name} has {dtype}",)


NXFLUO: Final = Profile(
    _NAME,
    _naming,
    _masters,
    "X-ray fluorescence: spectra with energies, for PyMca",
    (
        "spectra",
        "instrument/MCA/energy (or its calibration)",
        "instrument/monochromator/wavelength",
        "instrument/source/type",
        "instrument/source/name",
        "instrument/source/probe",
        "technique/nxfluo/monitor (or a channel i0)",
        "technique/nxfluo/preset (or a count time)",
    ),
)
