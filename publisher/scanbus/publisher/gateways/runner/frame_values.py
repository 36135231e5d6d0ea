"""Values of each frame, such as times and ids: what their channels take of them.

The first frame says which there are, and of what type. A later one that is of another
type, absent or too large costs itself alone: it is a hole in its channel. An absent one
among float64 is NaN instead: senders leave out what they could not compute, and their
scan is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scanbus.publisher.gateways.runner.messages import FrameArrived
from scanbus.publisher.gateways.runner.short_text import MAX_TEXT_BYTES, short_text
from scanbus.publisher.gateways.runner.stamps import stamp_of
from scanbus.publisher.scan import Scan
from scanbus.schemas.errors import DeclarationError

__all__ = ["FrameValues", "Kept", "kept_value", "kind_of"]

Kept = float | int | str
_INT64 = range(-(2**63), 2**63)
# Beyond, float64 has no longer each whole number.
_WHOLE = range(-(2**53), 2**53 + 1)
# Names that a sender makes up for each frame must not fill the memory.
_MAX_NAMES, _OTHERS = 100, "other names"
_DTYPES: Mapping[type, str] = {int: "int64", float: "float64", str: "string"}
_NAMES: Mapping[type, str] = {int: "a whole number", float: "a number", str: "a text"}


def kind_of(value: object) -> type | None:
    """Return the type of the channel that a value can have; None if it can have none.

    Examples
    --------
    >>> [kind_of(value) for value in (True, 1.5, "a", 2**63, [1], None)]
    [<class 'int'>, <class 'float'>, <class 'str'>, None, None, None]
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, int):
        return int if int(value) in _INT64 else None
    return next((kind for kind in (float, str) if isinstance(value, kind)), None)


def kept_value(value: object, kind: type) -> Kept | None:
    """Return a value as a channel takes it; None if that would change it.

    Parameters
    ----------
    kind : type
        Of the channel: int, float or str. The first letters of a text are kept.

    Examples
    --------
    >>> kept_value(2.0, int), kept_value(True, int), kept_value(3, float)
    (2, 1, 3.0)
    >>> [kept_value(*each) for each in ((0.5, int), ("1", int), (2**63, int))]
    [None, None, None]
    >>> [kept_value(*each) for each in ((1, str), (None, str), (2**53 + 1, float))]
    [None, None, None]
    """
    value = value.item() if isinstance(value, np.generic) else value
    if kind is str:
        return short_text(value) if isinstance(value, str) else None
    if isinstance(value, float):
        if kind is float:
            return float(value)
        return int(value) if value.is_integer() and int(value) in _INT64 else None
    if not isinstance(value, int):
        return None
    if kind is float:
        return float(value) if int(value) in _WHOLE else None
    return int(value) if int(value) in _INT64 else None


@dataclass(slots=True)
class FrameValues:
    """The values of the frames of one series.

    Attributes
    ----------
    note : callable
        Called with a sentence at the first value of each channel that is left out.
    kinds : dict
        Name to the type of its channel.
    left_out : dict
        Name to the number of values that were left out.
    """

    note: Callable[[str], None]
    kinds: dict[str, type] = field(default_factory=dict[str, type])
    left_out: dict[str, int] = field(default_factory=dict[str, int])

    def declare(
        self,
        scan: Scan,
        frame: FrameArrived,
        channel_of: Callable[[str], str],
        device: str,
    ) -> None:
        """Declare a channel for each value of the first frame that can have one.

        Parameters
        ----------
        channel_of : callable
            Returns the channel's name for that of a value.
        device : str
            Channel of the frames.
        """
        for name, value in frame.values.items():
            kind = kind_of(value)
            if kind is None:
                self._say(name, frame, f"no channel takes {_shown(value)}")
                continue
            try:
                scan.channel(
                    channel_of(name),
                    dtype=_DTYPES[kind],
                    max_point_bytes=MAX_TEXT_BYTES if kind is str else None,
                    device=device,
                    units=frame.units.get(name, ""),
                    stamp=stamp_of(name, kind),
                )
            except DeclarationError as error:
                self._say(name, frame, str(error))
            else:
                self.kinds[name] = kind

    def of(self, frame: FrameArrived) -> Iterator[tuple[str, Kept | None]]:
        """Yield each value of a frame that has a channel; None for a hole."""
        for name, kind in self.kinds.items():
            value = frame.values.get(name)
            kept = kept_value(value, kind)
            if kept is None:
                got = "none" if value is None else _shown(value)
                expected = _NAMES[kind]
                self._leave_out(name, frame, f"expected {expected}, got {got}")
                if value is None and kind is float:
                    kept = math.nan
            yield name, kept
        for name in frame.values.keys() - self.kinds.keys():
            self._leave_out(name, frame, "the first frame had none")

    def _leave_out(self, name: str, frame: FrameArrived, why: str) -> None:
        if name not in self.left_out and len(self.left_out) >= _MAX_NAMES:
            name = _OTHERS
        self._say(name, frame, why)
        self.left_out[name] += 1

    def _say(self, name: str, frame: FrameArrived, why: str) -> None:
        """Note why a value is left out, once for each channel."""
        if name not in self.left_out:
            self.left_out[name] = 0
            self.note(f"{short_text(name)} of frame {frame.number} is left out: {why}")

    @property
    def total(self) -> int:
        """How many values were left out."""
        return sum(self.left_out.values())

    def summary(self) -> str:
        """Return how many values were left out of each channel; empty if none were.

        Examples
        --------
        >>> FrameValues(print, left_out={"hash": 2}).summary()
        'values left out: hash 2'
        """
        counts = ", ".join(
            f"{short_text(name)} {count}"
            for name, count in sorted(self.left_out.items())[:20]
        )
        return f"values left out: {counts}" if counts else ""


def _shown(value: object) -> str:
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int | float):
        is_long = isinstance(value, int) and value not in _INT64
        return "a number beyond 64 bits" if is_long else repr(value)
    return f"a {type(value).__name__}"
