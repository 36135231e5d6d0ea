"""NXxas: X-ray absorption over the energy of the monochromator.

References
----------
NXxas of the NeXus definitions v2026.01, the form with ``incoming_beam`` and
``absorbed_beam``; another one is being discussed, so files say the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.named_channels import channel_named, is_number
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.techniques.parts import (
    MONITORS,
    finished,
    monitor,
    sample_of,
    source_of,
    sources_of,
    start_of,
    targeted,
)
from scanbus.writer.model.nexus_tree import Dataset, Group, HardLink, Node, Value

__all__ = ["NXXAS"]

_NAME: Final = "nxxas"
_ENERGY: Final = "/entry/instrument/monochromator/energy"
_ABSORBED: Final = "/entry/instrument/absorbed_beam/data"
_ENERGIES: Final = ("eV", "keV", "J")
_AXES: Final = ("energy", "ene", "mono_energy", "en")
_TRANSMITTED: Final = ("i1", "it", "itrans", "i2", "transmission", "ic1")
_FLUORESCED: Final = ("if", "ifluo", "fluo", "fluorescence", "fluo_det")
_MODES: Final = {
    "tey": "Total Electron Yield",
    "pey": "Partial Electron Yield",
    "aey": "Auger Electron Yield",
    "fy": "Fluorescence Yield",
    "fluorescence": "Fluorescence Yield",
    "transmission": "Transmission",
}
_SAID: Final = tuple(
    f"technique/nxxas/{part}"
    for part in ("energy", "incoming_beam", "absorbed_beam", "mode")
)
_REQUIRED: Final = (
    "title",
    "start_time",
    "instrument/source/type",
    "instrument/source/name",
    "instrument/source/probe",
    "instrument/monochromator/energy",
    "instrument/incoming_beam/data",
    "instrument/absorbed_beam/data",
    "sample/name",
    "monitor/mode",
    "monitor/preset",
    "monitor/data",
    "data/energy",
    "data/absorbed_beam",
    "data/mode",
)


def _naming(view: ScanView) -> tuple[str, ...]:
    return (f"{view.scan_name}_{_NAME}.nxs",)


def _masters(view: ScanView) -> Mapping[str, Master]:
    incoming = channel_named(view, _NAME, "incoming_beam", MONITORS)
    absorbed, mode = _absorbed(view)
    axis = _energy_axis(view)
    counted = [place.n_points for place in (absorbed, axis, incoming) if place]
    count = counted[0] if counted else None
    energy = targeted(view.complete(axis, count), _ENERGY)
    signal = targeted(view.fitting(absorbed, count), _ABSORBED)
    name = view.dataset("instrument/name")
    instrument: dict[str, Node] = {
        "name": name or Dataset(view.record.identity.beamline),
        "source": source_of(view),
        "monochromator": _group("NXmonochromator", energy=energy),
        "incoming_beam": _group("NXdetector", data=view.fitting(incoming, count)),
        "absorbed_beam": _group("NXdetector", data=signal),
    }
    children: dict[str, Node] = start_of(view)
    children["instrument"] = Group("NXinstrument", children=instrument)
    children["sample"] = sample_of(view)
    counter = monitor(view, _NAME)
    if counter is not None:
        children["monitor"] = counter
    children["data"] = _data(signal, energy, mode)
    (file_name,) = _naming(view)
    said = {
        **sources_of(view, _NAME),
        **dict.fromkeys(("instrument/monochromator/energy", "data/energy"), _SAID[0]),
        "instrument/incoming_beam/data": _SAID[1],
        **dict.fromkeys(
            ("instrument/absorbed_beam/data", "data/absorbed_beam"), _SAID[2]
        ),
        "data/mode": _SAID[2] if absorbed is None else _SAID[3],
    }
    return {file_name: finished(children, "NXxas", _REQUIRED, said)}


def _group(nx_class: str, **fields: Node | None) -> Group:
    children = {name: node for name, node in fields.items() if node is not None}
    return Group(nx_class, children=children)


def _energy_axis(view: ScanView) -> Place | None:
    """Return the axis of the energy: a named one, or the only one in units of it."""

    def is_energy(place: Place) -> bool:
        return is_number(place) and place.channel.units in _ENERGIES

    place = channel_named(view, _NAME, "energy", _AXES, is_energy)
    if place is None and not view.text(f"technique/{_NAME}/energy"):
        found = [axis for axis in view.axes if is_energy(axis)]
        place = found[0] if len(found) == 1 else None
    return place


def _absorbed(view: ScanView) -> tuple[Place | None, str]:
    """Return the counter behind the sample, or of its fluorescence, and the mode."""
    place = channel_named(view, _NAME, "absorbed_beam", (*_TRANSMITTED, *_FLUORESCED))
    said = view.text(f"technique/{_NAME}/mode").strip()
    mode = _MODES.get(said.lower(), said if said in _MODES.values() else "")
    if not said and place is not None:
        name = place.channel.name.lower()
        if name in _TRANSMITTED:
            mode = _MODES["transmission"]
        elif name in _FLUORESCED:
            mode = _MODES["fy"]
    return place, mode


def _data(signal: Node | None, energy: Node | None, mode: str) -> Group:
    links: dict[str, Node] = {}
    attributes: dict[str, Value] = {}
    if signal is not None:
        links["absorbed_beam"] = HardLink(_ABSORBED)
        attributes["signal"] = "absorbed_beam"
        if energy is not None:
            attributes["axes"] = ("energy",)
    if energy is not None:
        links["energy"] = HardLink(_ENERGY)
    if mode:
        links["mode"] = Dataset(mode)
    return Group("NXdata", attributes, links)


NXXAS: Final = Profile(
    _NAME,
    _naming,
    _masters,
    "X-ray absorption: incoming and absorbed beam over the energy",
    (
        *_SAID,
        "instrument/source/type",
        "instrument/source/name",
        "instrument/source/probe",
        "technique/nxxas/monitor (or a channel i0)",
        "technique/nxxas/preset (or a count time)",
    ),
)
