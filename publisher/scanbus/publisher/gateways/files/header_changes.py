"""Find out what changes from header to header of a scan. Pure.

What changes becomes a channel, with a value for each frame; what does not is metadata,
once. Only the first value of each is kept, so any number of headers may come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final, TypeAlias

from scanbus.publisher.gateways.files.dates import start_of
from scanbus.publisher.gateways.files.headers import FrameValue, HeaderFacts, Scalar

__all__ = ["ChangingValue", "HeaderChanges", "Place", "without_places"]

Place: TypeAlias = tuple[str, ...]

# Integers beyond are not exact in float64.
_MAX_EXACT: Final = 2**53
# More channels than that help nobody; the headers of what was published stay.
MAX_CHANGING: Final = 500


@dataclass(slots=True)
class ChangingValue:
    """A value of headers.

    Attributes
    ----------
    first : FrameValue
        The first one.
    n_seen : int
        In how many headers it is.
    changes : bool
        Whether it was another one later.
    is_missing : bool
        Whether it is not in all headers.
    """

    first: FrameValue
    n_seen: int = 0
    changes: bool = False
    is_missing: bool = False
    _kinds: set[type] = field(default_factory=set[type])
    _is_large: bool = False

    def add(self, each: FrameValue) -> None:
        """Take the value of one header."""
        value = each.value
        self.n_seen += 1
        self.changes = self.changes or _differ(value, self.first.value)
        if each.units != self.first.units:  # As text, with the units of each.
            self.changes = True
            self._kinds.add(str)
        self._kinds.add(type(value))
        if isinstance(value, int):
            self._is_large = self._is_large or abs(value) > _MAX_EXACT

    @property
    def dtype(self) -> str:
        """Type that holds all values and all their digits."""
        if str in self._kinds:
            return "string"
        if self._kinds == {int} and not self.is_missing:
            return "int64"
        # float64 has a value for "missing", but not for large integers.
        return "string" if self._is_large else "float64"


class HeaderChanges:
    """The headers of a scan, as far as is known.

    Attributes
    ----------
    first : HeaderFacts or None
        What the first header says.
    n_headers : int
        How many there were.
    axis_moves : bool
        Whether the rotation angle is not the same in all frames.
    axis_turns : bool
        Whether a frame has an angle at its end.
    date_changes : bool
        Whether frames have times of their own.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self.first: HeaderFacts | None = None
        self.n_headers = 0
        self.axis_moves = self.axis_turns = self.date_changes = False
        self.counters: dict[str, None] = {}
        self._values: dict[Place, ChangingValue] = {}

    def add(self, facts: HeaderFacts) -> None:
        """Take the header of one more frame."""
        first = self.first = self.first or facts
        self.n_headers += 1
        self.counters.update(dict.fromkeys(facts.counters))
        if facts.axis is not None:
            turns = facts.axis.increment != 0
            is_other = first.axis is None or first.axis.start != facts.axis.start
            self.axis_turns = self.axis_turns or turns
            self.axis_moves = self.axis_moves or turns or is_other
        begins, began = start_of(facts, self._zone), start_of(first, self._zone)
        is_later = begins is not None and begins != began
        self.date_changes = self.date_changes or is_later
        for place, value in facts.values().items():
            known = self._values.get(place)
            if known is None:
                known = self._values[place] = ChangingValue(value)
            known.add(value)

    def changing(self) -> dict[Place, ChangingValue]:
        """Return the values that are not the same in all headers."""
        found: dict[Place, ChangingValue] = {}
        for place, value in self._values.items():
            value.is_missing = value.n_seen < self.n_headers
            if value.changes or value.is_missing:
                found[place] = value
        return dict([*found.items()][:MAX_CHANGING])

    @property
    def n_left_out(self) -> int:
        """How many changing values are too many."""
        found = sum(
            each.changes or each.n_seen < self.n_headers
            for each in self._values.values()
        )
        return max(0, found - MAX_CHANGING)


def _differ(one: Scalar, other: Scalar) -> bool:
    """Whether two values differ; NaN is like NaN."""
    are_nan = one != one and other != other  # noqa: PLR0124
    return one != other and not are_nan


def without_places(tree: dict[str, Any], places: Iterable[Place]) -> dict[str, Any]:
    """Return a tree without some of its fields and their units; it is not changed.

    Examples
    --------
    >>> without_places({"a": {"b": 1, "b@units": "s", "c": 2}}, [("a", "b")])
    {'a': {'c': 2}}
    """
    found = dict(tree)
    for place in places:
        _remove(found, place)
    return found


def _remove(tree: dict[str, Any], place: Place) -> None:
    name, *rest = place
    if not rest:
        tree.pop(name, None)
        tree.pop(f"{name}@units", None)
    elif isinstance(tree.get(name), dict):
        tree[name] = dict(tree[name])
        _remove(tree[name], tuple(rest))
