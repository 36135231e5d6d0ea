"""Receive a DECTRIS detector's stream over ZeroMQ."""

from __future__ import annotations

from collections.abc import Sequence
from time import time as wall_clock

import zmq

from scanbus.publisher.gateways.dectris.stream_v1 import decode_v1
from scanbus.publisher.gateways.dectris.stream_v2 import decode_v2
from scanbus.publisher.gateways.runner.gateway import RawMessage, Source
from scanbus.publisher.gateways.runner.messages import Message
from scanbus.schemas.errors import ConfigurationError, MessageError

__all__ = ["DectrisGateway"]

# Few, as our own queue is bounded by bytes; the detector's buffer is larger than both.
_RECEIVE_MESSAGES = 16
# A peer that declares a larger part is disconnected before anything is allocated.
_MAX_PART_BYTES = 2**30
_MAX_PARTS = 64
_RECONNECT_MS, _MOST_RECONNECT_MS = 100, 2000
_OBJECT = ord("{")


class DectrisGateway:
    """The streams V1 and V2, told apart by each message.

    Parameters
    ----------
    address : str
        Of the detector's socket, such as ``tcp://HOST:9999``.
    """

    kind = "dectris"
    detector = "detector"

    def __init__(self, address: str) -> None:
        self._address = address

    def open(self) -> Source:
        """Connect, now or when the detector is there.

        Raises
        ------
        ConfigurationError
            If the address is none.
        """
        return _PullSource(self._address)

    def decode(self, content: Sequence[bytes]) -> Message:
        """Return what the parts of one message say.

        Raises
        ------
        MessageError
            If they cannot be used.
        """
        if len(content) > _MAX_PARTS:
            raise MessageError("DECTRIS stream", f"a message of {len(content)} parts")
        # JSON of stream V1 begins with a brace, a map of CBOR never does.
        if len(content) == 1 and content[0] and content[0][0] != _OBJECT:
            return decode_v2(content[0])
        return decode_v1(content)


class _PullSource:
    """A PULL socket; messages arrive in the order of each sender."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = socket = self._context.socket(zmq.PULL)
        socket.setsockopt(zmq.RCVHWM, _RECEIVE_MESSAGES)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_PART_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _MOST_RECONNECT_MS)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigurationError("address", f"{address!r}: {error}") from error

    def receive(self, timeout_s: float) -> RawMessage | None:
        """Return the next message; None if none came in time."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        parts = self._socket.recv_multipart()
        return RawMessage(parts, sum(map(len, parts)), wall_clock())

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()
