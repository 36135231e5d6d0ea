"""Find a program's metadata again in a NeXus file, as somebody would who reads it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from typing import Any

import h5py
import numpy as np

_NAME = re.compile(r"\w(?:[\w.]*\w)?", re.ASCII)

__all__ = ["missing_leaves", "parts_of"]


def missing_leaves(
    metadata: Mapping[Any, Any], group: h5py.Group, where: str = ""
) -> Iterator[str]:
    """Yield the path of every value that is not in a group, or is another there."""
    for key, value in metadata.items():
        path = f"{where}/{key!r}"
        found = _found(group, str(key))
        if found is None:
            yield f"{path}: not there"
        elif isinstance(found, h5py.Group):
            parts = parts_of(value)
            yield from (
                [f"{path}: {value!r:.100} is a group"]
                if parts is None
                else missing_leaves(parts, found, path)
            )
        elif not isinstance(found, h5py.Dataset) or not _is_same(value, found):
            yield f"{path}: {value!r:.100} is {_shown(found)}"


def parts_of(value: Any) -> Mapping[Any, Any] | None:
    """Return the named parts of a value; None if it has none."""
    if isinstance(value, Mapping):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    names = getattr(getattr(value, "dtype", None), "names", None)
    return {name: value[name] for name in names} if names else None


def _found(group: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """Return the member that a key became, by its name or its first name."""
    for node in group.values():
        if _is_key(node.attrs.get("original_name"), key):
            return node
    node = group.get(key) if _NAME.fullmatch(key) else None
    return None if node is None or "original_name" in node.attrs else node


def _is_key(shown: str | None, key: str) -> bool:
    """Whether a first name is that key; HDF5 stores some only as JSON."""
    if shown == key or shown is None:
        return shown == key
    is_json = "\\" in shown and shown[0] == shown[-1] == '"'
    return is_json and key == json.loads(shown)


def _is_same(value: Any, dataset: h5py.Dataset) -> bool:
    was = _text(dataset.attrs.get("stored_as", ""))
    stored = (
        dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()]
    )
    special = _is_same_special(value, stored, was)
    if special is not None:
        return special
    if was.startswith("JSON"):
        return _equal(json.loads(stored), _plain(value))
    if was:
        return _stands_for(value, stored, was)
    if isinstance(value, str) or isinstance(stored, str):
        return bool(stored == _text(value))
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    return _equal(np.asarray(stored).tolist(), _plain(listed))


def _is_same_special(value: Any, stored: Any, was: str) -> bool | None:
    """Whether a value of numpy, or an enumeration's, is there; None for others."""
    if isinstance(value, np.ndarray) and not value.ndim and value.dtype.kind != "V":
        value = value[()]
    if isinstance(value, np.ndarray | np.generic):
        return _is_same_array(value, stored, was)
    if isinstance(value, list) and any(isinstance(each, np.ndarray) for each in value):
        return not was.startswith("JSON") or isinstance(json.loads(stored), list)
    if isinstance(value, Enum):
        return was.startswith(("value of ", "list of "))
    return None


def _is_same_array(value: Any, stored: Any, was: str) -> bool:
    """Whether an array or scalar of numpy is there as itself, or said to be else."""
    kept = np.asarray(stored)
    if value.dtype.kind in "biufc":
        if was.startswith("text of"):
            return [str(each) for each in np.ravel(value)] == np.ravel(kept).tolist()
        same_shape = kept.shape == np.shape(value)
        return same_shape and np.array_equal(kept, value, equal_nan=True)
    if was:
        return not was.startswith("JSON") or json.loads(stored) is not None
    if value.dtype.kind == "M":
        value = np.datetime_as_string(value)
    return bool(kept.tolist() == np.asarray(value).tolist())


def _stands_for(value: Any, stored: Any, was: str) -> bool:
    if isinstance(value, set | frozenset) and not was.startswith("list of"):
        value = sorted(value)
    if isinstance(value, list | tuple):
        return all(_stands_for(*pair, was) for pair in zip(value, stored, strict=True))
    if was == "bytes":
        return bool(np.asarray(stored).tobytes() == value)
    if was.startswith("list of"):
        return sorted(np.asarray(stored).tolist()) == sorted(value)
    text = value.decode() if isinstance(value, bytes) else str(value)
    return bool(stored == text.rstrip("\0"))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)
    if isinstance(value, np.generic) and value.dtype.char not in "gG":
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return _Unordered(_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return _text_or_hex(value)
    is_plain = value is None or isinstance(value, bool | int | float | str | complex)
    return value if is_plain else _text(value)


def _text_or_hex(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


class _Unordered(list[Any]):
    """Items of a set: which is first is nobody's business."""


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, list) and isinstance(wanted, _Unordered):
        found, wanted = sorted(found, key=str), sorted(wanted, key=str)
    if isinstance(found, list) and isinstance(wanted, list):
        same = len(found) == len(wanted)
        return same and all(map(_equal, found, wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(
            _equal(found[key], wanted[key]) for key in found
        )
    if isinstance(wanted, complex) and isinstance(found, str):
        return found == str(wanted)  # JSON has none.
    if isinstance(found, float) and isinstance(wanted, int | float):
        return found == wanted or (math.isnan(found) and math.isnan(wanted))
    return bool(found == wanted)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _shown(node: h5py.Group | h5py.Dataset) -> str:
    value = node[()] if isinstance(node, h5py.Dataset) else node
    return f"{value!r:.100} {dict(node.attrs)}"
