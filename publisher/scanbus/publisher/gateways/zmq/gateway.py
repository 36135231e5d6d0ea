"""Receive frames as JSON and bytes, or as Jungfraujoch's CBOR, over ZeroMQ."""

from __future__ import annotations

from collections.abc import Sequence

from scanbus.publisher.gateways.runner.gateway import Source
from scanbus.publisher.gateways.runner.messages import (
    Message,
    SeriesEnded,
    SeriesStarted,
)
from scanbus.publisher.gateways.wire.sockets import SocketKind, ZmqSource
from scanbus.publisher.gateways.wire.stream_v2 import decode_v2
from scanbus.publisher.gateways.zmq.arrays import decode_arrays
from scanbus.publisher.gateways.zmq.runs import RunSource, is_run
from scanbus.schemas.errors import MessageError

__all__ = ["ZmqGateway"]

_MAX_PARTS = 64
# First byte of a CBOR map; JSON never begins with one of these.
_CBOR_MAPS = range(0xA0, 0xC0)


class ZmqGateway:
    """Conventions of JSON and bytes, and CBOR, told apart by each message.

    Parameters
    ----------
    address : str
        Of the sender's socket, such as ``tcp://HOST:9999``.
    socket : {"pull", "sub"}
        Whether the sender pushes, or publishes to all who subscribe.
    idle_s : float
        A run of frames without messages for start and end is over when nothing came
        for so long, in seconds.
    """

    kind = "zmq"
    detector = "detector"

    def __init__(
        self, address: str, socket: SocketKind = "pull", *, idle_s: float = 10.0
    ) -> None:
        self.address = address
        self._socket: SocketKind = socket
        self._idle_s = idle_s
        self._has_run = False

    def open(self) -> Source:
        """Connect, now or when the sender is there.

        Raises
        ------
        ConfigurationError
            If the address is none.
        """
        source = ZmqSource(self.address, self._socket)
        return RunSource(source, self._idle_s, lambda: self._has_run)

    def decode(self, content: Sequence[bytes] | SeriesStarted | SeriesEnded) -> Message:
        """Return what the parts of one message say, or what the source has concluded.

        Raises
        ------
        MessageError
            If they cannot be used.
        """
        if isinstance(content, SeriesStarted | SeriesEnded):
            return content
        if not content or len(content) > _MAX_PARTS:
            raise MessageError("ZeroMQ stream", f"a message of {len(content)} parts")
        if content[0][:1] and content[0][0] in _CBOR_MAPS:
            return decode_v2(content[0])
        return decode_arrays(content)

    def scan_opened(self, key: str, uid: str, next_number: int) -> None:  # noqa: ARG002
        """Take note of whether the scan on the way is that of a run."""
        self._has_run = is_run(key)
