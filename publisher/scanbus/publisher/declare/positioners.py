"""Convert the positions of motors, as control systems give them, into documents.

A motor that answers something else than a number does not stop a scan: its answer is
stored as text, with a note of what it was. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from scanbus.publisher.declare.json_text import (
    first_items,
    key_text,
    text_of,
    type_name,
)
from scanbus.schemas import MAX_METADATA_KEYS, Positioner
from scanbus.schemas.errors import DeclarationError
from scanbus.schemas.valid_names import (
    MAX_GIVEN_NAME_LENGTH,
    nexus_names,
    plain_text,
)

__all__ = ["axes_metadata", "motors_of", "positioners_of"]

_MAX_UNITS = 63
_MAX_VALUE = 2**16


def positioners_of(given: Mapping[str, Any] | None) -> dict[str, Positioner]:
    """Return the positions of motors as documents, by their names in files.

    Those of several axes are not among them; see `axes_metadata`.

    Parameters
    ----------
    given : mapping
        By motor a number, a string, a pair of units and value, or a Positioner;
        anything else becomes text.

    Raises
    ------
    DeclarationError
        If they are more than a scan may have.

    Examples
    --------
    >>> positioners_of({"th": ("deg", 1.5)})["th"].value
    1.5
    >>> positioners_of({"id00:th": None})["id00_th"].stored_as
    'text of NoneType'
    """
    every = {key_text(name): value for name, value in motors_of(given)}
    by_text = {name: value for name, value in every.items() if not _has_axes(value)}
    names = nexus_names(by_text)
    return {
        names[motor]: _named(_positioner(value), motor, names[motor])
        for motor, value in by_text.items()
    }


def axes_metadata(
    given: Mapping[str, Any] | None, groups: Sequence[str]
) -> dict[str, Any]:
    """Return metadata with the positions of devices that answer with several numbers.

    Parameters
    ----------
    groups : sequence of str
        The groups of positions in the file.

    Examples
    --------
    >>> axes_metadata({"hexapod": ("mm", [0.5, 2.0])}, ["positioners_end"])
    {'instrument': {'positioners_end': {'hexapod': [0.5, 2.0], 'hexapod@units': 'mm'}}}
    >>> axes_metadata({"th": 1.5}, ["positioners_end"])
    {}
    """
    found: dict[str, Any] = {}
    for name, value in motors_of(given):
        if _has_axes(value):
            units, positions = _pair(value)
            found[key_text(name)] = positions
            if units:
                found[f"{key_text(name)}@units"] = units
    return {"instrument": dict.fromkeys(groups, found)} if found else {}


def motors_of(given: Mapping[str, Any] | None) -> list[tuple[Any, Any]]:
    """Return positions of motors as given.

    Raises
    ------
    DeclarationError
        If they are more than a scan may have.
    """
    found = first_items(given or {}, MAX_METADATA_KEYS)
    if len(found) > MAX_METADATA_KEYS:
        raise DeclarationError("positioners", f"more than {MAX_METADATA_KEYS} values")
    return found


def _has_axes(given: Any) -> bool:
    _, value = _pair(given)
    if isinstance(value, list | tuple):
        return bool(value) and all(_number(item) is not None for item in value)
    return isinstance(value, np.ndarray) and value.ndim > 0


def _named(position: Positioner, motor: str, name: str) -> Positioner:
    if name == motor:
        return position
    shown = plain_text(motor, MAX_GIVEN_NAME_LENGTH)
    return position.model_copy(update={"original_name": shown})


def _positioner(given: Any) -> Positioner:
    if isinstance(given, Positioner):
        return given
    units, value = _pair(given)
    number = _number(value)
    if number is not None:
        return Positioner(value=number, units=units)
    text = value if isinstance(value, str) else text_of(value)
    kept = plain_text(text, _MAX_VALUE)
    was = "" if kept == value else f"text of {type_name(value)}"
    return Positioner(value=kept, units=units, stored_as=was)


def _pair(given: Any) -> tuple[str, Any]:
    """Return units and value of a pair in either order; no units for anything else."""
    if isinstance(given, tuple | list) and len(given) == 2:
        for units, value in (given, given[::-1]):
            if isinstance(units, str):
                return plain_text(units, _MAX_UNITS), value
            if units is None:
                return "", value
    return "", given


def _number(value: Any) -> float | None:
    """Return a number as float64 if that keeps all its digits."""
    if isinstance(value, str | bytes | np.datetime64 | np.timedelta64):
        return None
    number: float | None = None
    if value is not None and value is not np.ma.masked:
        with suppress(Exception):  # An object of the program's, with its own float().
            number = float(value)
    if isinstance(value, int | np.integer) and number is not None:
        return number if int(number) == int(value) else None
    return number
