"""Convert a program's metadata into the tree of a document.

Keys become NeXus names, and values what HDF5 can hold. What is not stored as itself has
an attribute that says so: ``original_name`` the key, ``stored_as`` what the value was.
Metadata never stop a scan: the only error is a tree that fits no document. Pure.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError
from pydantic_core import to_json

from scanbus.publisher.declare.json_text import (
    json_text,
    key_text,
    mapping_of,
    text_of,
    type_name,
)
from scanbus.publisher.declare.leaves import Leaf, encoded, leaf_of
from scanbus.publisher.declare.static_arrays import StaticArrays
from scanbus.schemas import ArrayValue, is_array
from scanbus.schemas.documents import MAX_DOCUMENT_VALUES
from scanbus.schemas.errors import DeclarationError
from scanbus.schemas.metadata import MAX_DEPTH
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

    def add(self, keys: list[str]) -> None:
        """Give each new key a name; those that are valid keep theirs if it is free."""
        new = [key for key in dict.fromkeys(keys) if key not in self.found]
        new.sort(key=lambda key: not _is_name(key))
        used = set(self.found.values())
        for key in new:
            self.found[key] = unique_name(key, used)
            used.add(self.found[key])


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
        self._n_values = 0
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
            self._n_values, self._outer = 0, []
            self._none_withdraws = none_withdraws
            found = [] if metadata is None else _parts(metadata)
            keys = [("metadata", metadata)] if found is None else found
            return self._group(keys, self._names, 0)

    def _group(
        self, keys: list[tuple[str, Any]], names: _Names, depth: int
    ) -> dict[str, Any]:
        self._count(len(keys))
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
        parts = _parts(value)
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
        leaf = leaf_or_text(value)
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
        leaf = leaf_or_text(value)
        tree[name] = self._placed(attribute, leaf.value)
        if leaf.was:
            note = nexus_name(f"{attribute}_stored_as")
            tree.setdefault(f"{name.partition('@')[0]}@{note}", leaf.was)

    def _placed(self, key: str, value: Any) -> Any:
        """Return a value as it stands in the tree; of a large array, where it is."""
        if not isinstance(value, np.ndarray):
            return value
        found = self._statics and self._statics.reference(key, value)
        return found or encoded(value)

    def _count(self, n_keys: int) -> None:
        self._n_values += n_keys
        if self._n_values > MAX_DOCUMENT_VALUES:
            reason = f"more than {MAX_DOCUMENT_VALUES} values; send arrays"
            raise DeclarationError("metadata", reason)


def leaf_or_text(value: Any) -> Leaf:
    """Return a value of a program as a document can hold it, whatever it does."""
    try:
        leaf = Leaf(value) if _is_encoded(value) else leaf_of(value)
    except Exception:  # noqa: BLE001 - an object of the program's; metadata never stop
        text, was = text_of(value), f"text of {type_name(value)}"
        return Leaf(plain_text(text, _MAX_TEXT), was)
    return Leaf(leaf.value, plain_text(leaf.was, MAX_GIVEN_NAME_LENGTH))


def _items(given: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """Return all items at once, also of a mapping that another thread changes."""
    found: dict[str, Any] = {}
    for key, value in list(given.items()):
        text = key_text(key)
        while text in found:  # as 1 and "1"
            text = f"{text} ({type_name(key)})"
        found[text] = value
    return list(found.items())


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME_LENGTH and bool(_NAME.match(text))


def _is_attribute(key: str, owners: Set[str]) -> bool:
    """Whether a key is ``@name`` or ``field@name``; an address of e-mail is another."""
    owner, at, attribute = key.rpartition("@")
    return bool(at) and _is_name(attribute) and owner in owners


def _parts(value: object) -> list[tuple[str, Any]] | None:
    """Return the parts of a value that becomes a group; None for a field."""
    try:
        found = None if _is_encoded(value) else mapping_of(value)
        return None if found is None else _items(found)
    except Exception:  # noqa: BLE001 - an object of the program's; metadata never stop
        return None


def _parts_of(value: object) -> str:
    return f"parts of {type_name(value)}"


def _is_encoded(value: Any) -> bool:
    """Whether a value is an array as documents have it."""
    if not is_array(value):
        return False
    try:
        ArrayValue.model_validate_json(to_json(value["array"]), strict=True)
    except (ValidationError, ValueError):
        return False
    return True


def _shown(key: str) -> str:
    is_plain = plain_text(key, len(key) or 1) == key
    return plain_text(key if is_plain else json_text(key), MAX_GIVEN_NAME_LENGTH)
