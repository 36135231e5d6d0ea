"""Convert a program's arguments into checked documents.

Programs pass numbers, pairs, numpy arrays and dicts. Here they become the documents of
``scanbus.schemas``; an invalid argument becomes an error of one sentence. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from scanbus.bus.codecs import find_codec
from scanbus.publisher.declare.lane_plan import Declared
from scanbus.schemas import (
    ChannelDescription,
    Positioner,
    Role,
    ScanEnded,
    ScanPrepared,
    ScanUpdated,
    Storage,
)
from scanbus.schemas.documents import check_size
from scanbus.schemas.errors import DeclarationError, DocumentError

__all__ = [
    "checked",
    "declare_channel",
    "declare_detector",
    "positioners_of",
    "sendable",
    "tree_of",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Document = TypeVar("_Document", ScanEnded, ScanPrepared, ScanUpdated)
# Below this size, compressing an array costs more than it saves.
_PACKED_FROM_BYTES = 1024


def checked(make: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return ``make(...)``; a validation error of pydantic becomes one sentence.

    Raises
    ------
    DeclarationError
        If an argument is invalid; it names the first one.
    """
    try:
        return make(*args, **kwargs)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        got = f", got {problem['input']!r:.80}" if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch":
            message = "a name has letters, digits, _ and inner dots or hyphens only"
        raise DeclarationError(where, f"{message}{got}") from error


def sendable(
    make: Callable[_P, _Document], /, *args: _P.args, **kwargs: _P.kwargs
) -> _Document:
    """Return the document ``make(...)``, which fits the bounds of a document.

    Checked where the program calls, as the threads that send it cannot refuse it.

    Raises
    ------
    DeclarationError
        If an argument is invalid, or the document too large.
    """
    document = checked(make, *args, **kwargs)
    try:
        check_size(document.to_json(), document.type)
    except DocumentError as error:
        raise DeclarationError(error.kind, error.reason) from error
    except ValueError as error:  # of pydantic's serializer
        reason = f"it holds text that is not Unicode: {error}"
        raise DeclarationError(document.type, reason) from error
    return document


def declare_channel(name: str, **described: Any) -> Declared:
    """Return a channel of small values.

    Raises
    ------
    ValueError
        If the description is inconsistent.
    UnknownCodecError
        If there is no such codec.
    """
    described["group"] = described.get("group") or name
    described["device"] = described.get("device") or name
    channel = checked(ChannelDescription, name=name, **_given(described))
    find_codec(channel.codec)
    return Declared(channel, Storage.VALUES)


def declare_detector(
    name: str, *, points_per_chunk: int | None = None, **described: Any
) -> Declared:
    """Return a detector channel, which has its own lane and data files.

    Raises
    ------
    ValueError
        If the description is inconsistent.
    UnknownCodecError
        If there is no such codec.
    """
    if points_per_chunk is not None and points_per_chunk < 1:
        raise ValueError(f"{name}: points_per_chunk must be positive")
    described["device"] = described.get("device") or name
    channel = checked(
        ChannelDescription,
        name=name,
        group=name,
        role=Role.DETECTOR,
        **_given(described),
    )
    if channel.is_variable:
        raise ValueError(f"{name}: a detector's frames have a fixed shape")
    find_codec(channel.codec)
    return Declared(channel, Storage.FILES, points_per_chunk)


def _given(described: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in described.items() if value is not None}
    if "dtype" in given:
        given["dtype"] = _dtype_name(given["dtype"])
    return given


def _dtype_name(dtype: Any) -> str:
    """Return the name of a dtype given as a name, a numpy type or ``str``."""
    if dtype is str or dtype in ("str", "string"):
        return "string"
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return str(dtype)  # The description rejects it and lists the valid ones.


def positioners_of(given: Mapping[str, Any] | None) -> dict[str, Positioner]:
    """Return the positions of motors as documents.

    Parameters
    ----------
    given : mapping
        By motor a number, a string, a pair of units and value, or a Positioner.

    Raises
    ------
    ValueError
        If a value is none of these.

    Examples
    --------
    >>> positioners_of({"th": ("deg", 1.5)})
    {'th': Positioner(value=1.5, units='deg', dial=None)}
    """
    return {name: _positioner(name, value) for name, value in (given or {}).items()}


def _positioner(name: str, given: Any) -> Positioner:
    if isinstance(given, Positioner):
        return given
    if isinstance(given, tuple | list):
        if len(given) != 2:
            raise ValueError(f"positioner {name!r}: expected (units, value)")
        units, value = given
        if isinstance(value, str) and not isinstance(units, str):
            units, value = value, units
        return checked(Positioner, value=_number_or_text(name, value), units=units)
    return checked(Positioner, value=_number_or_text(name, given))


def _number_or_text(name: str, value: Any) -> float | str:
    if isinstance(value, str):
        return value
    is_moment = isinstance(value, np.datetime64 | np.timedelta64)
    number: float | None = None
    if value is not np.ma.masked and not is_moment:
        with suppress(TypeError, ValueError, OverflowError):
            number = float(value)
    if number is None:
        got = f"{type(value).__name__} {value!r:.40}"
        raise ValueError(f"positioner {name!r}: expected a number or text, got {got}")
    if isinstance(value, int | np.integer) and number != int(value):
        raise ValueError(
            f"positioner {name!r}: {value} loses digits as float64; give it as text"
        )
    return number


def tree_of(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metadata as JSON: numpy arrays encoded in base64, times in ISO 8601.

    Masked numbers become NaN.

    Raises
    ------
    ValueError
        If a value cannot be expressed in JSON.

    Examples
    --------
    >>> tree_of({"sample": {"mass": np.float64(1.5), "tags": ("a", "b")}})
    {'sample': {'mass': 1.5, 'tags': ['a', 'b']}}
    """
    return {str(key): _leaf(str(key), value) for key, value in (metadata or {}).items()}


def _leaf(key: str, value: Any) -> Any:
    plain: Any = value
    match value:
        case np.datetime64():
            plain = str(np.datetime_as_string(value))
        case np.generic() if value.dtype.char in "mgG":  # durations, long doubles
            raise _not_json(key, f"numpy.{value.dtype.name}")
        case np.generic():  # First: some of them are also float or str.
            plain = _leaf(key, value.item())
        case None | bool() | int() | float() | str():
            pass
        case np.ndarray():
            plain = _array(key, value)
        case Mapping():
            plain = tree_of(value)
        case tuple() | list():
            plain = [_leaf(key, item) for item in value]
        case datetime() | date():
            plain = value.isoformat()
        case PurePath():
            plain = str(value)
        case _:
            raise _not_json(key, type(value).__name__)
    return plain


def _not_json(key: str, kind: str) -> ValueError:
    return ValueError(
        f"metadata {key!r}: a {kind} cannot be JSON; give a number, text or array"
    )


def _array(key: str, value: npt.NDArray[Any]) -> Any:
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        if value.dtype.kind != "f":
            raise ValueError(
                f"metadata {key!r}: masked values of {value.dtype}; fill them first "
                "(filled)"
            )
        value = np.ma.filled(value, np.nan)
    if value.dtype.kind == "M":
        return np.datetime_as_string(value).tolist()
    if value.dtype.kind in "US":
        return value.astype(str).tolist()
    if value.dtype.kind not in "biufc":
        raise ValueError(f"metadata {key!r}: arrays of {value.dtype} are not supported")
    array = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    name = "bitshuffle-lz4" if array.nbytes >= _PACKED_FROM_BYTES else "none"
    return {
        "array": {
            "dtype": array.dtype.name,
            "shape": list(value.shape),
            "codec": name,
            "data": base64.b64encode(find_codec(name).encode(array)).decode(),
        }
    }
