"""The keywords of one header: numbers in them, and which of them nobody asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from scanbus.publisher.gateways.files.headers.facts import Quantity, Scalar, with_units

__all__ = ["Keywords", "Rule", "clean_text", "first_number", "numbers_in"]

# Values that mean "unknown".
_NOTHING = ("", "(nil)", "n/a", "not implemented", "unknown", "none")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
# A number alone, or with what may be its units: "0.1000 deg.", "3 counts".
_ONE_NUMBER = re.compile(rf"\(?({_NUMBER.pattern})\)?(?:\s*([a-zA-Z%]+)\.?)?")
# A name of a sample, or a number as a program pads it.
_PADDED = re.compile(r"[-+]?0\d+")
# Beyond, text: HDF5 has integers of 64 bits.
_MAX_INTEGER = 2**63


class Rule(NamedTuple):
    """How a keyword becomes a field.

    Attributes
    ----------
    keywords : tuple of str
        The keyword, in lower case; the first of several that has a number.
    field, units : str
        The field, and its units.
    scale : float
        What the number is multiplied with.
    """

    keywords: tuple[str, ...]
    field: str
    units: str
    scale: float = 1.0


class Keywords:
    """The keywords of one header; upper and lower case do not matter.

    Parameters
    ----------
    header : mapping
        Keyword to value; of keywords that differ in case only, the first one.
    unused : collection of str
        Keywords that say how the file is written, in lower case.
    """

    def __init__(self, header: Mapping[Any, Any], unused: Collection[str] = ()) -> None:
        self._values: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for name, value in header.items():
            key = _text(name)
            self._names.setdefault(key.lower(), key)
            self._values.setdefault(key.lower(), _text(value))
        self._used = {*unused}

    def has(self, name: str) -> bool:
        """Whether a keyword is there, whatever its value."""
        return name in self._values

    def ignore(self, names: Collection[str]) -> None:
        """Leave keywords out of `rest`."""
        self._used.update(names)

    def text(self, *names: str) -> str:
        """Return the first value of these keywords that says something, else ""."""
        self._used.update(names)
        for name in names:
            value = self._values.get(name, "")
            if value.lower() not in _NOTHING:
                return value
        return ""

    def number(self, *names: str) -> float | None:
        """Return the number of the first of these keywords that has one."""
        found = (first_number(self.text(name)) for name in names)
        return next((each for each in [*found] if each is not None), None)

    def numbers(self, name: str, count: int) -> list[float]:
        """Return the first numbers of a value; none at all if there are fewer."""
        return numbers_in(self.text(name), count)

    def number_at(self, name: str, place: int) -> float | None:
        """Return the number at a place in a value, from 0."""
        return next(iter(self.numbers(name, place + 1)[place:]), None)

    def fields(
        self, rules: Iterable[Rule], *, positive: bool = False
    ) -> dict[str, Any]:
        """Return fields with their units, by rules.

        Parameters
        ----------
        rules : iterable of Rule
            The rules.
        positive : bool
            Whether numbers that are not positive mean that nothing is known.
        """
        found: dict[str, Any] = {}
        for rule in rules:
            number = self.number(*rule.keywords)
            if number is None or (positive and number <= 0):
                continue
            scaled = (
                number if rule.scale == 1.0 else float(f"{number * rule.scale:.9g}")
            )
            found |= with_units(rule.field, scaled, rule.units)
        return found

    def rest(self) -> dict[str, Scalar | Quantity]:
        """Return the values of keywords that nobody asked for, with their units.

        Examples
        --------
        >>> keywords = Keywords({"A": "1", "Id": "0012", "N": "3", "W": "2.5 deg."})
        >>> keywords.number("a"), keywords.rest()
        (1.0, {'Id': '0012', 'N': 3, 'W': Quantity(value=2.5, units='deg')})
        """
        return {
            self._names[key]: _scalar(value)
            for key, value in self._values.items()
            if key not in self._used and value.lower() not in _NOTHING
        }


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return clean_text(str(value))


def clean_text(text: str) -> str:
    """Return text without characters that metadata may not contain."""
    return text.replace("\0", "").replace("\r\n", "\n").strip()


def _scalar(text: str) -> Scalar | Quantity:
    found = _ONE_NUMBER.fullmatch(text)
    if not found or _PADDED.fullmatch(found[1]):
        return text
    digits, units = found.groups()
    number: float | int = float(digits)
    if re.fullmatch(r"[-+]?\d+", digits):
        number = int(digits)
    if abs(number) >= _MAX_INTEGER and isinstance(number, int):
        return text
    if not math.isfinite(number):
        return text
    return Quantity(number, units) if units else number


def first_number(text: str) -> float | None:
    """Return the first finite number in a text.

    Examples
    --------
    >>> first_number("= 1697.2e-09 s"), first_number("(nil)"), first_number("nan")
    (1.6972e-06, None, None)
    """
    found = _NUMBER.search(text)
    value = float(found[0]) if found else math.nan
    return value if math.isfinite(value) else None


def numbers_in(text: str, count: int) -> list[float]:
    """Return the first `count` numbers of a text; none at all if there are fewer."""
    found = [float(number) for number in _NUMBER.findall(text)]
    return found[:count] if len(found) >= count else []
