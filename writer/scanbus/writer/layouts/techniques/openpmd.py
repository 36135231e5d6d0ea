"""openPMD: frames and values of a scan as meshes, for tools of plasma physics.

The whole scan is one iteration: a mesh has the points of the scan as its first axis.
One iteration for each point would be as many groups as there are frames.

References
----------
The openPMD standard 1.1.0 (base standard, without an extension).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import numpy as np

from scanbus.schemas import Role
from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.conversions import converted
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.model.nexus_tree import (
    Array,
    CopiedDataset,
    Dataset,
    Group,
    Node,
    Value,
    VirtualDataset,
)

__all__ = ["OPENPMD"]

_NAME: Final = "openpmd"
_STANDARD: Final = "1.1.0"
# Texts have a fixed length: openPMD's own validator decodes them.
# Length, mass, time, current, temperature, amount, luminous intensity: as powers of the
# SI's base units, for units that pint converts into them.
_DIMENSIONS: Final = {
    "m": (1, 0, 0, 0, 0, 0, 0),
    "kg": (0, 1, 0, 0, 0, 0, 0),
    "s": (0, 0, 1, 0, 0, 0, 0),
    "A": (0, 0, 0, 1, 0, 0, 0),
    "K": (0, 0, 0, 0, 1, 0, 0),
    "Hz": (0, 0, -1, 0, 0, 0, 0),
    "J": (2, 1, -2, 0, 0, 0, 0),
    "Pa": (-1, 1, -2, 0, 0, 0, 0),
    "V": (2, 1, -3, -1, 0, 0, 0),
}
_NONE: Final = (0, 0, 0, 0, 0, 0, 0)
_LABELS: Final = ("point", "y", "x")


def _naming(view: ScanView) -> tuple[str, ...]:
    return (f"{view.scan_name}_{_NAME}.h5",)


def _masters(view: ScanView) -> Mapping[str, Master]:
    meshes: dict[str, Node] = {}
    for name, place in view.places.items():
        mesh = _mesh(view, place)
        if mesh is not None:
            meshes[name] = mesh
    if not meshes:
        raise LayoutError(_NAME, "the scan has no numbers of a fixed shape")
    iteration = Group(
        None,
        {"time": 0.0, "dt": 1.0, "timeUnitSI": 1.0},
        {"meshes": Group(None, children=meshes)},
    )
    attributes: dict[str, Value] = {
        "openPMD": np.bytes_(_STANDARD),
        "openPMDextension": np.uint32(0),
        "basePath": np.bytes_("/data/%T/"),
        "meshesPath": np.bytes_("meshes/"),
        "iterationEncoding": np.bytes_("groupBased"),
        "iterationFormat": np.bytes_("/data/%T/"),
        "software": np.bytes_("scanbus"),
    }
    date = _date(view.text("start_time"))
    if date:
        attributes["date"] = np.bytes_(date)
    (file_name,) = _naming(view)
    data = Group(None, children={"0": iteration})
    return {file_name: Master({"data": data}, attributes=attributes)}


def _date(text: str) -> str:
    """Return a time as openPMD has it, which wants an offset; empty without one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return "" if moment.tzinfo is None else f"{moment:%Y-%m-%d %H:%M:%S %z}"


def _mesh(view: ScanView, place: Place) -> Node | None:
    """Return the points of a channel as a mesh; None if they are no such numbers."""
    channel = place.channel
    is_number = not channel.is_string and channel.numpy_dtype.kind in "iuf"
    if not is_number or channel.is_ragged or len(channel.shape) > 2:
        return None
    node = view.points(channel.name)
    if not isinstance(node, Dataset | CopiedDataset | VirtualDataset):
        return None
    units = str(node.attributes.get("units", ""))
    factor, dimension = _in_base_units(units)
    labels, spacing = _grid(view, place)
    told: dict[str, Value] = {
        "geometry": np.bytes_("cartesian"),
        "dataOrder": np.bytes_("C"),
        "axisLabels": np.array(labels, np.bytes_),
        "gridSpacing": spacing,
        "gridGlobalOffset": np.zeros(len(labels)),
        "gridUnitSI": 1.0,
        "unitDimension": np.array(dimension, np.float64),
        "unitSI": factor,
        "timeOffset": 0.0,
        "position": np.zeros(len(labels)),
    }
    if units:
        told["units"] = units
    if isinstance(node, Dataset):
        return Dataset(node.value, told)
    if isinstance(node, CopiedDataset):
        return CopiedDataset(node.file, node.path, told)
    return VirtualDataset(
        node.shape, node.dtype, node.fill_value, node.sources, told, node.frames
    )


def _in_base_units(units: str) -> tuple[float, tuple[int, ...]]:
    """Return what a number is multiplied with to be in the SI, and its dimension."""
    for base, dimension in _DIMENSIONS.items():
        factor = converted(1.0, units, base) if units else None
        if factor is not None:
            return factor, dimension
    return 1.0, _NONE


def _grid(view: ScanView, place: Place) -> tuple[tuple[str, ...], Array]:
    """Return the axes of a mesh, and the distance of their points."""
    n_axes = len(place.channel.shape)
    if n_axes < 2:
        labels = ("point", "channel")[: n_axes + 1]
        return labels, np.ones(len(labels))
    sizes = [1.0]
    for name in ("y_pixel_size", "x_pixel_size"):
        size = view.number(f"instrument/{place.device}/{name}", "m")
        is_detector = place.channel.role is Role.DETECTOR
        sizes.append(size if size is not None and is_detector else 1.0)
    return _LABELS, np.array(sizes)


OPENPMD: Final = Profile(
    _NAME,
    _naming,
    _masters,
    "openPMD: all numbers as meshes over the points of the scan",
)
