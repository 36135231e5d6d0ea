"""Values that change by themselves, beside the frames of a series.

The last value before the series is the first point, with its own time; the attributes
of the channel say how old it was, and whether it may no longer hold. Where a value is
not known any more there is a point without one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scanbus.publisher.gateways.runner.messages import SlowChannel, ValueArrived
from scanbus.publisher.gateways.runner.short_text import MAX_TEXT_BYTES, short_text
from scanbus.publisher.scan import Scan
from scanbus.schemas import PlotDescription

__all__ = ["SlowChannels", "plots_with"]

# Values that come before the first frame; more are left out, the oldest first.
_MAX_EARLY = 10_000


def plots_with(detector: str, slow: Mapping[str, bool]) -> list[PlotDescription]:
    """Return the plots of a scan with slow channels: the frames, then the numbers.

    By default a scan shows its counters first, which slow channels would be.

    Parameters
    ----------
    slow : mapping
        Slow channel to whether its values are text.
    """
    numbers = tuple(name for name, is_text in slow.items() if not is_text)
    frames = PlotDescription(name="plot2D", signals=(detector,))
    if not numbers:
        return [frames]
    return [frames, PlotDescription(name="plot0D", signals=numbers)]


class SlowChannels:
    """The slow channels of one series.

    Parameters
    ----------
    channels : sequence of SlowChannel
        What is known of them at the start.
    send : callable
        Sends a point of a channel: ``send(name, value, time=…)``.
    """

    def __init__(
        self, channels: Sequence[SlowChannel], send: Callable[..., None]
    ) -> None:
        self._channels = {each.name: each for each in channels}
        self._send = send
        self._early: list[ValueArrived] = []
        self._is_declared = False

    def declare(self, scan: Scan) -> None:
        """Declare the channels."""
        for name, each in self._channels.items():
            scan.channel(
                name,
                dtype="string" if each.is_text else "float64",
                max_point_bytes=MAX_TEXT_BYTES if each.is_text else None,
                units=each.units,
                nexus={"attributes": _attributes(each)},
            )

    def begin(self) -> None:
        """Send the values from before the series, and those that came meanwhile."""
        self._is_declared = True
        for name, each in self._channels.items():
            if each.value is not None and each.time is not None:
                self.take(ValueArrived(name, each.value, each.time))
        for value in self._early:
            self.take(value)
        self._early.clear()

    def take(self, value: ValueArrived) -> None:
        """Send a value, when the channels are declared."""
        channel = self._channels.get(value.name)
        if channel is None:
            return  # It was not there when the series began.
        if not self._is_declared:
            self._early = [*self._early[1 - _MAX_EARLY :], value]
            return
        self._send(value.name, _point(channel, value.value), time=value.time)


def _point(channel: SlowChannel, value: float | str | None) -> float | str:
    if channel.is_text:
        return "" if value is None else short_text(str(value))
    return float(value) if isinstance(value, float | int) else math.nan


def _attributes(channel: SlowChannel) -> dict[str, Any]:
    found: dict[str, Any] = {"source": channel.source}
    if channel.severity:
        found["severity_at_start"] = channel.severity
        found["status_at_start"] = short_text(channel.status)
    if channel.age_s is None:
        found["stale_at_start"] = channel.stale or "no value was known"
    else:
        found["age_at_start"] = channel.age_s
        if channel.stale:
            found["stale_at_start"] = channel.stale
    return found
