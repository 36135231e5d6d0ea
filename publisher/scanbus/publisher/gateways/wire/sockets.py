"""ZeroMQ sockets of gateways: one that receives, and one of a simulated sender."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from time import time as wall_clock
from types import TracebackType
from typing import Literal, Self, TypeAlias

import zmq
from zmq.utils.monitor import recv_monitor_message

from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.schemas.errors import ConfigurationError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["SendingKind", "SimulatedSender", "SocketKind", "ZmqSource"]

log = get_logger()

SocketKind: TypeAlias = Literal["pull", "sub"]
SendingKind: TypeAlias = Literal["push", "pub"]

# Few, as our own queue is bounded by bytes; the detector's buffer is larger than both.
_PULLED_MESSAGES = 16
# A sender that publishes drops what its subscriber does not take at once.
_SUBSCRIBED_MESSAGES = 32
# A peer that declares a larger part is disconnected before anything is allocated.
_MAX_PART_BYTES = 2**30
_RECONNECT_MS, _MOST_RECONNECT_MS = 100, 2000
_SEND_BUFFER = 100
# What a socket says of its connection. It says at once that it will try again.
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_FOUND = zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECTED
_GIVEN_UP_S = 1.0
# So long a sender may take to answer, before it is said that none does.
_FIND_S = 5.0
_MAX_PORT = 65535
_FORGET_S = 1.0
# A peer that is gone before it has greeted, and was no subscriber.
_NOT_GREETED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


def _no_address(address: str, error: zmq.ZMQError) -> ConfigurationError:
    if error.errno == zmq.EADDRINUSE:
        in_use = os.strerror(zmq.EADDRINUSE)
        return ConfigurationError("address", f"{address!r}: {in_use}")
    reason = str(error.strerror).partition(" (addr=")[0]
    return ConfigurationError(
        "address", f"{address!r}: {reason}; expected such as tcp://HOST:9999"
    )


def _check_port(address: str) -> None:
    """Refuse a port that no host has: libzmq would try it for ever.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    port = address.rpartition(":")[2]
    if address.startswith("tcp://") and port.isdecimal() and int(port) > _MAX_PORT:
        reason = f"{address!r}: ports are numbers up to {_MAX_PORT}"
        raise ConfigurationError("address", reason)


class ZmqSource:
    """A socket that receives; messages arrive in the order of each sender.

    It connects now or when the sender is there, and again whenever that comes back.

    Parameters
    ----------
    address : str
        Of the sender's socket, such as ``tcp://HOST:9999``.
    kind : {"pull", "sub"}
        Whether the sender pushes, or publishes to all who subscribe.

    Raises
    ------
    ConfigurationError
        If the address is none.
    """

    def __init__(self, address: str, kind: SocketKind = "pull") -> None:
        _check_port(address)
        self._context = zmq.Context()
        is_sub = kind == "sub"
        self._socket = socket = self._context.socket(zmq.SUB if is_sub else zmq.PULL)
        waiting = _SUBSCRIBED_MESSAGES if is_sub else _PULLED_MESSAGES
        socket.setsockopt(zmq.RCVHWM, waiting)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_PART_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _MOST_RECONNECT_MS)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.LINGER, 0)
        if is_sub:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._address = address
        self._monitor = socket.get_monitor_socket(_LOST | _FOUND)
        self._lost_at: float | None = None
        self._began, self._is_found, self._is_missing_told = monotonic(), False, False
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise _no_address(address, error) from error

    def receive(self, timeout_s: float) -> RawMessage | None:
        """Return the next message, its content a list of parts; None if none came."""
        if not self._socket.poll(int(timeout_s * 1000)):
            self._connect_again()
            return None
        self._is_found = True
        parts = self._socket.recv_multipart()
        return RawMessage(parts, sum(map(len, parts)), wall_clock())

    def _connect_again(self) -> None:
        """Connect to a sender that libzmq has given up.

        It reconnects after a connection broke, but not after a peer broke its protocol
        or declared a part that is too large.
        """
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            self._lost_at = monotonic() if event & _LOST else None
            if event & zmq.EVENT_CONNECTED:
                self._note_found()
        if not self._is_found and monotonic() - self._began > _FIND_S:
            self._tell_missing()
        if self._lost_at is not None and monotonic() - self._lost_at > _GIVEN_UP_S:
            self._lost_at = None
            self._socket.connect(self._address)

    def _note_found(self) -> None:
        if self._is_missing_told and not self._is_found:
            log.warning(LogEvent.SENDER_NOTE, text=f"{self._address} is connected")
        self._is_found = True

    def _tell_missing(self) -> None:
        """Say once that there is no sender yet; it is waited for."""
        if not self._is_missing_told:
            text = f"no sender answers at {self._address}: is its address right?"
            log.warning(LogEvent.SENDER_NOTE, text=text)
        self._is_missing_told = True

    def close(self) -> None:
        """Disconnect."""
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()
        self._context.term()


class SimulatedSender:
    """A bound socket of a simulated sender; messages wait in it, up to a bound.

    Parameters
    ----------
    address : str
        Where it listens, such as ``tcp://127.0.0.1:9999``; port ``*`` for a free one.
    kind : {"push", "pub"}
        Whether each message goes to one receiver, or to all that subscribe.
    buffer : int
        Messages that it keeps while nobody takes them; then `send` waits.

    Attributes
    ----------
    address : str
        Where it listens.
    dropped : int
        Messages that nobody took in time.

    Raises
    ------
    ConfigurationError
        If it cannot listen there.
    """

    def __init__(
        self, address: str, *, kind: SendingKind = "push", buffer: int = _SEND_BUFFER
    ) -> None:
        _check_port(address)
        self._context = zmq.Context()
        self._is_pub = kind == "pub"
        # XPUB is PUB that hears of its subscribers, and can wait for them.
        self._socket = self._context.socket(zmq.XPUB if self._is_pub else zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, buffer)
        if self._is_pub:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
            self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | _NOT_GREETED
        )
        self._n_subscribed = self._n_lost = 0
        self.dropped = 0
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise _no_address(address, error) from error
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def __enter__(self) -> Self:
        """Return the sender."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the socket."""
        self.close()

    def send(self, parts: Sequence[bytes], timeout_s: float = 30.0) -> bool:
        """Send a message; return False if nobody takes it for so long.

        A detector drops the message then.
        """
        deadline = monotonic() + timeout_s
        is_taken = self._wait_subscribed(timeout_s)
        left_ms = max(0, int((deadline - monotonic()) * 1000))
        self._socket.setsockopt(zmq.SNDTIMEO, left_ms)
        try:
            if is_taken:
                self._socket.send_multipart(parts)
        except zmq.Again:
            is_taken = False
        self.dropped += not is_taken
        return is_taken

    def _wait_subscribed(self, timeout_s: float) -> bool:
        """Return whether somebody receives; a PUSH socket waits for that itself.

        The socket learns that a subscriber is gone some time after its monitor: what
        it sent meanwhile would go to nobody, although another one subscribes already.
        """
        deadline = monotonic() + timeout_s
        while self._is_pub:
            while self._monitor.poll(0):
                event = recv_monitor_message(self._monitor)["event"]
                self._n_lost += -1 if event & _NOT_GREETED else 1
            is_known = self._n_subscribed > 0 and self._n_lost <= 0
            left_ms = 0 if is_known else max(0, int((deadline - monotonic()) * 1000))
            if self._socket.poll(left_ms, zmq.POLLIN):
                is_new = self._socket.recv()[:1] == b"\x01"
                self._n_subscribed += 1 if is_new else -1
                self._n_lost -= not is_new
            elif is_known or not left_ms:
                break
        is_there = self._n_subscribed > max(0, self._n_lost)
        if self._n_lost > 0 and timeout_s >= _FORGET_S:
            self._n_lost = 0  # Who had greeted, and not subscribed.
        return not self._is_pub or is_there

    def close(self, linger_s: float = 10.0) -> None:
        """Close the socket when its messages were taken, or after `linger_s`."""
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.setsockopt(zmq.LINGER, int(linger_s * 1000))
        self._socket.close()
        with suppress(zmq.ZMQError):
            self._context.term()
