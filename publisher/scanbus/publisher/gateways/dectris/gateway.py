"""Receive a DECTRIS detector's stream over ZeroMQ."""

from __future__ import annotations

from collections.abc import Sequence

from scanbus.publisher.gateways.dectris.stream_v1 import decode_v1
from scanbus.publisher.gateways.runner.gateway import Source
from scanbus.publisher.gateways.runner.messages import Message
from scanbus.publisher.gateways.wire.sockets import SocketKind, ZmqSource
from scanbus.publisher.gateways.wire.stream_v2 import decode_v2
from scanbus.schemas.errors import MessageError

__all__ = ["DectrisGateway"]

_MAX_PARTS = 64
_OBJECT = ord("{")


class DectrisGateway:
    """The streams V1 and V2, told apart by each message.

    Parameters
    ----------
    address : str
        Of the detector's socket, such as ``tcp://HOST:9999``.
    socket : {"pull", "sub"}
        The detector's own socket is pulled from; one may subscribe to a splitter.
    """

    kind = "dectris"
    detector = "detector"

    def __init__(self, address: str, socket: SocketKind = "pull") -> None:
        self.address = address
        self._socket: SocketKind = socket

    def open(self) -> Source:
        """Connect, now or when the detector is there.

        Raises
        ------
        ConfigurationError
            If the address is none.
        """
        return ZmqSource(self.address, self._socket)

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
