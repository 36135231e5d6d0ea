"""Fields of devices under the names that pyFAI and PyMca look for.

They are made of what the metadata say under NeXus's names; what these say themselves
stays. Pure.

References
----------
``pyFAI.detectors.NexusDetector.load`` and ``PyMca5.PyMcaCore.NexusTools``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from scanbus.schemas import Role
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.model.nexus_tree import Array, Dataset, Group, Node, VirtualArray

__all__ = ["DERIVED_FROM", "with_device_fields"]

DERIVED_FROM: Final = "derived_from"
"""Attribute with the field of which a field is made, maybe of another type."""

_METRES: Final = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "": 1.0}
_KILOELECTRONVOLTS: Final = {"keV": 1.0, "kev": 1.0, "eV": 1e-3, "ev": 1e-3, "": 1.0}
_PIXEL_SIZES: Final = ("y_pixel_size", "x_pixel_size")
_LINE: Final = ("calibration_offset", "calibration_slope")
_PRESET_TIMES: Final = ("count_time", "exposure_time")
_COLOURS: Final = (3, 4)
_OF_MASK: Final = {DERIVED_FROM: "pixel_mask"}
_LINEAR: Final = 1e-6


def with_device_fields(instrument: Group, places: Iterable[Place]) -> Group:
    """Return an instrument whose detectors have what pyFAI and PyMca look for.

    Parameters
    ----------
    instrument : Group
        With the metadata of the devices.
    places : iterable of Place
        The channels.
    """
    children = dict(instrument.children)
    for place in places:
        device = children.get(place.device)
        if not isinstance(device, Group):
            continue
        found = _fields_of(place, device)
        if found:
            children[place.device] = replace(
                device, children={**device.children, **found}
            )
    return replace(instrument, children=children)


def _fields_of(place: Place, device: Group) -> dict[str, Node]:
    channel, fields = place.channel, device.children
    found: dict[str, Node | None] = {}
    if channel.role is Role.DETECTOR and len(channel.shape) >= 2:
        shape = _image_shape(channel.shape)
        found["shape"] = Dataset(np.array(shape, np.int32))
        found["pixel_size"] = _pixel_size(fields)
        found["mask"] = _mask(fields.get("pixel_mask"), shape)
    elif channel.role is Role.SPECTRUM and len(channel.shape) == 1:
        if channel.shape[0] > 0:
            found["channels"] = Dataset(np.arange(channel.shape[0], dtype=np.int32))
        found["calibration"] = _calibration(fields)
        found["preset_time"] = _preset_time(fields)
    return {
        name: node
        for name, node in found.items()
        if node is not None and name not in fields
    }


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    is_coloured = len(shape) > 2 and shape[-1] in _COLOURS
    return shape[-3:-1] if is_coloured else shape[-2:]


def _pixel_size(fields: Mapping[str, Node]) -> Dataset | None:
    """Return the size of a pixel along the slow and the fast axis, in metres."""
    sizes = [_number(fields.get(name), _METRES) for name in _PIXEL_SIZES]
    if any(size is None for size in sizes):
        return None
    return Dataset(np.array(sizes, np.float64), {"units": "m"})


def _mask(node: Node | None, shape: tuple[int, ...]) -> Node | None:
    """Return the pixel mask as one of bytes, in which all but 0 is masked."""
    if isinstance(node, VirtualArray) and node.dtype.kind in "iu":
        # HDF5 converts on reading, and larger numbers to the largest one of a byte.
        # Without its file every pixel is masked, which nobody overlooks.
        kept = replace(node, dtype=np.dtype("i1"), fill_value=1, attributes=_OF_MASK)
        return kept if node.shape == shape else None
    if not isinstance(node, Dataset) or not isinstance(node.value, np.ndarray):
        return None
    if node.value.shape != shape or node.value.dtype.kind not in "biu":
        return None
    return Dataset((node.value != 0).astype(np.int8), _OF_MASK)


def _calibration(fields: Mapping[str, Node]) -> Dataset | None:
    """Return offset, gain and curvature of the energies of channels, in keV."""
    offset, gain = (_number(fields.get(n), _KILOELECTRONVOLTS) for n in _LINE)
    if offset is None or gain is None:
        offset, gain = _line_through(fields.get("energy"))
    if offset is None or not gain:
        return None
    return Dataset(np.array([offset, gain, 0.0]))


def _line_through(node: Node | None) -> tuple[float | None, float | None]:
    """Return the first one of evenly spaced energies, and their step, in keV."""
    factor = _factor(node, _KILOELECTRONVOLTS)
    if factor is None or not isinstance(node, Dataset):
        return None, None
    energies: Array = np.asarray(node.value, np.float64) * factor
    if energies.ndim != 1 or len(energies) < 2 or not np.isfinite(energies).all():
        return None, None
    gain = float(energies[-1] - energies[0]) / (len(energies) - 1)
    line = energies[0] + gain * np.arange(len(energies))
    is_line = np.abs(energies - line).max() <= _LINEAR * abs(gain) * len(energies)
    return (float(energies[0]), gain) if is_line else (None, None)


def _preset_time(fields: Mapping[str, Node]) -> Dataset | None:
    for name in _PRESET_TIMES:
        node = fields.get(name)
        if isinstance(node, Dataset) and _number(node, None) is not None:
            return node
    return None


def _number(node: Node | None, units: Mapping[str, float] | None) -> float | None:
    """Return a number in basic units; None if it is none, or of unknown units."""
    factor = 1.0 if units is None else _factor(node, units)
    if factor is None or not isinstance(node, Dataset):
        return None
    value = np.asarray(node.value)
    if value.dtype.kind not in "iuf" or value.size != 1:
        return None
    return float(value.ravel()[0]) * factor


def _factor(node: Node | None, units: Mapping[str, float]) -> float | None:
    if not isinstance(node, Dataset) or np.asarray(node.value).dtype.kind not in "iuf":
        return None
    return units.get(str(node.attributes.get("units", "")))
