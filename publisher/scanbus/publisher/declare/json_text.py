"""Any value of a program as text: of its parts as JSON, of anything else by its name.

For metadata that have no form of their own in a file. What its program cannot show, or
what holds itself, is named. Each value is read within the bounds of a document, also
one that never ends, or holds a few others again and again. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date, time
from itertools import islice
from typing import Any

import numpy as np

from scanbus.schemas.documents import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_VALUES
from scanbus.schemas.errors import DeclarationError

__all__ = [
    "first_items",
    "is_listed",
    "json_text",
    "key_text",
    "mapping_of",
    "text_of",
    "type_name",
]

_MAX_DEPTH = 64
# Python refuses to write very long integers in decimal.
_MAX_DECIMAL_BITS = 10_000
_SCALARS = (bool, int, float, str, bytes, bytearray, date, time)
_SERIES = (list, tuple, set, frozenset)


def type_name(value: object) -> str:
    """Return the name of a value's type, for people."""
    return getattr(type(value), "__name__", "object")


def text_of(value: object) -> str:
    """Return ``str(value)``, or which object it is that cannot be shown."""
    if type(value) is str:
        return value
    if isinstance(value, int) and value.bit_length() >= _MAX_DECIMAL_BITS:
        return hex(value)
    try:
        # Python writes out what stands in a value many times as often as it stands.
        is_bounded = isinstance(value, range) or not _holds_others(value)
        return str(value) if is_bounded else json_text(value)
    except Exception:  # noqa: BLE001 - an object of the program's; metadata never stop
        return "cannot be shown"


def key_text(key: object) -> str:
    """Return a key or a name as text: of a member of a text enumeration its value."""
    return str.__str__(key) if isinstance(key, str) else text_of(key)


def is_listed(value: object) -> bool:
    """Whether a value is a series of others, which reading it does not use up."""
    return isinstance(value, Sequence | Set) and not isinstance(
        value, str | bytes | bytearray | memoryview
    )


def _holds_others(value: object) -> bool:
    return isinstance(value, Mapping) or is_listed(value)


def first_items(given: Mapping[Any, Any], most: int) -> list[tuple[Any, Any]]:
    """Return the items of a mapping, and one more than `most` if there are more.

    All at once, as another thread may change it.
    """
    return list(islice(given.items(), most + 1))


def mapping_of(value: object) -> Mapping[Any, Any] | None:
    """Return a value with named parts as a mapping; None for anything else.

    That is a mapping, a dataclass, a named tuple, a model of pydantic, or numpy's
    structured scalars and arrays.
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, np.ndarray | np.void):
        names = value.dtype.names
        return {name: value[name] for name in names} if names else None
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return {each.name: getattr(value, each.name, None) for each in fields(value)}
    for way in ("_asdict", "model_dump"):
        if callable(getattr(type(value), way, None)):
            found = getattr(value, way)()
            return found if isinstance(found, Mapping) else None
    return None


def json_text(value: object) -> str:
    """Return a value as JSON; what JSON lacks is text in it.

    Raises
    ------
    DeclarationError
        If that is more than fits a document.

    Examples
    --------
    >>> json_text([1, None, {"a": (2, b"x")}])
    '[1, null, {"a": [2, "x"]}]'
    """
    plain = _JsonForm().of(value, ())
    text = json.dumps(plain, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(plain)
    return text


class _JsonForm:
    """Makes the JSON form of one value, and counts what it takes."""

    def __init__(self) -> None:
        self._values_left = MAX_DOCUMENT_VALUES
        self._bytes_left = MAX_DOCUMENT_BYTES

    def of(self, value: Any, outer: tuple[int, ...]) -> Any:
        """Return a value in the types of JSON; `outer` are the ids of what holds it."""
        if isinstance(value, np.generic) and value.dtype.kind in "biufcUS":
            value = value.item()
        if value is None or isinstance(value, _SCALARS):
            return self._counted(_scalar(value))
        if len(outer) > _MAX_DEPTH or id(value) in outer:
            return self._counted(f"{type_name(value)}, nested too deeply")
        self._count(1)
        inner = (*outer, id(value))
        # Known by their types: a million questions to abstract classes take seconds.
        is_series = type(value) in _SERIES
        parts = None if is_series else mapping_of(value)
        if parts is not None:
            return self._object(parts, inner)
        if isinstance(value, np.ndarray):
            if value.size > self._values_left:
                self._count(value.size)
            return self.of(value.tolist(), inner)
        if not (is_series or is_listed(value)):
            return self._counted(text_of(value))
        listed: Any = value
        items = [self.of(item, inner) for item in listed]
        is_ordered = len(items) < 2 or isinstance(value, Sequence)
        return items if is_ordered else sorted(items, key=str)

    def _object(self, parts: Mapping[Any, Any], inner: tuple[int, ...]) -> Any:
        """Return an object, or pairs if two of the keys have the same text."""
        pairs = [
            (self._counted(text_of(key)), self.of(value, inner))
            for key, value in parts.items()
        ]
        found = dict(pairs)
        return found if len(found) == len(pairs) else [list(pair) for pair in pairs]

    def _counted(self, plain: Any) -> Any:
        self._count(1, len(plain) if isinstance(plain, str) else 0)
        return plain

    def _count(self, n_values: int, n_bytes: int = 0) -> None:
        self._values_left -= n_values
        self._bytes_left -= n_bytes
        if min(self._values_left, self._bytes_left) < 0:
            reason = (
                f"a value of more than {MAX_DOCUMENT_VALUES} parts, or of "
                f"{MAX_DOCUMENT_BYTES} bytes as JSON; send arrays"
            )
            raise DeclarationError("metadata", reason)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        is_short = value.bit_length() < _MAX_DECIMAL_BITS
        return int(value) if is_short else hex(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    return value.isoformat() if isinstance(value, date | time) else _of_bytes(value)


def _of_bytes(value: bytes | bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
