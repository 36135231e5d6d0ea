"""Parts that the trees of techniques share: sources, monitors, named channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from scanbus.schemas import Role
from scanbus.writer.layouts.common.beam import lacks_wavelength
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.named_channels import channel_named
from scanbus.writer.layouts.common.required import lacking, with_definition
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import ENTRY, Master
from scanbus.writer.model.nexus_tree import (
    CopiedDataset,
    Dataset,
    Group,
    Node,
    VirtualDataset,
)

__all__ = [
    "ANGLES",
    "MONITORS",
    "detector_fields",
    "file_names",
    "finished",
    "monitor",
    "sample_of",
    "source_of",
    "sources_of",
    "start_of",
    "targeted",
]

ANGLES: Final = ("deg", "degree", "degrees", "rad", "mrad", "urad", "mdeg")
MONITORS: Final = ("i0", "io", "monitor", "mon", "ic0", "ion_chamber_0", "current")
_COUNTED: Final = ("mode", "data", "integral")
_FIELDS: Final = (
    ("distance", "m"),
    ("x_pixel_size", "m"),
    ("y_pixel_size", "m"),
    ("beam_center_x", "pixel"),
    ("beam_center_y", "pixel"),
)


def file_names(
    view: ScanView, profile: str, places: Sequence[Place], suffix: str = "nxs"
) -> dict[str, str]:
    """Return the name of the file of each channel: with its own, if there are several.

    Examples
    --------
    One detector has ``scan0001_nxtomo.nxs``, each of several
    ``scan0001_frelon_nxtomo.nxs``.
    """
    if len(places) == 1:
        return {places[0].channel.name: f"{view.scan_name}_{profile}.{suffix}"}
    return {
        place.channel.name: f"{view.scan_name}_{place.channel.name}_{profile}.{suffix}"
        for place in places
    }


def start_of(view: ScanView) -> dict[str, Node]:
    """Return title and times of the entry."""
    children: dict[str, Node] = {"title": Dataset(view.record.title or view.scan_name)}
    for name in ("start_time", "end_time"):
        text = view.text(name)
        if text:
            children[name] = Dataset(text)
    return children


def source_of(view: ScanView) -> Group:
    """Return the NXsource, as far as the metadata have one."""
    found = [group for _, group in view.groups("NXsource", "instrument")]
    found += [group for _, group in view.groups("NXsource")]
    given = found[0] if found else Group("NXsource")
    children = {
        name: node for name, node in given.children.items() if isinstance(node, Dataset)
    }
    return Group("NXsource", children=children)


def sample_of(view: ScanView, **more: Node | None) -> Group:
    """Return the NXsample with its plain fields, and with more of them."""
    given = view.group("sample") or Group("NXsample")
    children: dict[str, Node] = {
        name: node for name, node in given.children.items() if isinstance(node, Dataset)
    }
    children |= {name: node for name, node in more.items() if node is not None}
    return Group("NXsample", given.attributes, children)


def monitor(
    view: ScanView, profile: str, *, with_integral: bool = False
) -> Group | None:
    """Return the NXmonitor: the counter of the incoming beam, and what it is set to."""
    place = channel_named(view, profile, "monitor", MONITORS)
    if place is None:
        return None
    children: dict[str, Node] = {}
    mode = view.text(f"technique/{profile}/mode_of_monitor") or "timer"
    children["mode"] = Dataset(mode if mode in ("monitor", "timer") else "timer")
    preset = view.size(f"technique/{profile}/preset", "s")
    for device in view.detectors:
        if preset is None:
            preset = view.size(f"instrument/{device.device}/count_time", "s")
    for other in view.places.values():
        if preset is None and other.channel.role is Role.SPECTRUM:
            preset = view.size(f"instrument/{other.device}/preset_time", "s")
    if preset is not None:
        children["preset"] = Dataset(preset, {"units": "s"})
    data = view.points(place.channel.name)
    if data is not None:
        children["data"] = data
    if with_integral:
        counts = view.positions(place.channel.name)
        if counts is not None and np.isfinite(counts).any():
            children["integral"] = Dataset(float(np.nansum(counts)))
    return Group("NXmonitor", children=children)


def detector_fields(view: ScanView, place: Place) -> dict[str, Node]:
    """Return where a detector stands, in metres and pixels, as far as it is known."""
    children: dict[str, Node] = {}
    for name, units in _FIELDS:
        path = f"instrument/{place.device}/{name}"
        is_place = units == "pixel"
        value = view.number(path, units) if is_place else view.size(path, units)
        if value is not None:
            children[name] = Dataset(value, {"units": units})
    count_time = view.number(f"instrument/{place.device}/count_time", "s")
    if count_time is not None:
        children["count_time"] = Dataset(count_time, {"units": "s"})
    return children


def sources_of(
    view: ScanView, profile: str, place: Place | None = None
) -> dict[str, str]:
    """Return by which paths of the metadata parts come that several techniques share.

    Parameters
    ----------
    place : Place or None
        The channel of the frames.
    """
    counter = f"technique/{profile}/monitor"
    has_counter = channel_named(view, profile, "monitor", MONITORS) is not None
    preset = f"technique/{profile}/preset" if has_counter else counter
    found = {"instrument/monochromator/wavelength": lacks_wavelength(view)}
    for group in ("monitor", "control"):
        found |= dict.fromkeys((f"{group}/{name}" for name in _COUNTED), counter)
        found[f"{group}/preset"] = preset
    for name, units in _FIELDS if place is not None else ():
        path = f"instrument/{place.device}/{name}" if place is not None else name
        found[f"instrument/detector/{name}"] = view.lacks(path, units)
    found |= dict.fromkeys(("instrument/detector/data", "data/data"), "frames")
    return found


def targeted(node: Node | None, path: str) -> Node | None:
    """Return a dataset that says that it is the original of links, and where it is."""
    if isinstance(node, Dataset | CopiedDataset | VirtualDataset):
        return replace(node, attributes={**node.attributes, "target": path})
    return node


def finished(
    children: Mapping[str, Node],
    name: str,
    required: Sequence[str],
    sources: Mapping[str, str],
    remarks: tuple[str, ...] = (),
) -> Master:
    """Return the file of one NXentry, with its definition if it has all of it.

    Parameters
    ----------
    children : mapping
        Members of the NXentry.
    name : str
        The application definition.
    required : sequence of str
        Paths in the NXentry that it requires.
    sources : mapping
        Of `lacking`.
    """
    entry = Group("NXentry", {"default": "data"}, children)
    missing = lacking(entry, required, sources)
    return Master({ENTRY: with_definition(entry, name, missing)}, missing, remarks)
