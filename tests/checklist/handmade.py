"""Small files of techniques, written with h5py alone: what judges are tried with.

No part of scanbus makes them. They say what each judge takes, and a test that breaks
one shows what the judge refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

__all__ = ["FRAMES", "GEOMETRY", "cxi", "fluo", "link", "mx_pair", "put", "tomo"]

FRAMES = np.arange(10 * 6 * 8, dtype=np.uint32).reshape(10, 6, 8) % 50
GEOMETRY = {
    "images": 10.0,
    "wavelength_angstrom": 0.96859,
    "distance_mm": 351.0,
    "pixel_fast_mm": 0.172,
    "pixel_slow_mm": 0.172,
    "beam_fast_px": 4.5,
    "beam_slow_px": 2.25,
    "start_deg": 90.0,
    "width_deg": 0.1,
}
"""What the readers of an `mx_pair` answer."""
_ASCII = h5py.string_dtype("ascii")


def put(root: h5py.Group, tree: Mapping[str, Any], **keywords: Any) -> None:
    """Write fields by path, with their attributes: ``{"a/b@units": "m"}``."""
    for path, value in tree.items():
        node, _, attribute = path.partition("@")
        if attribute:
            target = root.require_group(node) if node not in root else root[node]
            dtype = _ASCII if isinstance(value, str) else None
            target.attrs.create(attribute, value, dtype=dtype)
        elif isinstance(value, h5py.ExternalLink | h5py.SoftLink):
            root[node] = value
        else:
            # Texts are UTF-8: nxtomo takes those of ASCII for bytes, and refuses them.
            root.create_dataset(node, data=value, **keywords)


def link(file: h5py.File, path: str, to: str) -> None:
    """Make a hard link with what makes nxvalidate take it for a link: @target."""
    file[path] = file[to]
    put(file, {f"{to}@target": f"/{to}"})


def classes(**names: str) -> dict[str, str]:
    """Return attributes that give groups their class; two underscores are a slash."""
    return {f"{name.replace('__', '/')}@NX_class": of for name, of in names.items()}


def _frames(folder: Path) -> str:
    """Write the frames as a detector file has them; return its name."""
    with h5py.File(folder / "frames.h5", "w") as file:
        packed = hdf5plugin.Bitshuffle(cname="lz4")
        file.create_dataset(
            "data", data=FRAMES, chunks=(1, *FRAMES.shape[1:]), **packed
        )
    return "frames.h5"


def mx_pair(folder: Path) -> tuple[Path, Path]:
    """Return an NXmx master with links, and one with a virtual dataset."""
    with h5py.File(folder / "frames.h5", "w") as file:
        packed = hdf5plugin.Bitshuffle(cname="lz4")
        file.create_dataset(
            "data", data=FRAMES, chunks=(1, *FRAMES.shape[1:]), **packed
        )
    linked, virtual = folder / "mx_master.h5", folder / "mx.nxs"
    with h5py.File(linked, "w") as file:
        put(file, _MX)
        put(file, {"entry/data/data_000001": h5py.ExternalLink("frames.h5", "data")})
        put(file, {"entry/data@signal": "data_000001"})
    with h5py.File(virtual, "w") as file:
        put(file, _MX)
        layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
        layout[:] = h5py.VirtualSource("frames.h5", "data", FRAMES.shape)
        file["entry/data"].create_virtual_dataset("data", layout)
        put(file, {"entry/data@signal": "data"})
    return linked, virtual


_MM = GEOMETRY["pixel_fast_mm"]
_DETECTOR, _OMEGA = "entry/instrument/detector", "entry/sample/transformations/omega"
_MODULE, _OFFSET = f"{_DETECTOR}/module", f"{_DETECTOR}/module/module_offset"
_ANGLES = GEOMETRY["start_deg"] + np.arange(10) * GEOMETRY["width_deg"]
_MASK = np.zeros(FRAMES.shape[1:], np.uint32)


def _axis(path: str, values: Any, units: str, kind: str) -> dict[str, Any]:
    said = {"units": units, "transformation_type": kind}
    return {path: values, **{f"{path}@{name}": of for name, of in said.items()}}


def _shift(
    path: str, length_mm: float, vector: tuple[float, float, float], after: str
) -> dict[str, Any]:
    said = {"vector": vector, "offset": np.zeros(3), "depends_on": after}
    axis = _axis(path, [length_mm], "mm", "translation")
    return {**axis, **{f"{path}@{name}": of for name, of in said.items()}}


_MX: dict[str, Any] = {
    **classes(entry="NXentry", entry__data="NXdata", entry__source="NXsource"),
    **classes(entry__instrument="NXinstrument", entry__instrument__beam="NXbeam"),
    **classes(entry__instrument__detector="NXdetector", entry__sample="NXsample"),
    f"{_MODULE}@NX_class": "NXdetector_module",
    f"{_DETECTOR}/transformations@NX_class": "NXtransformations",
    f"{_DETECTOR}/detectorSpecific@NX_class": "NXcollection",
    "entry/sample/transformations@NX_class": "NXtransformations",
    "entry/definition": "NXmx",
    "entry/start_time": "2026-11-28T10:00:00Z",
    "entry/end_time_estimated": "2026-11-28T10:00:01Z",
    "entry/source/name": "ESRF",
    "entry/instrument/name": "ID30",
    "entry/instrument/beam/incident_wavelength": GEOMETRY["wavelength_angstrom"],
    "entry/instrument/beam/incident_wavelength@units": "angstrom",
    f"{_DETECTOR}/depends_on": f"/{_DETECTOR}/transformations/translation",
    **_shift(f"{_DETECTOR}/transformations/translation", 351.0, (0.0, 0.0, 1.0), "."),
    f"{_DETECTOR}/distance": 0.351,
    f"{_DETECTOR}/distance@units": "m",
    f"{_DETECTOR}/beam_center_x": 4.5,
    f"{_DETECTOR}/beam_center_x@units": "pixel",
    f"{_DETECTOR}/beam_center_y": 2.25,
    f"{_DETECTOR}/beam_center_y@units": "pixel",
    f"{_DETECTOR}/x_pixel_size": _MM / 1000,
    f"{_DETECTOR}/x_pixel_size@units": "m",
    f"{_DETECTOR}/y_pixel_size": _MM / 1000,
    f"{_DETECTOR}/y_pixel_size@units": "m",
    f"{_DETECTOR}/sensor_material": "Si",
    f"{_DETECTOR}/sensor_thickness": 0.45,
    f"{_DETECTOR}/sensor_thickness@units": "mm",
    f"{_DETECTOR}/bit_depth_readout": 32,
    f"{_DETECTOR}/frame_time": 0.02,
    f"{_DETECTOR}/frame_time@units": "s",
    f"{_DETECTOR}/pixel_mask": _MASK,
    f"{_MODULE}/data_origin": [0, 0],
    f"{_MODULE}/data_size": FRAMES.shape[1:],
    **_shift(
        _OFFSET, 0.0, (1.0, 0.0, 0.0), f"/{_DETECTOR}/transformations/translation"
    ),
    f"{_OFFSET}@offset": (4.5 * _MM, 2.25 * _MM, 0.0),
    **_shift(f"{_MODULE}/fast_pixel_direction", _MM, (-1.0, 0.0, 0.0), f"/{_OFFSET}"),
    **_shift(f"{_MODULE}/slow_pixel_direction", _MM, (0.0, -1.0, 0.0), f"/{_OFFSET}"),
    f"{_DETECTOR}/detectorSpecific/nimages": np.uint32(10),
    f"{_DETECTOR}/detectorSpecific/ntrigger": np.uint32(1),
    f"{_DETECTOR}/detectorSpecific/pixel_mask": _MASK,
    "entry/sample/name": "thaumatin",
    "entry/sample/depends_on": f"/{_OMEGA}",
    **_axis(_OMEGA, _ANGLES, "deg", "rotation"),
    f"{_OMEGA}@vector": (-1.0, 0.0, 0.0),
    f"{_OMEGA}@depends_on": ".",
    # pynxtools refuses its unit where it does not say that it is a rotation.
    **_axis(f"{_OMEGA}_end", _ANGLES + 0.1, "deg", "rotation"),
}


def tomo(path: Path) -> Path:
    """Return an NXtomo of a dark, a flat and four projections, virtual frames."""
    detector = "entry/instrument/detector"
    with h5py.File(path, "w") as file:
        put(
            file,
            {
                **classes(entry="NXentry", entry__instrument="NXinstrument"),
                **classes(entry__sample="NXsample", entry__data="NXdata"),
                **classes(entry__control="NXmonitor"),
                "entry/instrument/source@NX_class": "NXsource",
                "entry/instrument/beam@NX_class": "NXbeam",
                f"{detector}@NX_class": "NXdetector",
                "entry/definition": "NXtomo",
                "entry/title": "six frames",
                "entry/start_time": "2026-11-28T10:00:00Z",
                "entry/instrument/source/probe": "x-ray",
                "entry/instrument/beam/incident_energy": 12.0,
                "entry/instrument/beam/incident_energy@units": "keV",
                f"{detector}/image_key": [2, 1, 0, 0, 0, 0],
                f"{detector}/image_key_control": [2, 1, 0, 0, 0, 0],
                f"{detector}/distance": 0.1,
                f"{detector}/distance@units": "m",
                f"{detector}/x_pixel_size": 1e-6,
                f"{detector}/x_pixel_size@units": "m",
                f"{detector}/y_pixel_size": 1e-6,
                f"{detector}/y_pixel_size@units": "m",
                "entry/sample/name": "foam",
                "entry/sample/rotation_angle": [0.0, 0.0, 0.0, 45.0, 90.0, 135.0],
                "entry/sample/rotation_angle@units": "degree",
                "entry/control/data": np.ones(6),
                "entry/data@signal": "data",
            },
        )
        layout = h5py.VirtualLayout((6, *FRAMES.shape[1:]), FRAMES.dtype)
        layout[:] = h5py.VirtualSource(_frames(path.parent), "data", FRAMES.shape)[:6]
        file[detector].create_virtual_dataset("data", layout)
        for name in ("data", "image_key"):
            link(file, f"entry/data/{name}", f"{detector}/{name}")
        link(file, "entry/data/rotation_angle", "entry/sample/rotation_angle")
    return path


def fluo(path: Path) -> Path:
    """Return an NXfluo whose spectra stand in the entry."""
    with h5py.File(path, "w") as file:
        put(
            file,
            {
                **classes(entry="NXentry", entry__instrument="NXinstrument"),
                **classes(entry__sample="NXsample", entry__data="NXdata"),
                **classes(entry__monitor="NXmonitor"),
                "entry/instrument/source@NX_class": "NXsource",
                "entry/instrument/monochromator@NX_class": "NXmonochromator",
                "entry/instrument/fluorescence@NX_class": "NXdetector",
                "entry/definition": "NXfluo",
                "entry/title": "five spectra",
                "entry/start_time": "2026-11-28T10:00:00Z",
                "entry/instrument/source/type": "Synchrotron X-ray Source",
                "entry/instrument/source/name": "ESRF",
                "entry/instrument/source/probe": "x-ray",
                "entry/instrument/monochromator/wavelength": 1.0,
                "entry/instrument/monochromator/wavelength@units": "angstrom",
                "entry/instrument/fluorescence/data": np.arange(80).reshape(5, 16),
                "entry/instrument/fluorescence/data@interpretation": "spectrum",
                "entry/instrument/fluorescence/energy": np.arange(16.0),
                "entry/instrument/fluorescence/energy@units": "keV",
                "entry/sample/name": "paint",
                "entry/monitor/mode": "timer",
                "entry/monitor/preset": 1.0,
                "entry/monitor/data": 7,
                "entry/data@signal": "data",
            },
        )
        for name in ("data", "energy"):
            link(file, f"entry/data/{name}", f"entry/instrument/fluorescence/{name}")
    return path


def cxi(path: Path) -> Path:
    """Return what a reader of CXI needs."""
    detector = "entry_1/instrument_1/detector_1"
    moved = "entry_1/sample_1/geometry_1/translation"
    with h5py.File(path, "w") as file:
        put(
            file,
            {
                "cxi_version": 150,
                f"{detector}/data": FRAMES,
                f"{detector}/distance": 2.0,
                f"{detector}/x_pixel_size": 75e-6,
                f"{detector}/y_pixel_size": 75e-6,
                "entry_1/instrument_1/source_1/energy": 1.6e-15,
                moved: np.zeros((10, 3)),
                "entry_1/data_1/data": h5py.SoftLink(f"/{detector}/data"),
                "entry_1/data_1/translation": h5py.SoftLink(f"/{moved}"),
            },
        )
    return path
