"""The rules by which XDS's plugins neggia and durin open a master, asked with h5py.

This is a reader of the rules, not neggia and not durin: both are compiled from sources
that no package registry holds. What they need was read in neggia's plugin
(H5ToXds.cpp, Dataset.cpp), in its own check_h5_compatibility.py and in durin's file.c.
What it cannot see: the version of a data layout message. HDF5 writes the one that both
know (3) unless a file is made with `libver="latest"`, which shows in the superblock.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["durin_problems", "neggia_problems"]

_DETECTOR = "/entry/instrument/detector"
_SPECIFIC = f"{_DETECTOR}/detectorSpecific"
_BITSHUFFLE, _LZ4, _LZ4_IN_BITSHUFFLE = 32008, 32004, 2
_SUPERBLOCKS = (0, 2, 3)
# Names of units that durin knows, in any case.
_LENGTHS = (
    *("m", "metres", "meters", "cm", "centimetres", "centimeters"),
    *("mm", "millimetres", "millimeters"),
    *("um", "microns", "micrometres", "micrometers"),
)


def neggia_problems(path: Path) -> list[str]:
    """Return why neggia would not show every frame of a master: empty if it would.

    Parameters
    ----------
    path : pathlib.Path
        A master with ``/entry/data/data_000001`` and so on. Files behind its links are
        looked at as well.
    """
    with h5py.File(path, locking=False) as file:
        found = [f"{path.name}: {said}" for said in _superblock(path)]
        found += _pixel_sizes(file)
        found += _neggia_blocks(file)
        found += _neggia_mask(file)
        return found


def _superblock(path: Path) -> Iterator[str]:
    with path.open("rb") as raw:
        signature, version = raw.read(8), raw.read(1)
    if signature != b"\x89HDF\r\n\x1a\n":
        yield "no HDF5 signature at its beginning"
    elif version[0] not in _SUPERBLOCKS:
        yield f"superblock {version[0]} is none of 0, 2, 3"


def _pixel_sizes(file: h5py.File) -> Iterator[str]:
    for name in ("x_pixel_size", "y_pixel_size"):
        node = file.get(f"{_DETECTOR}/{name}")
        if node is None:
            yield f"{_DETECTOR}/{name} is missing: XDS is told 0"
        elif node.dtype not in (np.float32, np.float64):
            yield f"{_DETECTOR}/{name} is {node.dtype}, not a float"


def _neggia_blocks(file: h5py.File) -> Iterator[str]:
    blocks = list(_blocks(file["/entry/data"])) if "/entry/data" in file else []
    if not blocks:
        yield "/entry/data/data_000001 is missing"
        return
    for block in blocks:
        yield from _neggia_block(block)
        yield from (
            f"{Path(block.file.filename).name}: {said}"
            for said in _superblock(Path(block.file.filename))
        )
    # A frame is looked for in the block that the length of the first one points to.
    lengths = [len(block) for block in blocks]
    if any(one != lengths[0] for one in lengths[1:-1]) or lengths[-1] > lengths[0]:
        yield f"blocks of {lengths} frames: all but the last need the same number"
    if len({(block.shape[1:], block.dtype) for block in blocks}) > 1:
        yield "blocks differ in their frames"
    yield from _counts(file, frames=sum(lengths))


def _blocks(group: h5py.Group) -> Iterator[h5py.Dataset]:
    number = 1
    while (node := group.get(f"data_{number:06d}")) is not None:
        yield node
        number += 1


def _neggia_block(block: h5py.Dataset) -> Iterator[str]:
    name = block.name
    if block.dtype.kind not in "iu" or block.dtype.itemsize not in (1, 2, 4):
        yield f"{name} is {block.dtype}, not an integer of 1, 2 or 4 bytes"
    if block.ndim != 3:
        yield f"{name} has {block.ndim} dimensions, not 3"
    if block.is_virtual:
        yield f"{name} is virtual: neggia reads no virtual dataset"
    elif block.chunks != (1, *block.shape[1:]):
        yield f"{name} has chunks of {block.chunks}, not of one frame"
    filters = _filters(block)
    if len(filters) > 1:
        yield f"{name} has {len(filters)} filters, and neggia takes one"
    for code, values in filters:
        if code not in (_BITSHUFFLE, _LZ4):
            yield f"{name} has filter {code}, neither bitshuffle nor lz4"
        elif code == _BITSHUFFLE and values[4:5] != (_LZ4_IN_BITSHUFFLE,):
            yield f"{name} has bitshuffle without lz4: {values}"


def _filters(data: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    creation = data.id.get_create_plist()
    found = [creation.get_filter(n) for n in range(creation.get_nfilters())]
    return [(code, tuple(values)) for code, _, values, _ in found]


def _counts(file: h5py.File, *, frames: int) -> Iterator[str]:
    told = 1
    for name in ("nimages", "ntrigger"):
        node = file.get(f"{_SPECIFIC}/{name}")
        if node is None:
            yield f"{_SPECIFIC}/{name} is missing"
        elif node.dtype.kind not in "iu" or node.shape not in ((), (1,)):
            yield f"{_SPECIFIC}/{name} is no whole number"
        else:
            told *= int(np.ravel(node[()])[0])
    if told != frames:
        yield f"nimages times ntrigger is {told}, and there are {frames} frames"


def _neggia_mask(file: h5py.File) -> Iterator[str]:
    name = f"{_SPECIFIC}/pixel_mask"
    mask, frames = file.get(name), file.get("/entry/data/data_000001")
    if mask is None:
        yield f"{name} is missing"
        return
    if mask.dtype != np.uint32:
        yield f"{name} is {mask.dtype}, not uint32"
    if frames is not None and mask.shape != frames.shape[1:]:
        yield f"{name} is {mask.shape}, and frames are {frames.shape[1:]}"
    layout = mask.id.get_create_plist().get_layout()
    if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS) or mask.external:
        yield f"{name} does not stand in one piece"


def durin_problems(path: Path) -> list[str]:
    """Return why durin would not show every frame of a master: empty if it would.

    It takes the last NXdata and the last NXdetector in the order of names, follows no
    link to find them, and reads keywords that are ASCII alone.
    """
    with h5py.File(path, locking=False) as file:
        found, groups = _visited(file)
        detector, data = groups.get("NXdetector"), groups.get("NXdata")
        if detector is None:
            return [*found, "no NXdetector"]
        holders = [one for one in (detector, data) if one is not None]
        found += _durin_pixels(detector)
        found += _durin_frames(detector, holders)
        return found


def _visited(file: h5py.File) -> tuple[list[str], dict[str, h5py.Group]]:
    problems: list[str] = []
    last: dict[str, h5py.Group] = {}

    def visit(raw_name: bytes) -> None:
        node = file[raw_name.decode()]
        if not isinstance(node, h5py.Group) or "NX_class" not in node.attrs:
            return
        if not _is_ascii(node, "NX_class"):
            problems.append(f"{node.name}@NX_class is not ASCII")
        last[str(node.attrs["NX_class"])] = node

    h5py.h5o.visit(file.id, visit, idx_type=h5py.h5.INDEX_NAME, order=h5py.h5.ITER_INC)
    return problems, last


def _is_ascii(node: Any, name: str) -> bool:
    kind = h5py.h5a.open(node.id, name.encode()).get_type()
    return isinstance(kind, h5py.h5t.TypeStringID) and (
        kind.get_cset() == h5py.h5t.CSET_ASCII
    )


def _durin_pixels(detector: h5py.Group) -> Iterator[str]:
    for name in ("x_pixel_size", "y_pixel_size"):
        node = detector.get(name, detector.get(f"detectorSpecific/{name}"))
        if node is None:
            yield f"{detector.name}/{name} is missing"
        elif "units" in node.attrs:
            if not _is_ascii(node, "units"):
                yield f"{node.name}@units is not ASCII"
            units = str(node.attrs["units"])
            if units.lower() not in _LENGTHS:
                yield f"{node.name} is in {units}, which durin takes for m"


def _durin_frames(detector: h5py.Group, holders: list[h5py.Group]) -> Iterator[str]:
    for holder in holders:
        if frames := list(_blocks(holder)):
            yield from _durin_chunks(frames[0])
            break
        if (whole := holder.get("data")) is not None:
            frames = [whole]
            break
    else:
        yield "no data_000001 and no data"
        return
    yield from (f"{one.name} has no 3 dimensions" for one in frames if one.ndim != 3)
    mask = detector.get("pixel_mask", detector.get("detectorSpecific/pixel_mask"))
    if mask is not None and mask.shape != frames[0].shape[1:]:
        yield f"{mask.name} is {mask.shape}, and frames are {frames[0].shape[1:]}"


def _durin_chunks(block: h5py.Dataset) -> Iterator[str]:
    """Yield what breaks its own decoder, which chunks of one frame go to."""
    filters = _filters(block)
    if block.chunks == (1, *block.shape[1:]) and len(filters) == 1:
        code, values = filters[0]
        if code == _BITSHUFFLE and values[4:] != (_LZ4_IN_BITSHUFFLE,):
            yield f"{block.name} has bitshuffle without lz4: {values}"
