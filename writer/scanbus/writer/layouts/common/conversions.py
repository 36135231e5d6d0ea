"""Say what stands in a file otherwise than it was given, and units nobody knows.

Publishers give what HDF5 cannot hold as text, and clean names; attributes of each node
say so. Here are the sentences about it for ``scanbus/remarks``. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from scanbus.schemas.valid_names import nexus_name
from scanbus.writer.model.nexus_tree import (
    ExternalLink,
    Group,
    HardLink,
    Node,
    SoftLink,
    Value,
)

__all__ = [
    "conversions",
    "converted",
    "is_computable_unit",
    "is_known_unit",
    "unknown_units",
]

_MOST: Final = 100
# So many units pint is asked for: it takes half a millisecond for each.
_MOST_ASKED: Final = 1000
# Others than these say the same again.
_SAME_AGAIN: Final = frozenset(
    {"positioners", "positioners_dial_start", "positioners_dial_end"}
)
# What a program's value became if HDF5 has no type for it.
_AS_TEXT: Final = ("text of ", "JSON of ")
# For these pint, which takes a second to start, is not asked.
_COMMON: Final = (
    " 1 % A Hz J K MHz MeV N Pa T V W angstrom bar cm count counts counts/s deg degC "
    "eV g h kHz kPa kV keV kg m mA mV mW mbar mg min mm mrad ms nA nm ns ohm pA "
    "percent pixel pixels rad s uA uV um urad us 1/angstrom 1/m 1/nm 1/s "
)
# Units that pint may compute: it would also compute 9**9**9, for ever.
_COMPUTABLE: Final = re.compile(r"[A-Za-z0-9_.%*/^() +\-]{1,63}\Z", re.ASCII)
_POWER: Final = re.compile(r"(\^|\*\*)\s*")
_SMALL_POWER: Final = re.compile(r"[-+]?([0-9]{1,2})(?![0-9.eE_]|\s*(\^|\*\*))")
# Of all powers multiplied, since they may be nested: ((9**99)**99)**99.
_LARGEST_POWER: Final = 1000


def conversions(entry: Group) -> tuple[str, ...]:
    """Return a sentence for each value and name that is not as it was given."""
    return _limited(list(_below(entry, "")), "more values and names were converted")


def unknown_units(entry: Group) -> tuple[str, ...]:
    """Return a sentence for each unit that pint does not know, with one place of it.

    NeXus takes units of UDUNITS; readers parse them with pint. They are written as
    they are: no other ones would be right.
    """
    places: dict[str, str] = {}
    for path, units in _units_below(entry, ""):
        places.setdefault(units, path)
    asked = [
        (units, path)
        for units, path in places.items()
        if units and f" {units} " not in _COMMON
    ]
    said = [
        f"{path}: units {units!r} are written as they are; pint, with which readers "
        "parse units, does not know them"
        for units, path in asked[:_MOST_ASKED]
        if not is_known_unit(units)
    ]
    n_more = len(asked) - _MOST_ASKED
    more = (f"{n_more} more units were not looked at",) if n_more > 0 else ()
    return (*_limited(said, "more units are unknown"), *more)


def _limited(said: list[str], more: str) -> tuple[str, ...]:
    rest = [f"{len(said) - _MOST} {more}"] if len(said) > _MOST else []
    return (*said[:_MOST], *rest)


def _below(group: Group, where: str) -> Iterator[str]:
    for name, node in group.children.items():
        if name in _SAME_AGAIN:
            continue
        path, attributes = f"{where}/{name}", _attributes(node)
        stored_as = attributes.get("stored_as")
        if isinstance(stored_as, str) and stored_as.startswith(_AS_TEXT):
            yield f"{path}: stored as {stored_as}, for which HDF5 has no type"
        given = attributes.get("original_name")
        # A channel has that of the channel, in the group of its device.
        if isinstance(given, str) and "target" not in attributes:
            wanted = nexus_name(given)
            if wanted != name != given:
                yield f"{path}: this is {given!r}, as {wanted} is another one"
        if isinstance(node, Group):
            yield from _below(node, path)


def _units_below(group: Group, where: str) -> Iterator[tuple[str, str]]:
    for name, node in group.children.items():
        units = _attributes(node).get("units")
        if isinstance(units, str):
            yield f"{where}/{name}", units.strip()
        if isinstance(node, Group):
            yield from _units_below(node, f"{where}/{name}")


def _attributes(node: Node) -> Mapping[str, Value]:
    if isinstance(node, SoftLink | HardLink | ExternalLink):
        return {}
    return node.attributes


def is_known_unit(units: str) -> bool:
    """Return whether pint parses them; without pint, that they may be known."""
    if not is_computable_unit(units):
        return False
    registry = _registry()
    if registry is None:
        return True
    try:
        registry.parse_units(units)
    except Exception:  # noqa: BLE001 - pint fails with errors of any kind
        return False
    return True


def converted(value: float, units: str, wanted: str) -> float | None:
    """Return a number in other units.

    Returns
    -------
    float or None
        None if pint cannot convert it, or it is not finite. A number without units is
        taken as one in the wanted ones.

    Examples
    --------
    >>> converted(250.0, "mm", "m"), converted(1.0, "s", "m"), converted(2.0, "", "m")
    (0.25, None, 2.0)
    """
    registry = _registry()
    if units and units != wanted:
        if registry is None or not is_computable_unit(units):
            return None
        try:
            value = float(registry.Quantity(value, units).to(wanted).magnitude)
        except Exception:  # noqa: BLE001 - pint fails with errors of any kind
            return None
    return value if math.isfinite(value) else None


def is_computable_unit(units: str) -> bool:
    """Return whether pint can compute them at once."""
    if not _COMPUTABLE.match(units):
        return False
    largest = 1
    for sign in _POWER.finditer(units):
        power = _SMALL_POWER.match(units, sign.end())
        if power is None:
            return False
        largest *= max(1, int(power[1]))
    return largest <= _LARGEST_POWER


@cache
def _registry() -> Any:
    """Return pint's units; None without pint. It is slow to load, and rarely needed."""
    try:
        import pint  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return pint.UnitRegistry()
