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
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.techniques.parts import (
    file_names,
    finished,
    monitor,
    sample_of,
    source_of,
    start_of,
    targeted,
)
from scanbus.writer.model.nexus_tree import Dataset, Group, HardLink, Node, Value

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
    return finished(children, "NXfluo", _REQUIRED, tuple(_remarks(place)))


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
    path = f"instrument/{place.device}"
    (length,) = place.channel.shape
    given = view.dataset(f"{path}/energy")
    if given is not None and np.shape(given.value) == (length,):
        units = given.attributes.get("units", "keV")
        return Dataset(np.asarray(given.value, np.float64), {"units": units})
    line = view.dataset(f"{path}/calibration")
    if line is None or np.shape(line.value) != (3,):
        return None
    offset, gain, curvature = np.asarray(line.value, np.float64)
    numbers = np.arange(length)
    energy = offset + gain * numbers + curvature * numbers**2
    return Dataset(energy, {"units": "keV"})


def _remarks(place: Place) -> tuple[str, ...]:
    if place.channel.numpy_dtype.kind in "iu":
        return ()
    name, dtype = place.channel.name, place.channel.dtype
    return (f"NXfluo wants integer counts, and {name} has {dtype}",)


NXFLUO: Final = Profile(
    _NAME,
    _naming,
    _masters,
    "X-ray fluorescence: spectra with the energy of each channel, for PyMca",
    _REQUIRED,
)
