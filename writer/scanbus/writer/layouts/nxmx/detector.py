"""The detector in NXmx: its geometry, its numbers, and where older programs look.

References
----------
NXmx, NXdetector and NXdetector_module of the NeXus definitions v2026.01; the file
writer of DECTRIS for ``detectorSpecific``. In the McStas frame z points along the beam
and y up; seen from the source, a detector's fast axis runs along -x and its slow axis
along -y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.model.nexus_tree import (
    CopiedArray,
    Dataset,
    Group,
    HardLink,
    Node,
    Value,
    VirtualArray,
)

__all__ = ["Geometry", "detector_group", "geometry_of", "has_mask"]

_MASK: Final = np.dtype("<u4")
_DETECTOR: Final = "/entry/instrument/detector"
_TRANSLATION: Final = f"{_DETECTOR}/transformations/det_z"
_OFFSET: Final = f"{_DETECTOR}/module/module_offset"
_MATERIALS: Final = {
    "si": "Si",
    "silicon": "Si",
    "cdte": "CdTe",
    "cadmium telluride": "CdTe",
    "gaas": "GaAs",
    "gallium arsenide": "GaAs",
}
# What a detector's group has under these names goes over as it is.
_KEPT: Final = (
    "angular_calibration_applied",
    "bit_depth_image",
    "count_time",
    "countrate_correction_applied",
    "dead_time",
    "description",
    "detector_readout_time",
    "error_value",
    "flatfield_applied",
    "frame_time",
    "gain_setting",
    "pixel_mask_applied",
    "saturation_value",
    "serial_number",
    "threshold_energy",
    "underload_value",
    "virtual_pixel_interpolation_applied",
)


_TEXTS: Final = ("description", "gain_setting", "serial_number")


@dataclass(frozen=True)
class Geometry:
    """Where the detector stands; None where nobody says it.

    Attributes
    ----------
    distance : float or None
        From the sample, in metres.
    pixel_size : tuple
        Along the fast and the slow axis, in metres.
    beam_center : tuple
        Where the beam meets the detector, along the fast and the slow axis, in pixels.
    """

    distance: float | None
    pixel_size: tuple[float | None, float | None]
    beam_center: tuple[float | None, float | None]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of fields of the detector without which there is no geometry."""
        found = {
            "distance": self.distance,
            "x_pixel_size": self.pixel_size[0],
            "y_pixel_size": self.pixel_size[1],
            "beam_center_x": self.beam_center[0],
            "beam_center_y": self.beam_center[1],
        }
        return tuple(name for name, value in found.items() if value is None)


def geometry_of(view: ScanView, device: str) -> Geometry:
    """Return where a detector stands, from its group in the NXentry.

    Parameters
    ----------
    device : str
        Name of that group.
    """

    def size(name: str) -> float | None:
        return view.size(f"instrument/{device}/{name}", "m")

    def place(name: str, pixel: float | None) -> float | None:
        path = f"instrument/{device}/{name}"
        found = view.number(path, "pixel")
        metres = view.number(path, "m") if found is None and pixel else None
        return metres / pixel if metres is not None and pixel else found

    distance = size("distance")
    if distance is None:
        distance = size("detector_distance")
    return Geometry(
        distance,
        (size("x_pixel_size"), size("y_pixel_size")),
        (
            place("beam_center_x", size("x_pixel_size")),
            place("beam_center_y", size("y_pixel_size")),
        ),
    )


def detector_group(
    view: ScanView, place: Place, geometry: Geometry, *, links_files: bool
) -> Group:
    """Return the NXdetector of a detector's frames.

    Parameters
    ----------
    place : Place
        The channel of the frames.
    links_files : bool
        Whether it is for the file that links the detector's files: programs that read
        these look into ``detectorSpecific``.
    """
    children: dict[str, Node] = {}
    path = f"instrument/{place.device}"
    for name in _KEPT:
        node = view.dataset(f"{path}/{name}")
        if node is not None and _is_kept(name, node):
            children[name] = Dataset(node.value, _units(node))
    dtype = place.channel.numpy_dtype
    depth = view.dataset(f"{path}/bit_depth_readout")
    bits = dtype.itemsize * 8
    # dxtbx takes uint32 for counts only if the readout has 32 bits.
    children["bit_depth_readout"] = (
        Dataset(depth.value) if depth is not None and bits < 32 else Dataset(bits)
    )
    if dtype.kind == "u":  # No count is below zero.
        children.setdefault("underload_value", Dataset(0))
    material = _MATERIALS.get(view.text(f"{path}/sensor_material").strip().lower())
    if material is not None:
        children["sensor_material"] = Dataset(material)
    thickness = view.size(f"{path}/sensor_thickness", "m")
    if thickness is not None:
        children["sensor_thickness"] = _metres(thickness)
    serial = view.text(f"{path}/serial_number")
    if serial:
        children["detector_number"] = Dataset(serial)
    children["type"] = Dataset(view.text(f"{path}/type") or "Pixel")
    children |= _placed(geometry, place.channel.shape)
    mask = _mask(view, place)
    if links_files:
        specific = _specific(view, place, mask)
        children["detectorSpecific"] = Group("NXcollection", children=specific)
    if mask is not None:
        # Not mapped: dxtbx reads it at once, and may have no filter of bitshuffle.
        children["pixel_mask"] = (
            HardLink(f"{_DETECTOR}/detectorSpecific/pixel_mask")
            if links_files
            else CopiedArray(mask, _MASK)
        )
    return Group("NXdetector", children=children)


def has_mask(view: ScanView, place: Place) -> bool:
    """Whether a detector has a pixel mask that fits its frames."""
    return _mask(view, place) is not None


def _is_kept(name: str, node: Dataset) -> bool:
    """Return whether a field has what readers expect: one number, or a text."""
    if name in _TEXTS:
        return isinstance(node.value, str)
    value = np.asarray(node.value)
    return value.size == 1 and value.dtype.kind in "biuf"


def _units(node: Dataset) -> dict[str, Value]:
    units = node.attributes.get("units")
    return {} if units is None else {"units": units}


def _metres(value: float) -> Dataset:
    return Dataset(value, {"units": "m"})


def _placed(geometry: Geometry, shape: tuple[int, ...]) -> dict[str, Node]:
    """Return the fields of the geometry, as far as it is known."""
    children: dict[str, Node] = {}
    for name, size in zip("xy", geometry.pixel_size, strict=True):
        if size is not None:
            children[f"{name}_pixel_size"] = _metres(size)
    for name, centre in zip("xy", geometry.beam_center, strict=True):
        if centre is not None:
            children[f"beam_center_{name}"] = Dataset(centre, {"units": "pixel"})
    if geometry.distance is None:
        return children
    children["distance"] = _metres(geometry.distance)
    children["detector_distance"] = _metres(geometry.distance)
    children["depends_on"] = Dataset(_TRANSLATION)
    moved = _translation(geometry.distance, (0.0, 0.0, 1.0), ".")
    children["transformations"] = Group("NXtransformations", children={"det_z": moved})
    module = _module(geometry, shape)
    if module is not None:
        children["module"] = module
    return children


def _module(geometry: Geometry, shape: tuple[int, ...]) -> Group | None:
    """Return the module: all of the detector, the gaps between its parts included."""
    (x_size, y_size), (x_beam, y_beam) = geometry.pixel_size, geometry.beam_center
    if x_size is None or y_size is None or x_beam is None or y_beam is None:
        return None
    corner = (x_beam * x_size, y_beam * y_size, 0.0)
    return Group(
        "NXdetector_module",
        children={
            "data_origin": Dataset(np.zeros(2, np.int64)),
            "data_size": Dataset(np.array(shape, np.int64)),
            "data_stride": Dataset(np.ones(2, np.int64)),
            "module_offset": _translation(0.0, (1.0, 0.0, 0.0), _TRANSLATION, corner),
            "fast_pixel_direction": _translation(x_size, (-1.0, 0.0, 0.0), _OFFSET),
            "slow_pixel_direction": _translation(y_size, (0.0, -1.0, 0.0), _OFFSET),
        },
    )


def _translation(
    value: float,
    vector: tuple[float, float, float],
    depends_on: str,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Dataset:
    return Dataset(
        value,
        {
            "units": "m",
            "transformation_type": "translation",
            "vector": np.array(vector),
            "offset": np.array(offset),
            "offset_units": "m",
            "depends_on": depends_on,
        },
    )


def _mask(view: ScanView, place: Place) -> Dataset | VirtualArray | None:
    """Return the pixel mask of a detector; 0 is a good pixel."""
    node = view.node(f"instrument/{place.device}/pixel_mask")
    if isinstance(node, VirtualArray):
        fits = node.dtype.kind in "iu" and node.shape == place.channel.shape
        return (
            VirtualArray(
                node.file,
                node.path,
                node.source_shape,
                node.shape,
                node.dtype,
                node.fill_value,
            )
            if fits
            else None
        )
    if not isinstance(node, Dataset) or not isinstance(node.value, np.ndarray):
        return None
    fits = node.value.dtype.kind in "biu" and node.value.shape == place.channel.shape
    return Dataset(node.value.astype(np.uint32)) if fits else None


def _specific(
    view: ScanView, place: Place, mask: Dataset | VirtualArray | None
) -> Mapping[str, Node]:
    """Return what XDS's plug-ins and other programs of DECTRIS's format look for."""
    slow, fast = place.channel.shape
    n_frames = place.n_points or 0
    path = f"instrument/{place.device}"
    n_triggers = view.number(f"{path}/ntrigger", "")
    n_triggers = max(1, int(n_triggers)) if n_triggers else 1
    if n_frames % n_triggers:
        n_triggers = 1
    children: dict[str, Node] = {
        "nimages": Dataset(n_frames // n_triggers),
        "ntrigger": Dataset(n_triggers),
        "x_pixels_in_detector": Dataset(fast),
        "y_pixels_in_detector": Dataset(slow),
    }
    cutoff = view.dataset(f"{path}/saturation_value")
    if cutoff is not None:
        children["countrate_correction_count_cutoff"] = Dataset(cutoff.value)
    energy = view.number("instrument/beam/incident_energy", "eV")
    if energy is not None:
        children["photon_energy"] = Dataset(energy, {"units": "eV"})
    for name in ("software_version", "eiger_fw_version"):
        text = view.text(f"{path}/{name}")
        if text:
            children[name] = Dataset(text)
    # neggia opens it, and wants it in one piece.
    children["pixel_mask"] = CopiedArray(
        mask or Dataset(np.zeros((slow, fast), np.uint32)), _MASK, is_contiguous=True
    )
    return children
