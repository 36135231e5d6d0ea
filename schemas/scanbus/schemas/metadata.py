"""Metadata trees: validation and merging.

A tree is JSON. Keys are NeXus names and become groups (an object) or fields
(anything else); ``@name`` is an attribute of the group, ``field@name`` one of the
field, as in silx's ``dicttonx``. An array is sent as
``{"array": {"dtype", "shape", "codec", "data"}}`` with base64 in ``data``; arrays are
not decoded here. A large one has ``lane`` in place of ``data``: it is the only point of
that lane, which no other document describes.

Values that HDF5 or numpy cannot store are refused here, when they enter the bus: text
with NUL, integers of more than 64 bits, lists of mixed types, rows of unequal length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

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

from scanbus.schemas.channels import (
    MAX_ENTRY_BYTES,
    ChannelDescription,
    LaneDescription,
    NumberName,
    Role,
    Storage,
)
from scanbus.schemas.file_names import STATIC_PREFIX
from scanbus.schemas.valid_names import MAX_NAME_LENGTH, NEXUS_NAME, NexusName

__all__ = [
    "MAX_METADATA_KEYS",
    "ArrayValue",
    "MetadataTree",
    "is_array",
    "merged",
    "static_lanes",
]

MAX_DEPTH = 16
MAX_METADATA_KEYS = 50_000
"""Most keys of one document, and of a scan's metadata in its file.

Each is an object of HDF5, which takes the writer about a tenth of a millisecond."""
# HDF5 has no more.
MAX_ARRAY_DIMENSIONS = 32
MAX_POINT_DIMENSIONS = 3
_KEY = re.compile(NEXUS_NAME[:-1] + r"\Z")


class ArrayValue(BaseModel):
    """An array inside a document.

    Attributes
    ----------
    dtype : str
        numpy's name of the type; the bytes are little-endian.
    shape : tuple of int
        Shape, in C order.
    codec : str
        Name of the codec, applied to the whole array as one chunk.
    data : bytes
        The encoded bytes; base64 in JSON. None if it has a lane.
    lane : str
        Name of the lane that carries the array, which begins with `STATIC_PREFIX`;
        else empty.
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
    data: bytes = b""
    lane: NexusName | Literal[""] = ""

    @model_validator(mode="after")
    def _size_is_bounded(self) -> Self:
        n_bytes = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if n_bytes > MAX_ENTRY_BYTES:
            raise ValueError(
                f"an array of {n_bytes} bytes; the limit is {MAX_ENTRY_BYTES}"
            )
        if self.lane:
            self._check_lane(n_bytes)
        elif self.codec == "none" and len(self.data) != n_bytes:
            raise ValueError(
                f"dtype and shape need {n_bytes} bytes, data has {len(self.data)}"
            )
        return self

    def _check_lane(self, n_bytes: int) -> None:
        if not self.lane.startswith(STATIC_PREFIX):
            raise ValueError(f"lane {self.lane!r} is not one of static arrays")
        if self.data or not self.shape or not n_bytes:
            raise ValueError("an array with a lane has values, and none in a document")

    def static_lane(self) -> LaneDescription:
        """Return the lane of an array that has one.

        Points have at most three dimensions; an array of more travels as a row.
        """
        is_point = len(self.shape) <= MAX_POINT_DIMENSIONS
        channel = ChannelDescription(
            name=self.lane,
            group=self.lane,
            device=self.lane,
            role=Role.DETECTOR,
            dtype=self.dtype,
            shape=self.shape if is_point else (math.prod(self.shape),),
            codec=self.codec,
            points=1,
        )
        return LaneDescription(
            name=self.lane,
            storage=Storage.FILES,
            channels=(channel,),
            points_per_segment=1,
            points_per_chunk=1,
        )


def is_array(value: object) -> bool:
    """Whether a value of a tree represents an array.

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
    names = [part for part in (field, attribute) if part]
    if not names or (at and not attribute):
        raise ValueError(f"{key!r} is not a name")
    for part in names:
        if len(part) > MAX_NAME_LENGTH or not _KEY.match(part):
            raise ValueError(
                f"{key!r} is not a NeXus name (letters, digits, _ and inner dots, "
                f"at most {MAX_NAME_LENGTH})"
            )


def _check_tree(tree: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels of groups")
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
        _check_scalar(key, value)
        return
    rows = [item for item in value if isinstance(item, list)]
    if not rows:
        _check_list(key, value)
        return
    numbers = [item for row in rows for item in row]
    if len(rows) < len(value) or {type(item) for item in numbers} - {int, float}:
        raise ValueError(f"{key!r}: nested lists hold numbers only; use arrays")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{key!r}: rows of unequal length")
    _check_list(key, numbers)


def _check_list(key: str, items: list[Any]) -> None:
    types = {type(item) for item in items}
    if types - {str, bool, int, float}:
        raise ValueError(f"{key!r}: nested lists hold numbers only; use arrays")
    if types - {int, float} and len(types) > 1:
        raise ValueError(f"{key!r}: a list of mixed types")
    for item in items:
        _check_scalar(key, item)
    integers = [item for item in items if type(item) is int]
    if integers and min(integers) < 0 and max(integers) >= 2**63:
        raise ValueError(
            f"{key!r}: no integer type of HDF5 holds all numbers of the list"
        )


def _check_scalar(key: str, value: object) -> None:
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{key!r}: text contains NUL")
    if type(value) is int and not -(2**63) <= value < 2**64:
        raise ValueError(f"{key!r}: an integer of more than 64 bits")


def _check_count(tree: dict[str, Any]) -> dict[str, Any]:
    count = count_keys(tree)
    if count > MAX_METADATA_KEYS:
        raise ValueError(
            f"{count} keys in all groups together, the limit is {MAX_METADATA_KEYS}; "
            "send long series as arrays"
        )
    return tree


def count_keys(tree: dict[str, Any]) -> int:
    """Return the number of keys of a tree, those of its groups included.

    Examples
    --------
    >>> count_keys({"sample": {"name": "a", "mass": 1}, "mask": 3})
    4
    """
    groups = [value for value in tree.values() if _is_group(value)]
    return len(tree) + sum(map(count_keys, groups))


# The count last: it recurses, and the other check refuses a tree that is too deep.
MetadataTree = Annotated[
    dict[str, JsonValue], AfterValidator(_check_tree), AfterValidator(_check_count)
]


def static_lanes(tree: dict[str, Any]) -> Iterator[LaneDescription]:
    """Yield the lanes of the arrays to which a checked tree refers, some repeatedly.

    Examples
    --------
    >>> mask = {"dtype": "uint8", "shape": [2], "lane": "static.mask"}
    >>> [lane.name for lane in static_lanes({"a": {"mask": {"array": mask}}})]
    ['static.mask']
    """
    for value in tree.values():
        if _is_group(value):
            yield from static_lanes(value)
        elif isinstance(value, dict) and value["array"].get("lane"):
            array = ArrayValue.model_validate_json(to_json(value["array"]), strict=True)
            yield array.static_lane()


def merged(*trees: dict[str, Any]) -> dict[str, Any]:
    """Return a new tree: each tree merged into those before it, group by group.

    Takes time in proportion to the size of the trees, however many they are.

    Examples
    --------
    >>> merged({"sample": {"name": "a", "mass": 1}}, {"sample": {"mass": 2}})
    {'sample': {'name': 'a', 'mass': 2}}
    """
    result: dict[str, Any] = {}
    for tree in trees:
        _merge(result, tree)
    return result


def _merge(target: dict[str, Any], tree: dict[str, Any]) -> None:
    """Merge a tree into `target`, which must share no group with another tree."""
    for key, value in tree.items():
        if not _is_group(value):
            target[key] = value
            continue
        old = target.get(key)
        if old is None or not _is_group(old):
            old = target[key] = {}
        _merge(old, value)


def _is_group(value: object) -> bool:
    return isinstance(value, dict) and not is_array(value)
