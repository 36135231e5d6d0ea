"""NXtomo: projections, flat and dark fields of a tomography in one scan.

References
----------
NXtomo of the NeXus definitions; what nxtomomill and tomoscan read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.common.beam import HC_EV_ANGSTROM, wavelength_of
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.named_channels import channel_named, is_number
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.techniques.parts import (
    ANGLES,
    detector_fields,
    file_names,
    finished,
    sample_of,
    source_of,
    sources_of,
    start_of,
    targeted,
)
from scanbus.writer.model.nexus_tree import Dataset, Group, HardLink, Node, Value

__all__ = ["NXTOMO"]

_NAME: Final = "nxtomo"
_DETECTOR: Final = "/entry/instrument/detector"
_KEYS: Final = {"projection": 0, "projections": 0, "flat": 1, "dark": 2, "invalid": 3}
"""Keys of frames in NXtomo, by the words with which metadata may say them."""
_REQUIRED: Final = (
    "instrument/detector/data",
    "instrument/detector/image_key",
    "sample/name",
    "sample/rotation_angle",
    "data/data",
    "data/rotation_angle",
    "data/image_key",
)
_KEY: Final = "technique/image_key"
_ANGLE: Final = "technique/nxtomo/rotation"
_MOVES: Final = ("x_translation", "y_translation", "z_translation")


def _naming(view: ScanView) -> tuple[str, ...]:
    return tuple(file_names(view, _NAME, view.detectors).values())


def _masters(view: ScanView) -> Mapping[str, Master]:
    if not view.detectors:
        raise LayoutError(_NAME, "the scan has no detector of two-dimensional frames")
    names = file_names(view, _NAME, view.detectors)
    return {names[place.channel.name]: _master(view, place) for place in view.detectors}


def _master(view: ScanView, place: Place) -> Master:
    frames = targeted(view.points(place.channel.name), f"{_DETECTOR}/data")
    key = targeted(_image_key(view, place), f"{_DETECTOR}/image_key")
    angle = targeted(_rotation(view, place), "/entry/sample/rotation_angle")
    detector: dict[str, Node] = detector_fields(view, place)
    if frames is not None:
        detector["data"] = frames
    if key is not None:
        detector["image_key"] = key
        detector["image_key_control"] = HardLink(f"{_DETECTOR}/image_key")
    for name in ("x_rotation_axis_pixel_position", "y_rotation_axis_pixel_position"):
        value = view.number(f"technique/{_NAME}/{name}", "pixel")
        if value is not None:
            detector[name] = Dataset(value, {"units": "pixel"})
    moves = {name: _move(view, name) for name in _MOVES}
    sample = sample_of(view, rotation_angle=angle, **moves)
    instrument: dict[str, Node] = {
        "name": view.dataset("instrument/name")
        or Dataset(view.record.identity.beamline),
        "source": source_of(view),
        "detector": Group("NXdetector", children=detector),
    }
    children: dict[str, Node] = start_of(view)
    wavelength = wavelength_of(view)
    if wavelength is not None:
        energy = Dataset(HC_EV_ANGSTROM / wavelength / 1e3, {"units": "keV"})
        instrument["beam"] = Group("NXbeam", children={"incident_energy": energy})
    children["instrument"] = Group("NXinstrument", children=instrument)
    children["sample"] = sample
    current = channel_named(view, _NAME, "control", ("current", "machine_current"))
    control = None if current is None else view.points(current.channel.name)
    if control is not None:
        children["control"] = Group("NXmonitor", children={"data": control})
    children["data"] = _data(frames, key, angle)
    sources = {
        **sources_of(view, _NAME, place),
        **dict.fromkeys(("instrument/detector/image_key", "data/image_key"), _KEY),
        **dict.fromkeys(("sample/rotation_angle", "data/rotation_angle"), _ANGLE),
    }
    return finished(children, "NXtomo", _REQUIRED, sources)


def _data(frames: Node | None, key: Node | None, angle: Node | None) -> Group:
    links: dict[str, Node] = {}
    if frames is not None:
        links["data"] = HardLink(f"{_DETECTOR}/data")
    if angle is not None:
        links["rotation_angle"] = HardLink("/entry/sample/rotation_angle")
    if key is not None:
        links["image_key"] = HardLink(f"{_DETECTOR}/image_key")
    attributes: dict[str, Value] = {}
    if frames is not None:
        attributes["signal"] = "data"
        if angle is not None:
            attributes["axes"] = ("rotation_angle", ".", ".")
    return Group("NXdata", attributes, links)


def _image_key(view: ScanView, place: Place) -> Node | None:
    """Return what each frame is: a channel, or one key for all frames of the scan."""
    channel = channel_named(view, _NAME, "image_key", ("image_key",))
    if channel is not None:
        is_key = channel.channel.numpy_dtype.kind in "iu"
        keys = view.positions(channel.channel.name)
        if keys is not None and not np.isin(keys, list(_KEYS.values())).all():
            return None
        return view.complete(channel, place.n_points) if is_key else None
    if place.n_points is None:
        return None
    for path in (f"technique/{_NAME}/image_key", "technique/image_key"):
        value = view.number(path, "")
        word = view.text(path).strip().lower()
        is_whole = value is not None and value.is_integer()
        key = _KEYS.get(word, int(value) if value is not None and is_whole else None)
        if key in _KEYS.values():
            return Dataset(np.full(place.n_points, key, np.int32))
    return None


def _rotation(view: ScanView, frames: Place) -> Node | None:
    """Return the angles: of a named axis, or of the only one that turns."""

    def turns(place: Place) -> bool:
        return is_number(place) and place.channel.units in ANGLES

    place = channel_named(view, _NAME, "rotation", (), turns)
    if place is None and not view.text(f"technique/{_NAME}/rotation"):
        found = [axis for axis in view.axes if turns(axis)]
        place = found[0] if len(found) == 1 else None
    return view.complete(place, frames.n_points)


def _move(view: ScanView, name: str) -> Node | None:
    place = channel_named(view, _NAME, name)
    return None if place is None else view.points(place.channel.name)


NXTOMO: Final = Profile(
    _NAME,
    _naming,
    _masters,
    "tomography: frames, keys and angles, for nxtomomill and tomoscan",
    ("frames", f"{_KEY} (or a channel image_key)", f"{_ANGLE} (or one axis in deg)"),
)
