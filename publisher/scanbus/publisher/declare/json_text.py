"""Any value of a program as text: of its parts as JSON, of anything else by its name.

For metadata that have no form of their own in a file. No value is refused: what its
program cannot show, or what holds itself, is named. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date, time
from typing import Any

import numpy as np

__all__ = ["json_text", "key_text", "mapping_of", "text_of", "type_name"]

_MAX_DEPTH = 64
# Python refuses to write very long integers in decimal.
_MAX_DECIMAL_BITS = 10_000
_SCALARS = (bool, int, float, str, bytes, bytearray, date, time)


def type_name(value: object) -> str:
    """Return the name of a value's type, for people."""
    return getattr(type(value), "__name__", "object")


def text_of(value: object) -> str:
    """Return ``str(value)``, or which object it is that cannot be shown."""
    if isinstance(value, int) and value.bit_length() >= _MAX_DECIMAL_BITS:
        return hex(value)
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an object of the program's; metadata never stop
        return "cannot be shown"


def key_text(key: object) -> str:
    """Return a key or a name as text: of a member of a text enumeration its value."""
    return str.__str__(key) if isinstance(key, str) else text_of(key)


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

    Examples
    --------
    >>> json_text([1, None, {"a": (2, b"x")}])
    '[1, null, {"a": [2, "x"]}]'
    """
    plain = _plain(value, ())
    text = json.dumps(plain, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(plain)
    return text


def _plain(value: Any, outer: tuple[int, ...]) -> Any:
    if isinstance(value, np.generic) and value.dtype.kind in "biufcUS":
        value = value.item()
    if value is None or isinstance(value, _SCALARS):
        return _scalar(value)
    if len(outer) > _MAX_DEPTH or id(value) in outer:
        return f"{type_name(value)}, nested too deeply"
    inner = (*outer, id(value))
    parts = mapping_of(value)
    if parts is not None:
        return _object(parts, inner)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), inner)
    if isinstance(value, Sequence | Set) and not isinstance(value, memoryview):
        return [_plain(item, inner) for item in _in_order(value)]
    return text_of(value)


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


def _in_order(value: Sequence[Any] | Set[Any]) -> Iterable[Any]:
    return value if isinstance(value, Sequence) else sorted(value, key=text_of)


def _object(parts: Mapping[Any, Any], inner: tuple[int, ...]) -> Any:
    """Return an object, or pairs if two of the keys have the same text."""
    pairs = [(text_of(key), _plain(value, inner)) for key, value in parts.items()]
    found = dict(pairs)
    return found if len(found) == len(pairs) else [list(pair) for pair in pairs]


def _of_bytes(value: bytes | bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
