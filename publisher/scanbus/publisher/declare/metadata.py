"""Convert a program's metadata into the tree of a document.

Keys become NeXus names, and values what HDF5 can hold. What is not stored as itself has
an attribute that says so: ``original_name`` the key, ``stored_as`` what the value was.
Metadata never stop a scan: the only error is a tree that fits no document, and it comes
as soon as that is known, whatever the program gave. Pure.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from pydantic import ValidationError
from pydantic_core import to_json

from scanbus.publisher.declare.json_text import (
    first_items,
    json_text,
    key_text,
    mapping_of,
    text_of,
    type_name,
)
from scanbus.publisher.declare.leaves import Leaf, encoded, leaf_of
from scanbus.publisher.declare.static_arrays import StaticArrays
from scanbus.schemas import MAX_METADATA_KEYS, ArrayValue, is_array
from scanbus.schemas.documents import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_VALUES
from scanbus.schemas.errors import DeclarationError
from scanbus.schemas.metadata import MAX_ARRAY_DIMENSIONS, MAX_DEPTH
from scanbus.schemas.valid_names import (
    MAX_GIVEN_NAME_LENGTH,
    MAX_NAME_LENGTH,
    NEXUS_NAME,
    nexus_name,
    plain_text,
    unique_name,
)

__all__ = ["MetadataConverter", "leaf_or_text", "tree_of"]

_MAX_TEXT = 2**16
# Of all large arrays in one tree, also the same one under many keys: each is read.
_MAX_ARRAY_BYTES = 2**32
_NAME = re.compile(NEXUS_NAME[:-1] + r"\Z")


def tree_of(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata of a scan's start as a tree; see `MetadataConverter`.

    Examples
    --------
    >>> tree_of({"sample": {"mass": 1.5, "tags": ("a", "b")}})
    {'sample': {'mass': 1.5, 'tags': ['a', 'b']}}
    >>> tree_of({"filter": None})
    {'filter': 'None', 'filter@stored_as': 'text of NoneType'}
    >>> tree_of({"beam size": 2})
    {'beam_size': 2, 'beam_size@original_name': 'beam size'}
    """
    return MetadataConverter().tree(metadata)


@dataclass(slots=True)
class _Names:
    """The names of one group's keys so far, and those of the groups in it."""

    found: dict[str, str] = field(default_factory=dict)
    groups: dict[str, _Names] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def add(self, keys: list[str]) -> None:
        """Give each new key a name; those that are valid keep theirs if it is free."""
        new = [key for key in dict.fromkeys(keys) if key not in self.found]
        new.sort(key=lambda key: not _is_name(key))
        for key in new:
            self.found[key] = unique_name(key, self.used)
            self.used.add(self.found[key])


class MetadataConverter:
    """Converts the metadata of one scan; the same key always gets the same name.

    Safe to share between threads.

    Parameters
    ----------
    statics : StaticArrays, optional
        Takes the large arrays; without it they stand in the tree.
    """

    def __init__(self, statics: StaticArrays | None = None) -> None:
        self._statics = statics
        self._names = _Names()
        self._lock = threading.Lock()
        self._size = _Size()
        self._outer: list[int] = []
        self._none_withdraws = False

    def tree(
        self, metadata: Mapping[str, Any] | None, *, none_withdraws: bool = False
    ) -> dict[str, Any]:
        """Return metadata as a tree of a document.

        Parameters
        ----------
        metadata : mapping
            Any values under any keys; ``@name`` and ``field@name`` are attributes.
            Something else that has no named parts stands under ``metadata``.
        none_withdraws : bool
            Whether None withdraws an earlier value, as in an update of a scan; else it
            is text.

        Raises
        ------
        DeclarationError
            If it has more values than a document can hold, or arrays than the bus.
        """
        with self._lock:
            self._size, self._outer = _Size(), []
            self._none_withdraws = none_withdraws
            found = [] if metadata is None else self._parts(metadata)
            keys = [("metadata", metadata)] if found is None else found
            return self._group(keys, self._names, 0)

    def _group(
        self, keys: list[tuple[str, Any]], names: _Names, depth: int
    ) -> dict[str, Any]:
        owners = {"", *names.found, *(key for key, _ in keys)}
        attributes = [pair for pair in keys if _is_attribute(pair[0], owners)]
        members = [pair for pair in keys if not _is_attribute(pair[0], owners)]
        names.add([key for key, _ in members])
        tree: dict[str, Any] = {}
        for key, value in members:
            self._member(tree, key, value, names, depth)
        for key, value in attributes:
            self._attribute(tree, key, value, names)
        return tree

    def _member(
        self,
        tree: dict[str, Any],
        key: str,
        value: Any,
        names: _Names,
        depth: int,
    ) -> None:
        name = names.found[key]
        if self._none_withdraws and value is None:
            tree[name] = None
            return
        parts = self._parts(value)
        is_circular = id(value) in self._outer
        if parts is not None and depth < MAX_DEPTH and not is_circular:
            inner = names.groups.setdefault(key, _Names())
            notes = (
                {} if isinstance(value, Mapping) else {"@stored_as": _parts_of(value)}
            )
            self._outer.append(id(value))
            group = self._group(parts, inner, depth + 1)
            self._outer.pop()
            # A mapping of this form alone would be taken for an array.
            if is_array(group):
                notes["@stored_as"] = "mapping"
            if name != key:
                notes["@original_name"] = _shown(key)
            tree[name] = {**notes, **group}
            return
        leaf = _leaf_of(key, value)
        tree[name] = self._placed(key, leaf.value)
        if name != key:
            tree.setdefault(f"{name}@original_name", _shown(key))
        if leaf.was:
            tree.setdefault(f"{name}@stored_as", leaf.was)

    def _attribute(
        self,
        tree: dict[str, Any],
        key: str,
        value: Any,
        names: _Names,
    ) -> None:
        owner, _, attribute = key.rpartition("@")
        name = f"{owner and names.found.get(owner, owner)}@{attribute}"
        if self._none_withdraws and value is None:
            tree[name] = None
            return
        leaf = _leaf_of(key, value)
        tree[name] = self._placed(attribute, leaf.value)
        if leaf.was:
            note = nexus_name(f"{attribute}_stored_as")
            tree.setdefault(f"{name.partition('@')[0]}@{note}", leaf.was)

    def _placed(self, key: str, value: Any) -> Any:
        """Return a value as it stands in the tree; of a large array, where it is."""
        placed = value
        if isinstance(value, np.ndarray):
            self._size.add_array(value.nbytes)
            found = self._statics and self._statics.reference(key, value)
            placed = found or encoded(value)
        self._size.add(placed)
        return placed

    def _parts(self, value: object) -> list[tuple[str, Any]] | None:
        """Return the parts of a value that becomes a group; None for a field."""
        try:
            found = None if _is_encoded(value) else mapping_of(value)
            if found is None:
                return None
            items = first_items(found, self._size.keys_left)
            # Before anything is made of them: it may be a mapping without an end.
            self._size.add_keys(len(items))
            return _with_texts(items)
        except DeclarationError:
            raise
        except Exception:  # noqa: BLE001 - an object of the program's; metadata never stop
            return None


class _Size:
    """The size of one tree so far.

    Attributes
    ----------
    keys_left : int
        How many more keys it may have.
    """

    def __init__(self) -> None:
        self.keys_left = MAX_METADATA_KEYS
        self._values_left = MAX_DOCUMENT_VALUES
        self._bytes_left = MAX_DOCUMENT_BYTES
        self._array_bytes_left = _MAX_ARRAY_BYTES

    def add_keys(self, n_keys: int) -> None:
        """Count keys of a group; raise DeclarationError if they are too many."""
        self.keys_left -= n_keys
        if self.keys_left < 0:
            _refuse(f"{MAX_METADATA_KEYS} keys in all groups")

    def add_array(self, n_bytes: int) -> None:
        """Count a large array; raise DeclarationError if they are too many."""
        self._array_bytes_left -= n_bytes
        if self._array_bytes_left < 0:
            _refuse(f"{_MAX_ARRAY_BYTES} bytes in all arrays")

    def add(self, value: Any) -> None:
        """Count a value as it stands in the tree; raise if that fits no document."""
        if isinstance(value, list):
            self._values_left -= len(value)
            self._bytes_left -= sum(len(each) for each in value if type(each) is str)
        elif isinstance(value, str):
            self._values_left -= value.count(",")
            self._bytes_left -= len(value)
        elif isinstance(value, dict):
            self._bytes_left -= len(value["array"].get("data", ""))
        if self._values_left < 0:
            _refuse(f"{MAX_DOCUMENT_VALUES} values")
        if self._bytes_left < 0:
            _refuse(f"{MAX_DOCUMENT_BYTES} bytes")


def _refuse(limit: str) -> NoReturn:
    reason = f"more than {limit} together; send long series as arrays, or as channels"
    raise DeclarationError("metadata", reason)


def _leaf_of(key: str, value: Any) -> Leaf:
    try:
        return leaf_or_text(value)
    except DeclarationError as error:
        reason = f"{plain_text(key, MAX_NAME_LENGTH)}: {error.reason}"
        raise DeclarationError("metadata", reason) from None


def leaf_or_text(value: Any) -> Leaf:
    """Return a value of a program as a document can hold it, whatever it does.

    Raises
    ------
    DeclarationError
        If it is larger than that.
    """
    try:
        leaf = Leaf(value) if _is_encoded(value) else leaf_of(value)
    except DeclarationError:
        raise
    except Exception:  # noqa: BLE001 - an object of the program's; metadata never stop
        text, was = text_of(value), f"text of {type_name(value)}"
        return Leaf(plain_text(text, _MAX_TEXT), was)
    return Leaf(leaf.value, plain_text(leaf.was, MAX_GIVEN_NAME_LENGTH))


def _with_texts(items: list[tuple[Any, Any]]) -> list[tuple[str, Any]]:
    """Return items by different texts of their keys."""
    found: dict[str, Any] = {}
    n_same: dict[str, int] = {}
    for key, value in items:
        plain = text = key_text(key)
        if len(text) > _MAX_TEXT:
            _refuse(f"{_MAX_TEXT} characters in a key")
        while text in found:  # as 1 and "1"
            n_same[plain] = number = n_same.get(plain, 0) + 1
            text = f"{plain} ({type_name(key)}{f' {number}' if number > 1 else ''})"
        found[text] = value
    return list(found.items())


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME_LENGTH and bool(_NAME.match(text))


def _is_attribute(key: str, owners: Set[str]) -> bool:
    """Whether a key is ``@name`` or ``field@name``; an address of e-mail is another."""
    owner, at, attribute = key.rpartition("@")
    return bool(at) and _is_name(attribute) and owner in owners


def _parts_of(value: object) -> str:
    return f"parts of {type_name(value)}"


def _is_encoded(value: Any) -> bool:
    """Whether a value is an array as documents have it.

    One with a lane is not: that lane is of another scan.
    """
    if not is_array(value) or not _is_flat(value["array"]):
        return False
    try:
        ArrayValue.model_validate_json(to_json(value["array"]), strict=True)
    except (ValidationError, ValueError):
        return False
    return True


def _is_flat(packed: dict[Any, Any]) -> bool:
    """Whether it has text and lengths only: writing it as JSON takes no time."""
    shape = packed.get("shape")
    if not isinstance(shape, list | tuple) or len(shape) > MAX_ARRAY_DIMENSIONS:
        return False
    is_text = all(type(value) is str for key, value in packed.items() if key != "shape")
    is_known = packed.keys() <= {"dtype", "shape", "codec", "data"}
    return is_known and is_text and all(type(length) is int for length in shape)


def _shown(key: str) -> str:
    is_plain = plain_text(key, len(key) or 1) == key
    return plain_text(key if is_plain else json_text(key), MAX_GIVEN_NAME_LENGTH)
