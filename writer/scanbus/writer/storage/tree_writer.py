"""Write a NeXus tree into an open HDF5 file.

All known readers accept the types used here. NeXus keywords (classes, units, names of
fields in attributes) are variable-length ASCII: XDS's durin rejects anything else,
pynxtools and nxtomomill fail on fixed-length strings. Free text is variable-length
UTF-8. Creation order is kept; equal trees give equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from scanbus.bus.codecs import find_codec
from scanbus.bus.external import mapped_name
from scanbus.writer.model.nexus_tree import (
    Array,
    CopiedArray,
    CopiedDataset,
    Dataset,
    ExternalLink,
    FrameSource,
    Group,
    HardLink,
    Node,
    SoftLink,
    Value,
    VirtualArray,
    VirtualDataset,
)
from scanbus.writer.storage.chunked_dataset import make_packed_dataset
from scanbus.writer.storage.hdf5 import copy_dataset, open_hdf5

__all__ = ["check_mapping", "write_attributes", "write_attributes_of", "write_tree"]

_NEXUS_WORDS: Final = frozenset(
    {
        "NX_class",
        "auxiliary_signals",
        "axes",
        "default",
        "depends_on",
        "interpretation",
        "signal",
        "target",
        "transformation_type",
        "units",
    }
)
_ASCII: Final = h5py.string_dtype("ascii")
_UTF8: Final = h5py.string_dtype("utf-8")
_STORED_ASCII: Final = h5py.h5t.py_create(_ASCII, logical=True)
_STORED_UTF8: Final = h5py.h5t.py_create(_UTF8, logical=True)
_SCALAR: Final = h5py.h5s.create(h5py.h5s.SCALAR)
# Larger arrays (masks, flat fields) are compressed by the codec, outside HDF5's global
# lock, with gzip and shuffle, the only filters that need no plug-in.
_PACKED_FROM_BYTES: Final = 2**16
_PACKED_CODEC: Final = "gzip-shuffle"


def write_tree(target: h5py.Group, tree: Group, folder: Path = Path()) -> None:
    """Write a tree into a group that has none of its members yet.

    Parameters
    ----------
    target : h5py.Group
        Usually the root of a new file, opened with ``track_order=True`` and without
        ``libver``, so that HDF5 1.10 can read it.
    tree : Group
        Its class and attributes are written to `target`.
    folder : pathlib.Path
        Folder to which the names of files with copied datasets are relative.

    Raises
    ------
    NameTakenError
        If a file with copied datasets is no regular file.
    OSError
        If the file cannot be written, or one of these not be read.
    """
    with ExitStack() as stack:
        _write_group(target, tree, _Originals(folder, stack))


class _Originals:
    """The files from which datasets are copied, each opened once."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._open: dict[str, h5py.File] = {}

    def file(self, name: str) -> h5py.File:
        if name not in self._open:
            file = open_hdf5(self._folder / name)
            self._open[name] = self._stack.enter_context(file)
        return self._open[name]


def _write_group(target: h5py.Group, tree: Group, originals: _Originals) -> None:
    if tree.nx_class is not None:
        write_attributes(target, {"NX_class": tree.nx_class or "NXcollection"})
    write_attributes(target, tree.attributes)
    for name, node in tree.children.items():
        _write_node(target, name, node, originals)


def _write_node(
    parent: h5py.Group, name: str, node: Node, originals: _Originals
) -> None:
    match node:
        case Group():
            _write_group(parent.create_group(name, track_order=True), node, originals)
        case Dataset():
            write_attributes(_write_dataset(parent, name, node.value), node.attributes)
        case CopiedDataset():
            copied = copy_dataset(originals.file(node.file), node.path, parent, name)
            write_attributes_of(copied, node.attributes)
        case SoftLink():
            parent[name] = h5py.SoftLink(node.path)
        case HardLink():
            parent[name] = parent.file[node.path]
        case ExternalLink():
            # A master may link thousands of scans: this takes a third of h5py's time.
            parent.id.links.create_external(
                name.encode(), os.fsencode(node.file), node.path.encode()
            )
        case VirtualDataset():
            write_attributes(_write_virtual(parent, name, node), node.attributes)
        case VirtualArray():
            write_attributes(_write_array(parent, name, node), node.attributes)
        case CopiedArray():
            values = _values_of(node.source, originals).astype(node.dtype)
            made = (
                parent.create_dataset(name, data=values)
                if node.is_contiguous
                else _write_dataset(parent, name, values)
            )
            write_attributes(made, node.attributes)


def _values_of(source: Dataset | VirtualArray, originals: _Originals) -> Array:
    if isinstance(source, VirtualArray):
        found: Array = originals.file(source.file)[source.path][()]
        return found.reshape(source.shape)
    return np.asarray(source.value)


def _write_dataset(parent: h5py.Group, name: str, value: Value) -> h5py.Dataset:
    if isinstance(value, str | tuple):
        return parent.create_dataset(name, data=_text(value), dtype=_UTF8)
    if isinstance(value, np.ndarray) and value.nbytes > _PACKED_FROM_BYTES:
        return _write_packed(parent, name, value)
    return parent.create_dataset(name, data=value)


def _write_packed(parent: h5py.Group, name: str, value: Array) -> h5py.Dataset:
    payload = find_codec(_PACKED_CODEC).encode(np.ascontiguousarray(value))
    dataset = make_packed_dataset(
        parent,
        name,
        shape=value.shape,
        rows_per_chunk=len(value),
        dtype=value.dtype,
        codec_name=_PACKED_CODEC,
    )
    dataset.id.write_direct_chunk((0,) * value.ndim, payload)
    return dataset


def _write_virtual(parent: h5py.Group, name: str, node: VirtualDataset) -> h5py.Dataset:
    """Create a virtual dataset with the low-level API; sources are not opened."""
    plist = _virtual_plist(node)
    space = h5py.h5s.create_simple(node.shape)
    point = node.shape[1:]
    for source in node.sources:
        part = (source.stop - source.start, *(source.point or point))
        space.select_hyperslab((source.start, *(0 for _ in point)), part)
        plist.set_virtual(
            space,
            source.file.encode("ascii"),
            source.path.encode("ascii"),
            h5py.h5s.create_simple(part),
        )
    for frames in node.frames:
        _map_frames(plist, space, frames, point)
    space.select_all()
    return _create(parent, name, node, space, plist)


def _map_frames(
    plist: Any, space: Any, source: FrameSource, point: tuple[int, ...]
) -> None:
    """Map frames of a detector's file, in even steps on both sides."""
    _select_rows(space, source.start, source.step, source.count, point)
    if source.is_single:
        found = h5py.h5s.create_simple(point)
    else:
        n_rows = source.first + (source.count - 1) * source.frame_step + 1
        found = h5py.h5s.create_simple((n_rows, *point))
        _select_rows(found, source.first, source.frame_step, source.count, point)
    file = os.fsencode(mapped_name(source.file))
    plist.set_virtual(space, file, mapped_name(source.path).encode(), found)


def check_mapping(
    frames: Iterable[FrameSource], n_points: int, point: tuple[int, ...]
) -> None:
    """Try whether frames of detectors' files can be mapped; nothing is written.

    Parameters
    ----------
    n_points : int
        Length of the virtual dataset.
    point : tuple of int
        Shape of a frame.

    Raises
    ------
    ValueError
        If HDF5 refuses one of them.
    """
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.VIRTUAL)
    try:
        space = h5py.h5s.create_simple((n_points, *point))
        for each in frames:
            _map_frames(plist, space, each, point)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise ValueError(f"cannot be mapped ({error})") from error


def _select_rows(
    space: Any, first: int, step: int, count: int, point: tuple[int, ...]
) -> None:
    corner = tuple(0 for _ in point)
    if step == 1:
        space.select_hyperslab((first, *corner), (count, *point))
        return
    ones = tuple(1 for _ in point)
    space.select_hyperslab(
        (first, *corner), (count, *ones), (step, *point), (1, *point)
    )


def _write_array(parent: h5py.Group, name: str, node: VirtualArray) -> h5py.Dataset:
    plist = _virtual_plist(node)
    space = h5py.h5s.create_simple(node.shape)
    plist.set_virtual(
        space,
        node.file.encode("ascii"),
        node.path.encode("ascii"),
        h5py.h5s.create_simple(node.source_shape),
    )
    return _create(parent, name, node, space, plist)


def _virtual_plist(node: VirtualDataset | VirtualArray) -> Any:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.VIRTUAL)
    if node.fill_value is not None:
        plist.set_fill_value(np.array(node.fill_value, dtype=node.dtype))
    return plist


def _create(
    parent: h5py.Group,
    name: str,
    node: VirtualDataset | VirtualArray,
    space: Any,
    plist: Any,
) -> h5py.Dataset:
    is_text = node.dtype is None
    kind = _STORED_UTF8 if is_text else h5py.h5t.py_create(node.dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(parent.id, name.encode(), kind, space, plist))


def write_attributes(
    target: h5py.Group | h5py.Dataset, attributes: Mapping[str, Value]
) -> None:
    """Write attributes: NeXus keywords as ASCII, other text as UTF-8."""
    write_attributes_of(target.id, attributes)


def write_attributes_of(made: Any, attributes: Mapping[str, Value]) -> None:
    """Write attributes of an object of the low-level API.

    With that API, too: files have thousands of them, and h5py's takes four times as
    long.
    """
    for name, value in attributes.items():
        if isinstance(value, str):
            _write_text(made, name, _storable(value))
        elif isinstance(value, tuple):
            is_ascii = all(part.isascii() for part in value)
            stored, kind = _attribute_type(name, is_ascii=is_ascii)
            data = np.array([_storable(part).encode() for part in value], dtype=kind)
            space = h5py.h5s.create_simple(data.shape)
            h5py.h5a.create(made, name.encode(), stored, space).write(data)
        else:
            array = np.asarray(value, order="C")
            shape = array.shape
            space = h5py.h5s.create_simple(shape) if shape else _SCALAR
            stored, given = _types_of(array.dtype)
            h5py.h5a.create(made, name.encode(), stored, space).write(array, given)


@lru_cache(maxsize=64)
def _types_of(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the types of numbers in the file and in memory: booleans differ."""
    create = h5py.h5t.py_create
    return create(dtype, logical=True), create(dtype)


def _write_text(made: Any, name: str, text: str) -> None:
    stored, data = _stored_text(name, text)
    h5py.h5a.create(made, name.encode(), stored, _SCALAR).write(data)


@lru_cache(maxsize=256)
def _stored_text(name: str, text: str) -> tuple[Any, Any]:
    """Return type and value: the same few units and classes come again and again."""
    stored, kind = _attribute_type(name, is_ascii=text.isascii())
    return stored, np.array(text.encode(), dtype=kind)


def _attribute_type(name: str, *, is_ascii: bool) -> tuple[Any, Any]:
    """Return the types of a text in the file and in memory."""
    # Keywords with other characters, e.g. in a unit, are stored as UTF-8.
    is_word = name in _NEXUS_WORDS and is_ascii
    return (_STORED_ASCII, _ASCII) if is_word else (_STORED_UTF8, _UTF8)


def _text(value: str | tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return _storable(value)
    return np.array([_storable(part) for part in value], dtype=object)


def _storable(text: str) -> str:
    """Return text that HDF5 can store: without NUL and unpaired surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
