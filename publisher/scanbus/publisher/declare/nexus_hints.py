"""What a program says of a channel for its NeXus file: hints, and fields beside it.

A hint is an attribute of the channel's dataset, or says what its device is. All else
that a program puts there, such as a mask, is a field of the device's group. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scanbus.publisher.declare.json_text import first_items, key_text
from scanbus.publisher.declare.metadata import leaf_or_text
from scanbus.schemas import MAX_METADATA_KEYS, NexusHints
from scanbus.schemas.channels import MAX_ATTRIBUTE_VALUES
from scanbus.schemas.errors import DeclarationError
from scanbus.schemas.valid_names import nexus_name, plain_text

__all__ = ["split_hints"]

_HINTS = ("nx_class", "field", "interpretation", "axes")


def split_hints(given: Any) -> tuple[Any, dict[str, Any]]:
    """Return hints of a channel, and the fields of its device among them.

    Parameters
    ----------
    given : NexusHints, mapping or None
        What the program gave as ``nexus``.

    Raises
    ------
    DeclarationError
        If that is more than a scan can have.

    Examples
    --------
    >>> split_hints({"attributes": {"vector": (1, 0, 0)}, "distance": 0.2})
    ({'attributes': {'vector': [1, 0, 0]}}, {'distance': 0.2})
    """
    if given is None or isinstance(given, NexusHints) or not isinstance(given, Mapping):
        return given, {}
    said = _first(given)
    hints = {key: said[key] for key in _HINTS if said.get(key) is not None}
    if "interpretation" in hints:
        hints["interpretation"] = plain_text(key_text(hints["interpretation"]), 63)
    if isinstance(hints.get("axes"), str):
        hints["axes"] = (hints["axes"],)
    fields = {
        key: value for key, value in said.items() if key not in {*_HINTS, "attributes"}
    }
    attributes: dict[str, Any] = {}
    for key, value in _first(said.get("attributes") or {}).items():
        name = key_text(key)
        leaf = leaf_or_text(_listed(value))
        if not _is_attribute(leaf.value):
            fields[name] = value
            continue
        attributes[name] = leaf.value
        if leaf.was:
            attributes.setdefault(nexus_name(f"{name}_stored_as"), leaf.was)
    return ({**hints, "attributes": attributes} if attributes else hints), fields


def _first(given: Any) -> dict[Any, Any]:
    """Return the items of a mapping, which are as many as a scan may have."""
    found = first_items(given, MAX_METADATA_KEYS)
    if len(found) > MAX_METADATA_KEYS:
        raise DeclarationError("nexus", f"more than {MAX_METADATA_KEYS} keys")
    return dict(found)


def _listed(value: Any) -> Any:
    """Return a short series of numbers as a list."""
    is_series = isinstance(value, np.ndarray) and value.ndim == 1
    is_plain = is_series and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8
    return value.tolist() if is_plain and len(value) <= MAX_ATTRIBUTE_VALUES else value


def _is_attribute(value: Any) -> bool:
    if isinstance(value, list):
        is_flat = not any(isinstance(item, list) for item in value)
        return is_flat and len(value) <= MAX_ATTRIBUTE_VALUES
    return isinstance(value, str | bool | int | float)
