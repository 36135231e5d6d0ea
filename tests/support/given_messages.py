"""A gateway without a sender: its source has messages that are ready."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from scanbus.publisher.gateways.runner import Gateway
from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    Message,
    SeriesEnded,
    SeriesStarted,
)

__all__ = ["GivenMessages", "given_frame", "given_series"]

_SHAPE = (4, 5)


def given_frame(
    number: int, values: Mapping[str, Any] | None = None, series: str = "1"
) -> FrameArrived:
    """Return a frame whose pixels are its number."""
    pixels = np.full(_SHAPE, number, "<u2")
    data = FrameData(pixels.tobytes(), "none", pixels.shape, pixels.dtype)
    return FrameArrived(series, number, {"": data}, values=values or {})


def given_series(
    frames: Iterable[FrameArrived], n_frames: int | None = None, series: str = "1"
) -> list[Message]:
    """Return all messages of a series."""
    return [SeriesStarted(series, n_frames=n_frames), *frames, SeriesEnded(series)]


class GivenMessages:
    """Gateway, source and sender of messages that need no decoding.

    Parameters
    ----------
    messages : iterable of Message
        All that ever come.
    """

    kind = "given"
    address = "here"
    detector = "detector"

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = deque(messages)
        self._nothing = threading.Event()

    def gateway(self) -> Gateway:
        return self

    def open(self) -> "GivenMessages":
        return self

    def close(self) -> None:
        """Close nothing."""

    def receive(self, timeout_s: float) -> RawMessage | None:
        if not self._messages:
            self._nothing.wait(timeout_s)
            return None
        return RawMessage(self._messages.popleft(), 100, time.time())

    def decode(self, content: Any) -> Message:
        message: Message = content
        return message
