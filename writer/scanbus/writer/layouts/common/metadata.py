"""Convert a scan's free metadata into a tree, and merge trees.

Metadata come from the publisher and are checked for form only. Values that cannot be
written are left out and reported as problems; they never prevent writing a master.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import numpy as np
from pydantic_core import to_json

from scanbus.bus.codecs import find_codec
from scanbus.schemas import MAX_METADATA_KEYS, ArrayValue, is_array
from scanbus.schemas.errors import PayloadError, UnknownCodecError
from scanbus.writer.layouts.common.channel_nodes import ascii_units
from scanbus.writer.model.nexus_tree import Array, Dataset, Group, Node, Value

__all__ = ["MAX_ARRAY_BYTES", "MetadataReader", "merge_trees"]

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
    with_users : bool
        Whether NXuser groups are included. They hold personal data, so they are left
        out by default.
    """

    def __init__(self, *, with_users: bool = False) -> None:
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
        checked = self._value(value, path)
        if checked is not None:
            children[name] = Dataset(checked)

    def _add_attributes(
        self, children: dict[str, Node], tree: Mapping[str, Any], where: str
    ) -> dict[str, Value]:
        """Add attributes to the fields in `children`; return those of the group."""
        of_group: dict[str, Value] = {}
        for key, value in tree.items():
            field, at, name = key.partition("@")
            if not at or value is None:
                continue
            checked = self._attribute(name, value, f"{where}/{key}")
            if checked is None:
                continue
            node = children.get(field)
            if not field:
                of_group[name] = checked
            elif isinstance(node, Dataset):
                attributes = {**node.attributes, name: checked}
                children[field] = Dataset(node.value, attributes)
            else:
                self.problems.append(
                    f"metadata {where}/{key}: there is no field {field}"
                )
        return of_group

    def _attribute(self, name: str, value: Any, path: str) -> Value | None:
        checked = self._value(value, path)
        if name == "units" and isinstance(checked, str):
            return ascii_units(checked)
        if isinstance(checked, np.ndarray) and checked.nbytes > _MAX_ATTRIBUTE_BYTES:
            self.problems.append(
                f"metadata {path}: {checked.nbytes} bytes, an attribute holds "
                f"{_MAX_ATTRIBUTE_BYTES}"
            )
            return None
        return checked

    def _value(self, value: Any, path: str) -> Value | None:
        try:
            if is_array(value):
                return self._array(value["array"])
            return _plain_value(value)
        except (ValueError, TypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
        except (PayloadError, UnknownCodecError) as error:
            reason = str(error)
        self.problems.append(f"metadata {path}: {reason}")
        return None

    def _array(self, document: Any) -> Array:
        array = ArrayValue.model_validate_json(to_json(document))
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
    ours: Group, theirs: Group, problems: list[str], where: str = ""
) -> Group:
    """Return two trees merged; where names collide, `ours` takes precedence.

    Parameters
    ----------
    ours, theirs : Group
        Groups of the same name are merged recursively; so are the attributes of
        fields of the same name and value.
    problems : list of str
        A sentence is appended for each node or class of `theirs` that is dropped.
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
                children[name] = merge_trees(old, node, problems, path)
            case Dataset() as old, Dataset() if _equal(old.value, node.value):
                attributes = {**node.attributes, **old.attributes}
                children[name] = Dataset(old.value, attributes)
            case _:
                problems.append(
                    f"metadata {path}: the name is taken by the scan itself"
                )
    if theirs.nx_class and ours.nx_class and theirs.nx_class != ours.nx_class:
        problems.append(f"metadata {where}: it is {ours.nx_class}")
    attributes = {**theirs.attributes, **ours.attributes}
    return Group(ours.nx_class or theirs.nx_class, attributes, children)


def _equal(value: Value, other: Value) -> bool:
    return bool(np.array_equal(np.asarray(value), np.asarray(other)))
