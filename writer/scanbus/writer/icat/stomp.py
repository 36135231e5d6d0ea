"""Hand a message to a broker over STOMP, and wait until it says that it has it.

ESRF's brokers (ActiveMQ) take messages for ICAT by this protocol. A send without a
receipt may be lost with the broker's socket, so each is confirmed here. Whatever the
broker does, all of it together takes no longer than the timeout.

References
----------
https://stomp.github.io/stomp-specification-1.1.html
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from scanbus.schemas.errors import BrokerError, ConfigurationError

__all__ = ["Address", "parse_address", "send_message"]

DEFAULT_PORT: Final = 61613
"""That of STOMP."""
QUEUE: Final = "/queue/icatIngest"
"""Where ICAT's ingester takes messages about datasets."""
_VERSION: Final = "1.1"
_MAX_FRAME_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 4096
_ADDRESS: Final = re.compile(
    r"(?:(?:tcp|stomp)://)?(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?/?"
)
_ESCAPES: Final = {"\\": "\\\\", "\n": "\\n", ":": "\\c"}


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address of a broker.

    Raises
    ------
    ConfigurationError
        If it is none.

    Examples
    --------
    >>> str(parse_address("mq.facility.eu"))
    'mq.facility.eu:61613'
    """
    match = _ADDRESS.fullmatch(text)
    port = int(match[2] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 2**16 or not _is_host(match[1]):
        raise ConfigurationError(
            "broker",
            f"{text!r} is no address; write HOST:PORT, such as "
            f"mq.example.org:{DEFAULT_PORT}",
        )
    return Address(match[1].strip("[]"), port)


def _is_host(name: str) -> bool:
    """Return whether a name can be looked up at all: not `mq..example`."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return name.strip(".") != ""


def send_message(
    brokers: Sequence[Address], octets: bytes, timeout_s: float
) -> Address:
    """Send a message to the first broker that takes it; return which one did.

    Parameters
    ----------
    brokers : sequence of Address
        Tried in this order; not empty.
    octets : bytes
        The message, text in UTF-8.
    timeout_s : float
        Longest time for each broker, from connecting to the receipt.

    Raises
    ------
    BrokerError
        If none confirms that it has the message. It may have it nevertheless, if its
        receipt did not arrive.
    """
    if b"\0" in octets:
        raise ValueError("a message has NUL, which ends a frame")
    reasons = []
    for broker in brokers:
        try:
            _send(broker, octets, timeout_s)
        except (OSError, _RefusedError) as error:
            reasons.append(_reason(error, timeout_s))
        else:
            return broker
    raise BrokerError(", ".join(map(str, brokers)), "; ".join(reasons))


class _RefusedError(Exception):
    """The broker answers, but not as it should."""


class _Connection:
    """A connection to a broker, with one deadline for all that is done with it."""

    def __init__(self, broker: Address, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._socket = socket.create_connection(broker, timeout_s)
        self._received = b""

    def send(self, command: str, headers: dict[str, str], body: bytes = b"") -> None:
        self._socket.settimeout(self._left())
        self._socket.sendall(_frame(command, headers, body))

    def receive(self) -> tuple[str, dict[str, str]]:
        """Return command and headers of the next frame."""
        while True:
            # Between frames a broker may send line ends.
            self._received = self._received.lstrip(b"\r\n")
            frame, end, rest = self._received.partition(b"\0")
            if end:
                self._received = rest
                return _parsed(frame)
            if len(self._received) > _MAX_FRAME_BYTES:
                raise _RefusedError("it sent no frame of STOMP, but too many bytes")
            self._socket.settimeout(self._left())
            more = self._socket.recv(_READ_BYTES)
            if not more:
                raise _RefusedError("it closed the connection")
            self._received += more

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()

    def _left(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


def _send(broker: Address, octets: bytes, timeout_s: float) -> None:
    connection = _Connection(broker, timeout_s)
    try:
        connection.send(
            "CONNECT",
            {"accept-version": _VERSION, "host": broker.host, "heart-beat": "0,0"},
        )
        _expect(connection, "CONNECTED", {})
        receipt = "scanbus-1"
        # Without content-length: ActiveMQ would make a message of bytes of it, and the
        # ingester reads text.
        headers = {"destination": QUEUE, "persistent": "true", "receipt": receipt}
        connection.send("SEND", headers, octets)
        _expect(connection, "RECEIPT", {"receipt-id": receipt})
        with suppress(OSError):
            connection.send("DISCONNECT", {})
    finally:
        connection.close()


def _expect(connection: _Connection, command: str, headers: dict[str, str]) -> None:
    """Wait for an answer; raise if the broker reports an error."""
    while True:
        found, said = connection.receive()
        if found == "ERROR":
            reason = said.get("message", "an error without a message")
            raise _RefusedError(f"it answers: {reason[:300]}")
        if found == command and headers.items() <= said.items():
            return


def _frame(command: str, headers: dict[str, str], body: bytes) -> bytes:
    # The headers of CONNECT are not escaped: they came before that was thought of.
    escapes = command != "CONNECT"
    lines = [command]
    for name, value in headers.items():
        text = "".join(_ESCAPES.get(sign, sign) for sign in value)
        lines.append(f"{name}:{text if escapes else value}")
    return "\n".join([*lines, "", ""]).encode() + body + b"\0"


def _parsed(frame: bytes) -> tuple[str, dict[str, str]]:
    head = frame.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    command, *lines = head.decode(errors="replace").split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name, value)
    return command, headers


def _reason(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
