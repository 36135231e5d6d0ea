"""Send a series of frames as a simulated detector does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Protocol

from scanbus.publisher.gateways.wire.simulated_frames import Frame, simulated_frames
from scanbus.publisher.gateways.wire.sockets import SimulatedSender

__all__ = ["SeriesMessages", "send_series"]

_EXPOSURE_NS = 10**7
_PATIENCE_S = 30.0


class SeriesMessages(Protocol):
    """Messages of one series, each a list of parts; an empty one is not sent."""

    def header(self) -> list[bytes]:
        """Return the message of the start."""
        ...

    def image(
        self, number: int, frame: Frame, times: Mapping[str, int] | None = None
    ) -> list[bytes]:
        """Return the message of one frame; times in ns."""
        ...

    def end(self) -> list[bytes]:
        """Return the message of the end."""
        ...


def send_series(
    sender: SimulatedSender,
    messages: SeriesMessages,
    *,
    n_frames: int,
    shape: tuple[int, int] = (512, 1030),
    rate_hz: float | None = None,
    after_start: Sequence[Sequence[bytes]] = (),
) -> None:
    """Send one series.

    Parameters
    ----------
    rate_hz : float, optional
        Frames per second; by default as fast as they are taken. With a rate, frames
        that are not taken in time are dropped, as a detector does.
    after_start : sequence of sequence of bytes
        Further messages between the start and the first frame.
    """
    _send(sender, messages.header())
    for parts in after_start:
        _send(sender, parts)
    started, is_taken = time.monotonic(), True
    for number, frame in enumerate(islice(simulated_frames(shape), n_frames)):
        timeout_s = _PATIENCE_S
        if rate_hz is not None:
            time.sleep(max(0.0, started + number / rate_hz - time.monotonic()))
            # A detector's buffer is full once, not again for each frame.
            timeout_s = 1.0 if is_taken else 0.0
        begun = number * _EXPOSURE_NS
        times = {
            "start_time": begun,
            "stop_time": begun + _EXPOSURE_NS,
            "real_time": _EXPOSURE_NS,
        }
        is_taken = _send(sender, messages.image(number, frame, times), timeout_s)
    _send(sender, messages.end(), _PATIENCE_S if is_taken else 1.0)


def _send(
    sender: SimulatedSender, parts: Sequence[bytes], timeout_s: float = _PATIENCE_S
) -> bool:
    return not parts or sender.send(parts, timeout_s)
