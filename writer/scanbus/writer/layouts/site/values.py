"""Values of templates as those of HDF5."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from scanbus.writer.model.nexus_tree import Value

__all__ = ["as_value", "cast"]

_ONE_TYPE: Final = "a list has numbers, booleans or texts, of one type"
_MAX_NDIM: Final = 8


def as_value(given: Any, dtype: str | None = None) -> Value:
    """Return a value with the type that it has in the file.

    Parameters
    ----------
    dtype : str or None
        Type that is wanted; by default ``int64`` and ``float64`` for numbers.

    Raises
    ------
    ValueError
        If the value has no such type.

    Examples
    --------
    >>> as_value(["a", "b"]), as_value(7, "float32"), as_value(True)
    (('a', 'b'), np.float32(7.0), np.True_)
    """
    return cast(_plain(given), dtype)


def cast(value: Value, dtype: str | None) -> Value:
    """Return a value in another type, if it has the same value there.

    Raises
    ------
    ValueError
        If it has not.
    """
    if dtype is None:
        return value
    if isinstance(value, str | tuple):
        if dtype != "string":
            raise ValueError(f"a text is no {dtype}")
        return value
    array = np.asarray(value)
    if dtype == "string":
        if array.ndim:
            raise ValueError("a list of numbers is no text")
        return str(array.item())
    wanted = np.dtype(dtype)
    if wanted.kind == "f":
        with np.errstate(all="ignore"):
            found: Any = array.astype(wanted)
        if np.isinf(found).any() and not np.isinf(array.astype(float)).any():
            raise ValueError(f"a value is beyond the range of {dtype}")
    else:
        with np.errstate(all="ignore"):
            found = array.astype(wanted)
        if not np.array_equal(found, array):
            raise ValueError(f"a value is no {dtype}")
    made: Value = found if found.ndim else found[()]
    return made


def _plain(given: Any) -> Value:
    if isinstance(given, str):
        return _text(given)
    if isinstance(given, bool):
        return np.bool_(given)
    if isinstance(given, int | float):
        return _number(given)
    if isinstance(given, list):
        return _list(given)
    raise ValueError("a value is a text, a number, true, false, or a list of these")


def _number(given: float) -> Value:
    if isinstance(given, int):
        if not -(2**63) <= given < 2**64:
            raise ValueError("a whole number has at most 64 bits")
        return np.int64(given) if given < 2**63 else np.uint64(given)
    return np.float64(given)


def _text(given: str) -> str:
    if "\0" in given:
        raise ValueError("a text has no NUL")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise ValueError("a text has no half of a surrogate pair") from None
    return given


def _list(given: list[Any]) -> Value:
    if given and all(isinstance(each, str) for each in given):
        return tuple(_text(each) for each in given)
    shape, flat = _flat(given, 0)
    kinds = {type(each) for each in flat}
    if not flat or not (kinds <= {int, float} or kinds == {bool}):
        raise ValueError(_ONE_TYPE if flat else "a list has at least one value")
    for each in flat:
        if not isinstance(each, bool):
            _number(each)
    if kinds == {int}:
        dtype = np.int64 if max(flat) < 2**63 else np.uint64
        if dtype is np.uint64 and min(flat) < 0:
            raise ValueError("a whole number has at most 64 bits")
    else:
        dtype = np.bool_ if kinds == {bool} else np.float64  # type: ignore[assignment]
    return np.array(flat, dtype=dtype).reshape(shape)


def _flat(given: list[Any], depth: int) -> tuple[tuple[int, ...], list[Any]]:
    if depth == _MAX_NDIM:
        raise ValueError(f"lists are nested deeper than {_MAX_NDIM}")
    if not any(isinstance(each, list) for each in given):
        return (len(given),), given
    if not all(isinstance(each, list) for each in given):
        raise ValueError(_ONE_TYPE)
    parts = [_flat(each, depth + 1) for each in given]
    if len({shape for shape, _ in parts}) != 1:
        raise ValueError("the rows of a list have different lengths")
    return (len(given), *parts[0][0]), [each for _, flat in parts for each in flat]
