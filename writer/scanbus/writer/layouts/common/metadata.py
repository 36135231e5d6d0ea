"""Convert a scan's free metadata into a tree, and merge trees.

Metadata come from the publisher and are checked for form only. They never prevent
writing a master: what has no place where they name one is written to another and
reported as a problem; values that cannot be decoded are reported alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import numpy as np
from pydantic_core import to_json

from scanbus.bus.codecs import find_codec
from scanbus.schemas import MAX_METADATA_KEYS, ArrayValue, is_array
from scanbus.schemas.errors import PayloadError, UnknownCodecError
from scanbus.schemas.valid_names import unique_name
from scanbus.writer.layouts.common.channel_nodes import ascii_units
from scanbus.writer.model.nexus_tree import (
    Array,
    Dataset,
    Group,
    Node,
    Value,
    VirtualArray,
)

__all__ = ["MAX_ARRAY_BYTES", "Displaced", "MetadataReader", "merge_trees"]

MAX_ARRAY_BYTES: Final = 512 * 2**20
"""Largest total size of a scan's metadata arrays in bytes, uncompressed.

A small payload may decompress to a huge array of zeros."""

# HDF5 stores attributes in object headers of at most 64 KiB.
_MAX_ATTRIBUTE_BYTES: Final = 2**15

# NeXus class by group name; all other groups are NXcollection.
_CLASSES: Final = {
    "attenuator": "NXattenuator",
    "beam": "NXbeam",
    "detector_module": "NXdetector_module",
    "goniometer": "NXtransformations",
    "monochromator": "NXmonochromator",
    "process": "NXprocess",
    "sample": "NXsample",
    "source": "NXsource",
    "transformations": "NXtransformations",
    "user": "NXuser",
}


class MetadataReader:
    """Converts one scan's metadata into a tree and collects problems.

    Parameters
    ----------
    statics : mapping
        By lane, the arrays that are in files of their own.
    with_users : bool
        Whether NXuser groups are included. They hold personal data, so they are left
        out by default.
    """

    def __init__(
        self,
        statics: Mapping[str, VirtualArray] | None = None,
        *,
        with_users: bool = False,
    ) -> None:
        self._statics = statics or {}
        self._with_users = with_users
        self._bytes_left = MAX_ARRAY_BYTES
        self._keys_left = MAX_METADATA_KEYS
        self.problems: list[str] = []

    def read(self, tree: Mapping[str, Any], where: str = "") -> Group:
        """Return a tree of metadata as a group.

        Keys are as in :mod:`scanbus.schemas.metadata`. A null is skipped: a later
        document sets a value to null to withdraw it.
        """
        tree = self._counted(tree, where)
        children: dict[str, Node] = {}
        for name, value in tree.items():
            if "@" not in name and value is not None:
                self._add_child(children, name, value, f"{where}/{name}")
        attributes = self._add_attributes(children, tree, where)
        declared = attributes.pop("NX_class", "")
        return Group(
            declared if isinstance(declared, str) else "", attributes, children
        )

    def _counted(self, tree: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Return a group without the keys beyond the limit of all documents."""
        n_left, self._keys_left = self._keys_left, max(0, self._keys_left - len(tree))
        if len(tree) <= n_left:
            return tree
        self.problems.append(
            f"metadata {where or '/'}: {len(tree) - n_left} keys are not written, as "
            f"the scan has more than {MAX_METADATA_KEYS}"
        )
        return dict(islice(tree.items(), n_left))

    def _add_child(
        self, children: dict[str, Node], name: str, value: Any, path: str
    ) -> None:
        if isinstance(value, dict) and not is_array(value):
            found = self.read(value, path)
            nx_class = found.nx_class or _CLASSES.get(name, "")
            if nx_class == "NXuser" and not self._with_users:
                self.problems.append(f"metadata {path}: personal data are not written")
                return
            children[name] = Group(nx_class, found.attributes, found.children)
            return
        node = self._node(value, path)
        if node is not None:
            children[name] = node

    def _add_attributes(
        self, children: dict[str, Node], tree: Mapping[str, Any], where: str
    ) -> dict[str, Value]:
        """Add attributes to the nodes in `children`; return those of the group.

        One without a node, or too large for an attribute, becomes a field.
        """
        of_group: dict[str, Value] = {}
        for key, value in tree.items():
            owner, at, name = key.partition("@")
            found = self._node(value, f"{where}/{key}") if at else None
            if found is None:
                continue
            if isinstance(found, VirtualArray):
                field = unique_name(key, children)
                children[field] = replace(found, attributes={"original_name": key})
                continue
            checked = found.value
            if name == "NX_class" and not isinstance(checked, str):
                checked = self._class(checked, f"{where}/{key}")
            if name == "units" and isinstance(checked, str):
                checked = ascii_units(checked)
            node = children.get(owner)
            if owner and node is None and _is_elsewhere(tree.get(owner)):
                continue  # It comes with the array.
            if _n_bytes(checked) > _MAX_ATTRIBUTE_BYTES or (owner and node is None):
                field = unique_name(key, children)
                children[field] = Dataset(checked, {"original_name": key})
            elif not owner:
                of_group[name] = checked
            else:
                children[owner] = _with_attribute(node, name, checked)
        return of_group

    def _class(self, value: Value, path: str) -> str:
        """Return a class that is no text: a list of one is that; others are none."""
        if isinstance(value, tuple) and len(value) == 1:
            return value[0]
        self.problems.append(
            f"metadata {path}: left out, as a class is one text, such as NXnote"
        )
        return ""

    def _node(self, value: Any, path: str) -> Dataset | VirtualArray | None:
        try:
            if is_array(value):
                return self._array(value["array"])
            return Dataset(_plain_value(value))
        except (ValueError, TypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
        except (PayloadError, UnknownCodecError) as error:
            reason = str(error)
        self.problems.append(f"metadata {path}: {reason}")
        return None

    def _array(self, document: Any) -> Dataset | VirtualArray | None:
        array = ArrayValue.model_validate_json(to_json(document))
        return self._static(array) if array.lane else Dataset(self._decoded(array))

    def _static(self, array: ArrayValue) -> VirtualArray | None:
        """Return the array of a lane; None while it is in no file."""
        found = self._statics.get(array.lane)
        if found is None:
            return None
        n_values = math.prod(found.source_shape)
        if found.dtype.name != array.dtype or n_values != math.prod(array.shape):
            raise ValueError(f"{array.lane} is {found.dtype} {found.source_shape[1:]}")
        return replace(found, shape=array.shape)

    def _decoded(self, array: ArrayValue) -> Array:
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "biufc" or dtype.itemsize > 16:
            raise ValueError(f"arrays of {dtype} cannot be stored")
        n_bytes = math.prod(array.shape) * dtype.itemsize
        if n_bytes > self._bytes_left:
            raise ValueError(
                f"an array of {n_bytes} bytes; all arrays of a scan's metadata "
                f"together may have {MAX_ARRAY_BYTES}"
            )
        # Any byte but 0 is true; HDF5's boolean enumeration has only 0 and 1.
        wire = np.dtype("u1") if dtype.kind == "b" else dtype.newbyteorder("<")
        values = find_codec(array.codec).decode(array.data, wire, array.shape)
        self._bytes_left -= n_bytes
        return values != 0 if dtype.kind == "b" else values


def _is_elsewhere(value: Any) -> bool:
    return is_array(value) and "lane" in value["array"]


def _n_bytes(value: Value) -> int:
    """Return the size of an attribute in its object's header, in bytes."""
    if isinstance(value, tuple):
        return 16 * len(value)  # Texts themselves stand in the file's heap.
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _with_attribute(node: Node | None, name: str, value: Value) -> Node:
    match node:
        case Dataset() | VirtualArray():
            return replace(node, attributes={**node.attributes, name: value})
        case Group() if name == "NX_class" and isinstance(value, str):
            return Group(value, node.attributes, node.children)
        case Group():
            attributes = {**node.attributes, name: value}
            return Group(node.nx_class, attributes, node.children)
    raise TypeError(f"{node} is neither a field nor a group")


def _plain_value(value: Any) -> Value:
    """Return a JSON value as one that HDF5 can hold."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    values = np.asarray(value)
    if values.dtype.kind not in "biuf":
        raise ValueError("neither text nor numbers of 64 bits")
    return values if isinstance(value, list) else values[()]


def merge_trees(
    ours: Group, theirs: Group, displaced: Displaced, where: str = ""
) -> Group:
    """Return two trees merged; where names collide, `ours` takes precedence.

    Parameters
    ----------
    ours, theirs : Group
        Groups of the same name are merged recursively; so are the attributes of
        fields of the same name and value.
    displaced : Displaced
        Takes each node of `theirs` whose name is taken.
    where : str
        Path of the groups, for these sentences.
    """
    children: dict[str, Node] = dict(ours.children)
    for name, node in theirs.children.items():
        path = f"{where}/{name}"
        match children.get(name), node:
            case None, _:
                children[name] = node
            case Group() as old, Group():
                children[name] = merge_trees(old, node, displaced, path)
            case Dataset() as old, Dataset() if _equal(old.value, node.value):
                attributes = {**node.attributes, **old.attributes}
                children[name] = Dataset(old.value, attributes)
            case _:
                displaced.add(path, node)
    if theirs.nx_class and ours.nx_class and theirs.nx_class != ours.nx_class:
        displaced.problems.append(f"metadata {where}: it is {ours.nx_class}")
    attributes = {**theirs.attributes, **ours.attributes}
    return Group(ours.nx_class or theirs.nx_class, attributes, children)


class Displaced:
    """Metadata whose place the scan itself needs; they stand in a group of their own.

    Parameters
    ----------
    problems : list of str
        Gets a sentence for each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self._nodes: dict[str, Node] = {}

    def add(self, path: str, node: Node) -> None:
        """Add a node under the path that it would have in the entry."""
        self.problems.append(
            f"metadata {path}: the name is taken by the scan itself; "
            f"stored as scanbus/metadata{path}"
        )
        self._nodes[path] = node

    def groups(self) -> dict[str, Node]:
        """Return the group ``metadata`` with all of them; empty if there are none."""
        found: dict[str, Node] = {}
        for path, node in self._nodes.items():
            found = _with_node(found, ["metadata", *path.split("/")[1:]], node)
        return found


def _with_node(
    children: Mapping[str, Node], path: list[str], node: Node
) -> dict[str, Node]:
    name, *rest = path
    if not rest:
        return {**children, name: node}
    old = children.get(name)
    group = old if isinstance(old, Group) else Group()
    inner = _with_node(group.children, rest, node)
    return {**children, name: Group(group.nx_class, group.attributes, inner)}


def _equal(value: Value, other: Value) -> bool:
    return bool(np.array_equal(np.asarray(value), np.asarray(other)))
