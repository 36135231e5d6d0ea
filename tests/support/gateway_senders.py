"""Senders for the conformance suite of gateways, one per gateway and stream."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import numpy.typing as npt
import pytest

from scanbus.publisher.gateways.dectris import DectrisGateway
from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1
from scanbus.publisher.gateways.runner import Gateway
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.wire.sockets import (
    SendingKind,
    SimulatedSender,
    SocketKind,
)
from scanbus.publisher.gateways.zmq import ZmqGateway
from scanbus.publisher.gateways.zmq.simulated_messages import ArrayFrames, MaxivSeries
from tests.support.quiet_senders import FileSender, PvaSender

Frame = npt.NDArray[Any]

# A run of frames alone is over after so long; longer than a sender needs to restart.
IDLE_S = 3.0
SENDING: Mapping[SocketKind, SendingKind] = {"pull": "push", "sub": "pub"}


class HasGateway(Protocol):
    """A sender, as far as who runs a gateway needs it."""

    def gateway(self) -> Gateway:
        """Return a gateway that is to receive from it."""


class Sender(HasGateway, Protocol):
    """What the suite has a simulated sender do, over a real socket."""

    def maker(self) -> Callable[[], Gateway]:
        """Return what makes such a gateway in another process."""

    @property
    def names_series(self) -> bool:
        """Whether each frame says to which series it belongs."""

    @property
    def has_starts(self) -> bool:
        """Whether there are messages for the start and the end of a series."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """Tests of the suite that cannot be asked of it, and why."""

    def start(self, series: int, n_frames: int) -> None:
        """Begin a series."""

    def frame(self, series: int, number: int, frame: Frame) -> None:
        """Send a frame; numbers are from 0."""

    def end(self, series: int) -> None:
        """End a series."""

    def rubbish(self) -> None:
        """Send a message that nobody can use."""

    def await_loss(self) -> None:
        """Wait until it knows that the gateway is gone, where it knows of gateways."""

    def restart(self) -> None:
        """Close the socket, and open it again at the same address."""

    def close(self) -> None:
        """Close the socket."""


class ZmqSender:
    """A sender over ZeroMQ, of messages that its arguments make."""

    lacks: Mapping[str, str] = {}

    def __init__(
        self,
        gateway: Callable[[str, SocketKind], Gateway],
        messages: Callable[[int, Mapping[str, Any]], Any],
        *,
        socket: SocketKind = "pull",
        names_series: bool = True,
        has_starts: bool = True,
    ) -> None:
        self.names_series = names_series
        self.has_starts = has_starts
        self._gateway = gateway
        self._messages = messages
        self._socket: SocketKind = socket
        self._sender = SimulatedSender("tcp://127.0.0.1:*", kind=SENDING[socket])

    def maker(self) -> Callable[[], Gateway]:
        return partial(self._gateway, self._sender.address, self._socket)

    def gateway(self) -> Gateway:
        return self.maker()()

    def start(self, series: int, n_frames: int) -> None:
        config = {"nimages": n_frames, "number_of_images": n_frames}
        self._send(self._messages(series, config).header())

    def frame(
        self, series: int, number: int, frame: Frame | Mapping[str, Frame]
    ) -> None:
        """Send a frame; of stream V2 also one for each channel."""
        times = {"start_time": number, "stop_time": number + 1}
        self._send(self._messages(series, {}).image(number, frame, times))

    def end(self, series: int) -> None:
        self._send(self._messages(series, {}).end())

    def rubbish(self) -> None:
        self._send([b"\xa1\x64type\x63abc"])

    def await_loss(self) -> None:
        """Nothing: ZeroMQ does not tell."""

    def restart(self) -> None:
        address = self._sender.address
        self._sender.close()
        self._sender = SimulatedSender(address, kind=SENDING[self._socket])

    def close(self) -> None:
        self._sender.close(0.0)

    def _send(self, parts: list[bytes]) -> None:
        assert not parts or self._sender.send(parts)


def zmq_gateway(address: str, socket: SocketKind) -> Gateway:
    return ZmqGateway(address, socket, idle_s=IDLE_S)


def dectris_gateway(address: str, socket: SocketKind) -> Gateway:
    return DectrisGateway(address, socket)


def frames_alone(_series: int, _config: Mapping[str, Any]) -> ArrayFrames:
    return ArrayFrames("bslz4")


ARRAY = partial(
    ZmqSender, zmq_gateway, frames_alone, names_series=False, has_starts=False
)
SENDERS: dict[str, Callable[[], Sender]] = {
    "dectris-v1": partial(ZmqSender, dectris_gateway, SeriesV1),
    "dectris-v2": partial(ZmqSender, dectris_gateway, SeriesV2),
    "dectris-v2-sub": partial(ZmqSender, dectris_gateway, SeriesV2, socket="sub"),
    "jungfraujoch": partial(ZmqSender, zmq_gateway, SeriesV2),
    "maxiv": partial(ZmqSender, zmq_gateway, MaxivSeries, names_series=False),
    "array": ARRAY,
    "array-sub": partial(ARRAY, socket="sub"),
    "files": FileSender,
    "pva": PvaSender,
}
# Another sender of the same stream, or the same one over the other kind of socket: the
# short form asks of these only what hangs on that.
ALIKE = ("dectris-v2-sub", "jungfraujoch", "array-sub")
DISTINCT = [name for name in SENDERS if name not in ALIKE]


def made_sender(make: Callable[[], Sender], test: str) -> Iterator[Sender]:
    """Yield a sender, unless it lacks what a test asks."""
    made = make()
    reason = made.lacks.get(test)
    if reason is None:
        yield made
    made.close()
    if reason is not None:
        pytest.skip(reason)
