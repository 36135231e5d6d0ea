"""The rotation of the sample in NXmx: the axis that moves, its steps and direction.

References
----------
NXmx and NXtransformations of the NeXus definitions v2026.01. In the McStas frame the
beam runs along z; a goniometer whose axis is horizontal turns about (-1, 0, 0), as at
most MX beamlines and as dxtbx takes it for images without a direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.conversions import converted
from scanbus.writer.layouts.common.named_channels import channel_named
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.model.nexus_tree import (
    Array,
    CopiedDataset,
    Dataset,
    Group,
    Node,
    Value,
    VirtualDataset,
)

__all__ = ["Rotation", "find_rotation", "has_own_axes", "sample_group"]

_TURNED: Final = ("omega", "phi", "chi", "kappa")
"""Names of axes as DECTRIS and NXmx have them, the one that usually turns first."""
_VECTOR: Final = np.array([-1.0, 0.0, 0.0])
_ANGLES: Final = ("deg", "degree", "degrees", "rad", "mrad", "urad", "mdeg")
# Steps that differ by less are one step: encoders jitter.
_EVEN: Final = 0.02
_OURS: Final = ("goniometer", "transformations")
_PATH: Final = "/entry/sample/transformations"


@dataclass(frozen=True)
class Rotation:
    """The axis that turns the sample.

    Attributes
    ----------
    name : str
        Its name, such as ``omega``.
    start : Node or None
        Position at the start of each frame; None if nobody says where it stands.
    end : Node or None
        Position at the end of each frame; None if that is not known.
    start_value, increment : float or None
        First position and step in degrees, if they are known.
    remarks : tuple of str
        What is odd about it.
    missing : str
        What is missing of its positions; empty if nothing is.
    """

    name: str
    start: Node | None = None
    end: Node | None = None
    start_value: float | None = None
    increment: float | None = None
    remarks: tuple[str, ...] = ()
    missing: str = ""


def find_rotation(view: ScanView, n_frames: int) -> Rotation:
    """Return the axis that turns the sample while a detector takes its frames.

    In this order: a scanned axis, what a detector was told (``sample/goniometer``), the
    position of a motor at the start of the scan.

    Parameters
    ----------
    n_frames : int
        Number of frames of the detector.
    """
    place = _scanned(view)
    if place is not None:
        return _of_channel(view, place, n_frames)
    return replace(_standing(view, n_frames), remarks=_others(view))


def _standing(view: ScanView, n_frames: int) -> Rotation:
    """Return the axis of which no positions came with the frames."""
    for name in _told(view):
        start = view.number(f"sample/goniometer/{name}", "deg")
        step = view.number(f"sample/goniometer/{name}_increment_set", "deg")
        if start is not None:
            return _of_numbers(name, start, step or 0.0, n_frames)
    for group in ("positioners_start", "positioners"):
        for name in _TURNED:
            start = view.number(f"instrument/{group}/{name}", "deg")
            if start is not None:
                return _of_numbers(name, start, 0.0, n_frames)
    return Rotation("omega")


def _scanned(view: ScanView) -> Place | None:
    """Return the scanned axis that turns the sample.

    The metadata name it in ``technique/nxmx/rotation``, or it has a usual name. If
    several have one, it is the one that moves.
    """
    said = channel_named(view, "nxmx", "rotation", (), _is_angle)
    if said is not None or view.text("technique/nxmx/rotation"):
        return said
    found = [place for place in view.axes if _is_angle(place)]
    found = [place for place in found if place.channel.name.lower() in _TURNED]
    found.sort(key=lambda place: _TURNED.index(place.channel.name.lower()))
    for place in found:
        positions = view.positions(place.channel.name)
        if positions is not None and _moves(positions):
            return place
    return found[0] if found else None


def _is_angle(place: Place) -> bool:
    return not place.channel.shape and place.channel.units in _ANGLES


def _others(view: ScanView) -> tuple[str, ...]:
    """Return a remark on scanned angles that may be of anything."""
    names = [place.channel.name for place in view.axes if _is_angle(place)]
    names = [name for name in names if not name.endswith("_end")]
    if not names:
        return ()
    remark = (
        f"the scanned axis {names[0]} is not taken for the rotation of the sample; "
        "name it in the metadata technique/nxmx/rotation if it is"
    )
    return (remark,)


def _moves(positions: Array) -> bool:
    known = positions[np.isfinite(positions)]
    return bool(known.size) and float(np.ptp(known)) > 0


def _told(view: ScanView) -> Iterator[str]:
    """Yield the axes of which the detector was told, those that turn first."""
    names = [name for name in _TURNED if view.dataset(f"sample/goniometer/{name}")]
    path = "sample/goniometer/{}_increment_set"
    yield from sorted(names, key=lambda name: not view.number(path.format(name), "deg"))


def _of_numbers(name: str, start: float, step: float, n_frames: int) -> Rotation:
    angles = start + step * np.arange(n_frames)
    return Rotation(name, _axis(angles), _axis(angles + step), start, step)


def _axis(angles: Array) -> Dataset:
    return Dataset(angles, {"units": "deg"})


def _of_channel(view: ScanView, place: Place, n_frames: int) -> Rotation:
    name, units = place.channel.name, place.channel.units
    positions = view.positions(name)
    end = _points(view, f"{name}_end", n_frames)
    start = _points(view, name, n_frames)
    is_short = positions is not None and len(positions) != n_frames
    if positions is None or start is None or is_short:
        is_known = start is not None and not is_short
        missing = "" if is_known else f"{name} (a position for each frame)"
        is_over = view.record.final_verdict is not None
        return Rotation(_field(name), start, end, missing=missing if is_over else "")
    if not np.isfinite(positions).all():
        return Rotation(_field(name), start, missing=f"{name} (positions are missing)")
    step = _step(positions)
    if end is None and step is not None:
        end = Dataset(positions + step, {"units": units})
    factor = converted(1.0, units, "deg")
    if factor is None:
        return Rotation(_field(name), start, end)
    first = float(positions[0]) * factor if positions.size else None
    width = None if step is None else step * factor
    remarks = tuple(_odd_steps(name, positions, step))
    return Rotation(_field(name), start, end, first, width, remarks)


def _odd_steps(name: str, positions: Array, step: float | None) -> Iterator[str]:
    if step is None and len(positions) > 1:
        yield f"the steps of {name} are uneven: DIALS takes all to be as the first"
    elif step is not None and step < 0:
        yield f"{name} decreases: dials.import refuses that (DIALS 3.12)"


def _field(name: str) -> str:
    """Return the name of the axis in the file: dots in a path mislead readers."""
    return name.replace(".", "_")


def _step(positions: Array) -> float | None:
    """Return the step of evenly spaced positions; None if they are not, or one."""
    steps = np.diff(positions)
    if not steps.size or not np.isfinite(steps).all():
        return None
    step = float(np.median(steps))
    is_even = float(np.abs(steps - step).max()) <= _EVEN * abs(step)
    return step if is_even else None


def _points(view: ScanView, name: str, n_frames: int) -> Node | None:
    """Return the points of a channel, if it has one for each frame."""
    place = view.places.get(name)
    if place is None or place.channel.shape:
        return None
    if view.record.final_verdict is not None and place.n_points != n_frames:
        return None
    return view.points(name)


def sample_group(view: ScanView, rotation: Rotation) -> Group:
    """Return the NXsample: its name, its axes, and where older programs look.

    A program that gives ``sample/depends_on`` and ``sample/transformations`` itself has
    its own.
    """
    given = view.group("sample") or Group("NXsample")
    children = {
        name: node for name, node in given.children.items() if name not in _OURS
    }
    own = _own_axes(view)
    if own is not None:
        children["depends_on"], children["transformations"] = own
    elif rotation.start is not None:
        axes = _transformations(rotation)
        children["depends_on"] = Dataset(f"{_PATH}/{rotation.name}")
        children["transformations"] = Group("NXtransformations", children=axes)
    else:
        children["depends_on"] = Dataset(".")
    legacy = _legacy(rotation)
    if legacy:
        children["goniometer"] = Group("NXcollection", children=legacy)
    return Group("NXsample", given.attributes, children)


def has_own_axes(view: ScanView) -> bool:
    """Whether the axes are those that a program gives itself."""
    return _own_axes(view) is not None


def _own_axes(view: ScanView) -> tuple[Dataset, Group] | None:
    """Return the axes that a program gives itself, if readers can follow them."""
    group = view.group("sample/transformations")
    said = view.text("sample/depends_on")
    if group is None or not said:
        return None
    axes: dict[str, Node] = {}
    for name, node in group.children.items():
        attributes = dict(getattr(node, "attributes", {}))
        is_axis = np.shape(attributes.get("vector", 0)) == (3,)
        is_axis = is_axis and {"units", "transformation_type"} <= attributes.keys()
        if isinstance(node, Dataset) and is_axis:
            above = str(attributes.get("depends_on", "."))
            attributes["depends_on"] = above if above == "." else _in_entry(above)
            axes[name] = replace(node, attributes=attributes)
    first = _in_entry(said)
    if first.removeprefix(f"{_PATH}/") not in axes:
        return None
    return Dataset(first), Group("NXtransformations", group.attributes, axes)


def _in_entry(path: str) -> str:
    """Return the path of an axis in the file, whatever entry it was given for."""
    return f"{_PATH}/{path.rpartition('/')[2]}"


def _transformations(rotation: Rotation) -> dict[str, Node]:
    found = {rotation.name: rotation.start, f"{rotation.name}_end": rotation.end}
    return {name: _turning(node) for name, node in found.items() if node is not None}


def _turning(node: Node) -> Node:
    if not isinstance(node, Dataset | CopiedDataset | VirtualDataset):
        return node
    vector = node.attributes.get("vector", _VECTOR)
    attributes: dict[str, Value] = {
        "units": node.attributes.get("units", "deg"),
        "transformation_type": "rotation",
        "vector": vector if np.shape(vector) == (3,) else _VECTOR,
        "depends_on": ".",
    }
    return replace(node, attributes=attributes)


def _legacy(rotation: Rotation) -> Mapping[str, Node]:
    """Return the goniometer as the file writer of DECTRIS has it."""
    name, degrees = rotation.name, {"units": "deg"}
    found: dict[str, Node | None] = {name: rotation.start, f"{name}_end": rotation.end}
    if rotation.increment is not None:
        found[f"{name}_increment"] = Dataset(rotation.increment, degrees)
        found[f"{name}_range_average"] = Dataset(rotation.increment, degrees)
    return {field: _plain(node) for field, node in found.items() if node is not None}


def _plain(node: Node) -> Node:
    if not isinstance(node, Dataset | CopiedDataset | VirtualDataset):
        return node
    units = node.attributes.get("units", "deg")
    return replace(node, attributes={"units": units})
