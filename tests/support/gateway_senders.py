"""Senders for the conformance suite of gateways, one per gateway and stream."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy.typing as npt

from scanbus.publisher.gateways.dectris import DectrisGateway, SimulatedDetector
from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1, SeriesV2
from scanbus.publisher.gateways.runner import Gateway

Frame = npt.NDArray[Any]


class Sender(Protocol):
    """What the suite has a simulated sender do, over a real socket."""

    def gateway(self) -> Gateway:
        """Return a gateway that is to receive from it."""

    def start(self, series: int, n_frames: int) -> None:
        """Begin a series."""

    def frame(self, series: int, number: int, frame: Frame) -> None:
        """Send a frame; numbers are from 0."""

    def end(self, series: int) -> None:
        """End a series."""

    def rubbish(self) -> None:
        """Send a message that nobody can use."""

    def restart(self) -> None:
        """Close the socket, and open it again at the same address."""

    def close(self) -> None:
        """Close the socket."""


class DectrisSender:
    """A DECTRIS detector, of one of its streams."""

    def __init__(self, messages: Callable[[int, Mapping[str, Any]], Any]) -> None:
        self._messages = messages
        self._detector = SimulatedDetector("tcp://127.0.0.1:*")

    def gateway(self) -> Gateway:
        return DectrisGateway(self._detector.address)

    def start(self, series: int, n_frames: int) -> None:
        config = {"nimages": n_frames, "number_of_images": n_frames}
        self._send(self._messages(series, config).header())

    def frame(self, series: int, number: int, frame: Frame) -> None:
        times = {"start_time": number, "stop_time": number + 1}
        self._send(self._messages(series, {}).image(number, frame, times))

    def end(self, series: int) -> None:
        self._send(self._messages(series, {}).end())

    def rubbish(self) -> None:
        self._send([b"\xa1\x64type\x63abc"])

    def restart(self) -> None:
        address = self._detector.address
        self._detector.close()
        self._detector = SimulatedDetector(address)

    def close(self) -> None:
        self._detector.close(0.0)

    def _send(self, parts: list[bytes]) -> None:
        assert self._detector.send(parts)


def dectris_v1() -> Sender:
    return DectrisSender(SeriesV1)


def dectris_v2() -> Sender:
    return DectrisSender(SeriesV2)


SENDERS: dict[str, Callable[[], Sender]] = {
    re.sub("_", "-", each.__name__): each for each in (dectris_v1, dectris_v2)
}
