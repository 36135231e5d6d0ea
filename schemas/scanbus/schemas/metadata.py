"""The free tree of a scan's metadata: what it may hold, and how two are merged.

A tree is JSON. Keys are NeXus names and become groups (an object) or fields
(anything else); ``@name`` is an attribute of the group, ``field@name`` one of the
field, as in silx's ``dicttonx``. An array travels as
``{"array": {"dtype", "shape", "codec", "data"}}`` with base64 in ``data``; codecs are
not undone here.

What HDF5 or numpy could not take is refused here, at the edge: text with NUL, numbers
of more than 64 bits, lists of mixed kinds or of rows of differing length.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)
from pydantic_core import to_json

from scanbus.schemas.channels import MAX_ENTRY_BYTES, NumberName
from scanbus.schemas.names import MAX_NAME_LENGTH, NEXUS_NAME

__all__ = ["ArrayValue", "MetadataTree", "is_array", "merged"]

MAX_DEPTH = 16
MAX_ARRAY_DIMENSIONS = 4
_KEY = re.compile(NEXUS_NAME[:-1] + r"\Z")


class ArrayValue(BaseModel):
    """An array inside a document.

    Attributes
    ----------
    dtype : str
        Name as numpy has it, little-endian on the wire.
    shape : tuple of int
        Shape, C order.
    codec : str
        One of the bus's codecs, applied to the whole array as one chunk.
    data : bytes
        The packed bytes; base64 in JSON.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        defer_build=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    dtype: NumberName
    shape: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        max_length=MAX_ARRAY_DIMENSIONS
    )
    codec: str = Field(default="none", max_length=63)
    data: bytes

    @model_validator(mode="after")
    def _size_is_bounded(self) -> Self:
        n_bytes = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if n_bytes > MAX_ENTRY_BYTES:
            raise ValueError(f"an array of {n_bytes} bytes, at most {MAX_ENTRY_BYTES}")
        if self.codec == "none" and len(self.data) != n_bytes:
            raise ValueError(f"an array of {n_bytes} bytes in {len(self.data)}")
        return self


def is_array(value: object) -> bool:
    """Whether a value of a tree stands for an array.

    Examples
    --------
    >>> is_array({"array": {"dtype": "uint8", "shape": [0], "data": ""}})
    True
    >>> is_array({"array": 3})
    False
    """
    return (
        isinstance(value, dict)
        and set(value) == {"array"}
        and isinstance(value["array"], dict)
        and "dtype" in value["array"]
    )


def _check_key(key: str) -> None:
    field, at, attribute = key.partition("@")
    named = [part for part in (field, attribute) if part]
    if not named or (at and not attribute):
        raise ValueError(f"{key!r} is not a name")
    for part in named:
        if len(part) > MAX_NAME_LENGTH or not _KEY.match(part):
            raise ValueError(
                f"{key!r} is not a NeXus name (letters, digits, _ and inner dots, "
                f"at most {MAX_NAME_LENGTH})"
            )


def _check_tree(tree: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    for key, value in tree.items():
        _check_key(key)
        if is_array(value):
            ArrayValue.model_validate_json(to_json(value["array"]), strict=True)
        elif isinstance(value, dict):
            if "@" in key:
                raise ValueError(f"{key!r}: an attribute cannot be a group")
            _check_tree(value, depth + 1)
        else:
            _check_leaf(key, value)
    return tree


def _check_leaf(key: str, value: object) -> None:
    if not isinstance(value, list):
        _check_single(key, value)
        return
    rows = [item for item in value if isinstance(item, list)]
    if not rows:
        _check_flat(key, value)
        return
    numbers = [item for row in rows for item in row]
    if len(rows) < len(value) or {type(item) for item in numbers} - {int, float}:
        raise ValueError(f"{key!r}: nested lists hold numbers only; use arrays")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{key!r}: rows of differing length")
    _check_flat(key, numbers)


def _check_flat(key: str, items: list[Any]) -> None:
    kinds = {type(item) for item in items}
    if kinds - {str, bool, int, float}:
        raise ValueError(f"{key!r}: nested lists hold numbers only; use arrays")
    if kinds - {int, float} and len(kinds) > 1:
        raise ValueError(f"{key!r}: a list of mixed kinds")
    for item in items:
        _check_single(key, item)
    integers = [item for item in items if type(item) is int]
    if integers and min(integers) < 0 and max(integers) >= 2**63:
        raise ValueError(f"{key!r}: no integer type of HDF5 holds all of the list")


def _check_single(key: str, value: object) -> None:
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{key!r}: text with NUL")
    if type(value) is int and not -(2**63) <= value < 2**64:
        raise ValueError(f"{key!r}: a number of more than 64 bits")


MetadataTree = Annotated[dict[str, JsonValue], AfterValidator(_check_tree)]


def merged(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `update` laid over it, group by group.

    Examples
    --------
    >>> merged({"sample": {"name": "a", "mass": 1}}, {"sample": {"mass": 2}})
    {'sample': {'name': 'a', 'mass': 2}}
    """
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not is_array(value):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result
