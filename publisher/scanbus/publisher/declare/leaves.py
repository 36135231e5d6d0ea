"""Convert one value of a program's metadata into one that a document can hold.

Numbers, booleans, text, lists of one kind of them, and numerical arrays are stored as
themselves, moments and paths as text. Everything else becomes text, or JSON if it has
parts, and a sentence says what it was. Only a value beyond the bounds of a document or
an entry is refused, and is not read further than that. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import date, time
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec
from scanbus.publisher.declare.json_text import (
    is_listed,
    json_text,
    mapping_of,
    text_of,
    type_name,
)
from scanbus.publisher.declare.static_arrays import STATIC_FROM_BYTES
from scanbus.schemas import MAX_ENTRY_BYTES
from scanbus.schemas.documents import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_VALUES
from scanbus.schemas.errors import DeclarationError
from scanbus.schemas.metadata import MAX_ARRAY_DIMENSIONS

__all__ = ["Leaf", "encoded", "leaf_of", "number_array"]

# Below this size, compressing an array costs more than it saves.
_PACKED_FROM_BYTES = 1024
# Longer lists of numbers are sent as arrays: a document has few values.
_LONG_LIST = 1000
# Of all lists in a list together; Python takes about a second to read so many.
_MAX_LISTED = 2**24
_EXACT_FLOATS = 2**53
# float64 holds all their values.
_NARROW_KINDS = "biu"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value of a document.

    Attributes
    ----------
    value : JSON or numpy.ndarray
        As :mod:`scanbus.schemas.metadata` has it; a large array as it is.
    was : str
        What it is made of, if it is not stored as itself; else empty.
    """

    value: Any
    was: str = ""


def leaf_of(value: Any) -> Leaf:
    """Return a value as a document can hold it.

    Raises
    ------
    DeclarationError
        If it exceeds what a document, or an array an entry, can hold.

    Examples
    --------
    >>> leaf_of([1, "a", None])
    Leaf(value='[1, "a", null]', was='JSON of list')
    >>> leaf_of(b"LaB6")
    Leaf(value='LaB6', was='text of bytes')
    """
    for kind, convert in _CONVERTERS:
        if isinstance(value, kind):
            return convert(value)
    if is_listed(value):
        return _of_list(value)
    if callable(getattr(type(value), "__array__", None)):
        # It may be on a disk, and be read now.
        _check(getattr(value, "nbytes", 0), MAX_ENTRY_BYTES, "bytes in an array")
        return Leaf(_of_array(np.asarray(value)).value, f"array of {type_name(value)}")
    return _of_other(value)


def number_array(value: object) -> npt.NDArray[Any] | None:
    """Return a numpy array of numbers without masked ones; None for anything else."""
    if not isinstance(value, np.ndarray) or np.ma.isMaskedArray(value):
        return None
    if value.dtype.kind not in "biufc":
        return None
    return _of_known_width(np.asarray(value))


def _check(count: object, most: int, what: str) -> None:
    """Raise before so much is read or made."""
    if isinstance(count, int) and count > most:
        reason = f"more than {most} {what}; send arrays, or less"
        raise DeclarationError("metadata", reason)


def _of_enum(value: Enum) -> Leaf:
    was = f"value of {type_name(value)}.{value.name}"
    return Leaf(leaf_of(value.value).value, was)


def _of_other(value: Any) -> Leaf:
    if mapping_of(value) is not None:
        return Leaf(json_text(value), f"JSON of {type_name(value)}")
    text = _of_text(text_of(value)).value
    return Leaf(text, f"text of {type_name(value)}")


def _of_text(text: str) -> Leaf:
    """Return text; HDF5 stores neither NUL nor half of a surrogate pair."""
    _check(len(text), MAX_DOCUMENT_BYTES, "characters in a text")
    stripped = text.rstrip("\0")
    if "\0" in stripped or not _is_unicode(stripped):
        return Leaf(json_text(text), "JSON of str")
    return Leaf(stripped, "" if stripped == text else "text padded with NUL")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_bytes(given: bytes | bytearray | memoryview) -> Leaf:
    _check(memoryview(given).nbytes, MAX_ENTRY_BYTES, "bytes")
    value, name = bytes(given), type_name(given)
    try:
        text = value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or (value and not text):
        return Leaf(_array_value(np.frombuffer(value, np.uint8)), name)
    return Leaf(text, f"text of {name}")


def _of_integer(value: int) -> Leaf:
    if -(2**63) <= value < 2**64:
        return Leaf(value)
    return Leaf(text_of(value), "text of int")


def _of_numpy(value: np.generic) -> Leaf:
    if isinstance(value, np.datetime64):
        return Leaf(str(np.datetime_as_string(value)))
    if isinstance(value, np.timedelta64):
        return _of_other(value)
    if value.dtype.char in "gG":
        narrow = _narrowed(np.asarray(value))
        return _of_other(value) if narrow is None else leaf_of(narrow.item())
    return leaf_of(value.item())


# ------------------------------------------------------------------------------ lists


def _of_list(value: Sequence[Any] | Set[Any]) -> Leaf:
    if isinstance(value, range) and len(value) > _LONG_LIST:
        return _of_other(value)
    name = type_name(value)
    items = list(islice(value, _MAX_LISTED + 1))
    _check(len(items), _MAX_LISTED, "items in a list")
    if isinstance(value, Set):
        items = _sorted(items)
    was = "" if isinstance(value, list | tuple | range) else f"list of {name}"
    one_kind = _of_one_kind(items)
    if one_kind is not None:
        return Leaf(one_kind.value, one_kind.was or was)
    rows = _rows(items)
    if rows is not None:
        return Leaf(_array_value(rows), was)
    return Leaf(json_text(items), f"JSON of {name}")


def _sorted(value: list[Any]) -> list[Any]:
    """Return the members of a set, in the same order in every run."""
    try:
        return sorted(value)
    except Exception:  # noqa: BLE001 - members that cannot be compared, of any program
        return sorted(value, key=text_of)


def _of_one_kind(items: list[Any]) -> Leaf | None:
    """Return a flat list of text, of booleans or of numbers; None if it is none."""
    if not items:
        return Leaf([])
    if {type(item) for item in items} <= {int, float}:
        return _of_numbers(items)
    _check(len(items), MAX_DOCUMENT_VALUES, "items that are not all numbers in a list")
    if any(item is None or is_listed(item) or _has_parts(item) for item in items):
        return None
    lengths = (len(item) for item in items if isinstance(item, str | bytes | bytearray))
    _check(sum(lengths), MAX_DOCUMENT_BYTES, "bytes of text in a list")
    leaves = [leaf_of(item) for item in items]
    types = {type(leaf.value) for leaf in leaves}
    if types <= {int, float}:
        return _of_numbers([leaf.value for leaf in leaves])
    # Text that stands for other things must not be taken for text.
    kinds = {_kind(item) for item in items}
    if len(types) == len(kinds) == 1 and types <= {str, bool}:
        return _of_texts(leaves)
    return None


def _has_parts(item: object) -> bool:
    return isinstance(item, np.ndarray) or mapping_of(item) is not None


def _kind(item: object) -> str:
    return "str" if isinstance(item, str) else type_name(item)


def _of_texts(leaves: list[Leaf]) -> Leaf | None:
    was = {leaf.was for leaf in leaves if leaf.was}
    if "JSON of str" in was or len(was) > 1:
        return None
    return Leaf([leaf.value for leaf in leaves], next(iter(was), ""))


def _of_numbers(items: list[Any]) -> Leaf | None:
    """Return numbers that one type of HDF5 holds, None if there is none."""
    integers = [item for item in items if type(item) is int]
    if integers:
        low, high = min(integers), max(integers)
        is_mixed = len(integers) < len(items)
        if is_mixed and max(-low, high) > _EXACT_FLOATS:
            return None
        if low < -(2**63) or high >= (2**63 if low < 0 else 2**64):
            return None
    if len(items) <= _LONG_LIST:
        return Leaf(items)
    return Leaf(_array_value(np.asarray(items)))


def _rows(items: list[Any]) -> npt.NDArray[Any] | None:
    """Return nested lists of numbers as an array; None if they are anything else."""
    arrays = [found for item in items if (found := number_array(item)) is not None]
    if len(arrays) == len(items):
        return _stacked(arrays)
    nested = _Nested()
    nested.add(items, MAX_ARRAY_DIMENSIONS)
    kinds, largest = nested.kinds, nested.largest
    if not kinds or not (kinds == {bool} or kinds <= {int, float, complex}):
        return None
    if len(kinds) > 1 and largest > _EXACT_FLOATS:
        return None
    try:
        array = np.asarray(items)
    except ValueError:  # rows of unequal length
        return None
    is_kept = kinds != {int} or array.dtype.kind in "iu"
    return array if is_kept and array.dtype.kind in "biufc" else None


def _stacked(items: list[npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    first = items[0]
    is_regular = all((a.shape, a.dtype) == (first.shape, first.dtype) for a in items)
    _check(first.nbytes * len(items), MAX_ENTRY_BYTES, "bytes in a list of arrays")
    return np.stack(items) if is_regular else None


class _Nested:
    """What nested lists hold: the types, and the largest integer without its sign."""

    def __init__(self) -> None:
        self.kinds: set[type] = set()
        self.largest = 0
        self._n_items = 0

    def add(self, items: Sequence[Any], levels: int) -> None:
        """Add the items of a list, and of the lists in it."""
        self._n_items += len(items)
        # A list may stand in others many times.
        _check(self._n_items, _MAX_LISTED, "items in lists")
        for item in items:
            if type(item) in {list, tuple} and levels:
                self.add(item, levels - 1)
                continue
            plain = item.item() if isinstance(item, np.number | np.bool_) else item
            self.kinds.add(type(plain))
            if type(plain) is int:
                is_long = plain.bit_length() > 64
                self.largest = max(self.largest, 2**64 if is_long else abs(plain))


# ----------------------------------------------------------------------------- arrays


def _of_array(value: npt.NDArray[Any]) -> Leaf:
    _check(value.nbytes, MAX_ENTRY_BYTES, "bytes in an array")
    if value.dtype.kind not in "biufc":
        _check(value.size, MAX_DOCUMENT_VALUES, "items that are no numbers in an array")
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        return _of_masked(value)
    plain = np.asarray(value)
    was = _subclass(value)
    if plain.dtype.kind in "biufc":
        return _of_number_array(plain, was)
    if not plain.ndim and plain.dtype.kind != "V":
        return leaf_of(plain[()])
    if plain.dtype.kind == "M":
        listed = np.datetime_as_string(plain).tolist()
    elif plain.dtype.kind == "m":
        return Leaf(json_text(plain.astype(str).tolist()), f"text of {plain.dtype}")
    else:
        listed = plain.tolist()
    if not isinstance(listed, list):
        return leaf_of(listed)
    leaf = _of_list(listed)
    return Leaf(leaf.value, leaf.was.replace("JSON of list", "JSON of ndarray"))


def _subclass(value: npt.NDArray[Any]) -> str:
    """Return what an array was whose class may say more than its numbers."""
    is_known = type(value).__module__.split(".")[0] == "numpy"
    return "" if is_known else f"array of {type_name(value)}"


def _of_number_array(plain: npt.NDArray[Any], was: str) -> Leaf:
    known = _of_known_width(plain)
    if known is None:
        _check(plain.size, MAX_DOCUMENT_VALUES, f"numbers of {plain.dtype}")
        texts = [str(number) for number in plain.flat]
        return Leaf(texts, f"text of {plain.dtype}, shape {plain.shape}")
    if known.ndim > MAX_ARRAY_DIMENSIONS:
        known, was = known.reshape(-1), f"array of shape {plain.shape}"
    return Leaf(_array_value(known), was)


def _of_known_width(plain: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return numbers in a type of the protocol; None if that would change them."""
    if plain.dtype.char == "e":
        return plain.astype(np.float32)
    return _narrowed(plain) if plain.dtype.char in "gG" else plain


def _narrowed(wide: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    with np.errstate(over="ignore"):
        narrow = wide.astype("c16" if wide.dtype.char == "G" else "f8")
    return narrow if np.array_equal(narrow, wide, equal_nan=True) else None


def _of_masked(value: np.ma.MaskedArray[Any, Any]) -> Leaf:
    """Return masked numbers as NaN, or all as JSON with null for them."""
    mask, data = np.ma.getmaskarray(value), np.asarray(value.data)
    was = f"masked array of {data.dtype}"
    if data.dtype.kind in _NARROW_KINDS:
        floats = data.astype(np.float64)
        # Compared in their own type, as numpy would compare them as floats.
        is_kept = floats[~mask].astype(data.dtype) == data[~mask]
        is_large = np.abs(floats[~mask]) > _EXACT_FLOATS
        data = floats if is_kept.all() and not is_large.any() else data
    if data.dtype.kind in "fc":
        filled = np.where(mask, data.dtype.type(np.nan), data)
        return Leaf(_of_number_array(filled, "").value, f"{was}, NaN where masked")
    return Leaf(json_text(value.tolist()), f"JSON of {was}, null where masked")


def _array_value(value: npt.NDArray[Any]) -> dict[str, Any] | npt.NDArray[Any]:
    return value if value.nbytes > STATIC_FROM_BYTES else encoded(value)


def encoded(value: npt.NDArray[Any]) -> dict[str, Any]:
    """Return an array of a type of the protocol as it stands in a document."""
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


# The first that fits: numpy has scalars that are also float or str, and an
# enumeration's members may be numbers.
_CONVERTERS: Final[tuple[tuple[Any, Callable[[Any], Leaf]], ...]] = (
    (Enum, _of_enum),
    (np.generic, _of_numpy),
    (np.ndarray, _of_array),
    (bool, Leaf),
    (int, lambda value: _of_integer(int(value))),
    (float, lambda value: Leaf(float(value))),
    (complex, lambda value: Leaf(_array_value(np.asarray(complex(value))))),
    (str, lambda value: _of_text(str.__str__(value))),
    (bytes | bytearray | memoryview, _of_bytes),
    (date | time, lambda value: Leaf(value.isoformat())),
    (PurePath, lambda value: _of_text(str(value))),
)
