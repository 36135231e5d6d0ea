"""What a header says, in NeXus terms, whatever its dialect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from scanbus.schemas.valid_names import MAX_NAME_LENGTH, unique_name

__all__ = [
    "DEFAULT_DETECTOR",
    "FrameValue",
    "HeaderFacts",
    "Quantity",
    "Scalar",
    "ScanAxis",
    "instrument",
    "nexus_name",
    "with_units",
]

Scalar: TypeAlias = float | int | str


class Quantity(NamedTuple):
    """A number with its units."""

    value: float | int
    units: str


DEFAULT_DETECTOR = "detector"
# Long texts are notes, not values of a frame.
_MAX_TEXT = 256


@dataclass(frozen=True)
class ScanAxis:
    """The rotation angle of the scan.

    Attributes
    ----------
    name, units : str
        Name and units of the motor.
    start, increment : float
        Angle at the start of this frame, and rotation during it.
    """

    name: str
    start: float
    increment: float
    units: str = "deg"

    @property
    def end(self) -> float:
        """Angle at the end of this frame.

        Examples
        --------
        >>> ScanAxis("omega", 89.9, 0.1).end
        90.0
        """
        return round(self.start + self.increment, 9)


@dataclass(frozen=True, slots=True)
class FrameValue:
    """One value of a header, and where it stands in NeXus.

    Attributes
    ----------
    name : str
        What to call it.
    value : float, int or str
        The value.
    units : str
        Its units, empty if unknown.
    device, nx_class, field : str
        The group in ``instrument``, its class, and the field in it.
    """

    name: str
    value: Scalar
    units: str
    device: str
    nx_class: str
    field: str


@dataclass(frozen=True)
class HeaderFacts:
    """The values of one header.

    Attributes
    ----------
    detector : str
        Name of the detector's group.
    tree : dict
        NeXus tree of the entry: ``instrument`` with detector, beam, attenuator.
    positioners : dict
        Units and value per motor.
    axis : ScanAxis or None
        The angle of this frame.
    counters : dict
        Values of the counters of this frame.
    date : str
        Time of the frame, in the form of the header.
    starts_after_s : float
        How long after that time the frame began, in seconds: of frames in one file.
    ends_after_s : float
        How long after its begin the frame ended, in seconds; 0 if it is not known.
    end_date : str
        When all frames of its file ended, in the form of the header.
    keywords : mapping
        What no dialect knows: keyword to value.
    text : str
        Text of the header.
    flags_pixels : bool
        Whether negative counts flag bad pixels.
    """

    detector: str = DEFAULT_DETECTOR
    tree: dict[str, Any] = field(default_factory=dict)
    positioners: dict[str, tuple[str, float]] = field(default_factory=dict)
    axis: ScanAxis | None = None
    counters: dict[str, float] = field(default_factory=dict)
    date: str = ""
    starts_after_s: float = 0.0
    ends_after_s: float = 0.0
    end_date: str = ""
    keywords: Mapping[str, Scalar | Quantity] = field(default_factory=dict)
    text: str = ""
    flags_pixels: bool = False

    def values(self) -> dict[tuple[str, ...], FrameValue]:
        """Return every single value by its place, but counters, date and the axis.

        The place of a field is its path in `tree`.

        Examples
        --------
        >>> facts = HeaderFacts(positioners={"th": ("deg", 1.5)}, keywords={"Run": 3})
        >>> [(place, each.value) for place, each in facts.values().items()]
        [(('positioners', 'th'), 1.5), (('keywords', 'Run'), 3)]
        """
        found: dict[tuple[str, ...], FrameValue] = {}
        moving = "" if self.axis is None else self.axis.name
        for name, (units, value) in self.positioners.items():
            if name != moving:
                found["positioners", name] = FrameValue(
                    name, value, units, name, "NXpositioner", "value"
                )
        for place, value, units in _fields_of(self.tree):
            _, device, name = place
            nx_class = str(self.tree["instrument"][device].get("@NX_class", ""))
            found[place] = FrameValue(name, value, units, device, nx_class, name)
        for keyword, name in _names_of(self.keywords).items():
            said = self.keywords[keyword]
            units = said.units if isinstance(said, Quantity) else ""
            found["keywords", keyword] = FrameValue(
                name,
                said.value if isinstance(said, Quantity) else said,
                units,
                self.detector,
                "NXdetector",
                name,
            )
        return found


def _fields_of(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Yield path, value and units of each scalar of the groups in ``instrument``."""
    for device, group in tree.get("instrument", {}).items():
        if not isinstance(group, Mapping):
            continue
        for name, value in group.items():
            is_scalar = isinstance(value, (int, float)) or _is_short(value)
            if is_scalar and "@" not in name:
                units = str(group.get(f"{name}@units", ""))
                yield ("instrument", device, name), value, units


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT


def nexus_name(text: str, default: str = DEFAULT_DETECTOR) -> str:
    """Return `text` as a NeXus name, in lower case.

    Examples
    --------
    >>> nexus_name("PILATUS3 6M"), nexus_name("Eiger2 X 4M (II)"), nexus_name("//")
    ('pilatus3_6m', 'eiger2_x_4m_ii', 'detector')
    """
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")
    return name[:MAX_NAME_LENGTH].strip("_") or default


def instrument(
    detector: str,
    fields: dict[str, Any],
    text: str,
    keywords: Mapping[str, Scalar | Quantity],
    **groups: dict[str, Any],
) -> dict[str, Any]:
    """Return the tree of an instrument; groups without fields are left out.

    Parameters
    ----------
    detector : str
        Name of the detector's group.
    fields : dict
        Its fields.
    text : str
        Text of the header.
    keywords : mapping
        Keywords of it that no dialect knows.
    **groups
        Fields of further groups, by the name of the group, which is that of its class.
    """
    described: dict[str, Any] = {"@NX_class": "NXdetector", **fields}
    if text:
        note: dict[str, Any] = {
            "@NX_class": "NXnote",
            "type": "text/plain",
            "description": "header of the first frame",
            "data": text,
        }
        described["header"] = note
        if keywords:
            note["keywords"] = {"@NX_class": "NXcollection", **_fields(keywords)}
    devices: dict[str, Any] = {detector: described}
    for name, group in groups.items():
        if group:
            devices[name] = {"@NX_class": f"NX{name}", **group}
    return {"instrument": devices}


def _fields(keywords: Mapping[str, Scalar | Quantity]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword, name in _names_of(keywords).items():
        each = keywords[keyword]
        if isinstance(each, Quantity):
            found |= with_units(name, each.value, each.units)
        else:
            found[name] = each
    return found


def _names_of(keywords: Iterable[str]) -> dict[str, str]:
    """Return the name of each keyword's field; no two have the same."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for keyword in keywords:
        name = names[keyword] = unique_name(nexus_name(keyword, "keyword"), taken)
        taken.add(name)
    return names


def with_units(name: str, value: float | None, units: str) -> dict[str, Any]:
    """Return a field with its units; nothing without a value."""
    if value is None:
        return {}
    return {name: value, f"{name}@units": units} if units else {name: value}
