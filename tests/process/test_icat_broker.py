"""Brokers that refuse, hang, lie or go: the sender says it, and in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from scanbus.schemas.errors import BrokerError, ConfigurationError
from scanbus.writer.icat.stomp import Address, parse_address, send_message
from tests.support.icat import Broker, answer_all, closed_port, frames, running_broker

TIMEOUT_S = 0.5
# With a margin for a busy machine; without a deadline it would be for ever.
SOON_S = TIMEOUT_S + 5
BODY = "<a>Å</a>".encode()
CONNECTED = b"CONNECTED\nversion:1.1\n\n\0"


def silent(_: Broker, connection: socket.socket) -> None:
    """Take everything and say nothing."""
    while connection.recv(65536):
        pass


def deaf(_: Broker, connection: socket.socket) -> None:
    """Accept, and read nothing: what is sent stays in the way."""
    connection.sendall(CONNECTED)
    time.sleep(TIMEOUT_S * 3)


def half_a_frame(_: Broker, connection: socket.socket) -> None:
    connection.sendall(b"CONNECTED\nversion")
    silent(_, connection)


def drops(_: Broker, connection: socket.socket) -> None:
    """Send a byte now and then: each wait is short, all together are not."""
    while True:
        connection.sendall(b"\n")
        time.sleep(TIMEOUT_S / 10)


def no_receipt(broker: Broker, connection: socket.socket) -> None:
    for command, _, body in frames(connection):
        if command == "CONNECT":
            connection.sendall(CONNECTED)
        elif command == "SEND":
            broker.messages.append(body)


def other_receipt(_: Broker, connection: socket.socket) -> None:
    connection.sendall(CONNECTED + b"RECEIPT\nreceipt-id:other\n\n\0")
    silent(_, connection)


def refuses(_: Broker, connection: socket.socket) -> None:
    connection.sendall(b"ERROR\nmessage:no such user\n\nlong text\0")
    silent(_, connection)


def refuses_the_message(_: Broker, connection: socket.socket) -> None:
    for command, _headers, _body in frames(connection):
        connection.sendall(
            CONNECTED if command == "CONNECT" else b"ERROR\nmessage:disk full\n\n\0"
        )


def closes(_: Broker, connection: socket.socket) -> None:
    connection.recv(10)
    connection.shutdown(socket.SHUT_RDWR)


def chatters(_: Broker, connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b"x" * 65536)


def web_server(_: Broker, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.shutdown(socket.SHUT_RDWR)


BAD: list[tuple[Callable[[Broker, socket.socket], None], str]] = [
    (silent, "no answer within"),
    (half_a_frame, "no answer within"),
    (drops, "no answer within"),
    (no_receipt, "no answer within"),
    (other_receipt, "no answer within"),
    (refuses, "it answers: no such user"),
    (refuses_the_message, "it answers: disk full"),
    (closes, "it closed the connection|reset"),
    (chatters, "no frame of STOMP"),
    (web_server, "it closed the connection"),
]


@pytest.mark.parametrize(("answer", "reason"), BAD, ids=[f.__name__ for f, _ in BAD])
def test_a_bad_broker_takes_no_longer_than_the_timeout(
    answer: Callable[[Broker, socket.socket], None], reason: str
) -> None:
    with running_broker(answer) as broker:
        began_s = time.monotonic()
        with pytest.raises(BrokerError, match=reason) as raised:
            send_message([parse_address(broker.address)], BODY, TIMEOUT_S)
        took_s = time.monotonic() - began_s

    assert took_s < SOON_S
    assert raised.value.broker == broker.address


def test_a_broker_that_does_not_read_takes_no_longer() -> None:
    body = b"x" * 32 * 2**20
    with running_broker(deaf) as broker:
        began_s = time.monotonic()
        with pytest.raises(BrokerError):
            send_message([parse_address(broker.address)], body, TIMEOUT_S)

    assert time.monotonic() - began_s < SOON_S


def test_all_brokers_are_named_if_none_takes_it() -> None:
    with running_broker(refuses) as broker:
        brokers = [Address("127.0.0.1", closed_port()), parse_address(broker.address)]
        with pytest.raises(BrokerError, match=r"refused.*; it answers: no such user"):
            send_message(brokers, BODY, TIMEOUT_S)


def test_a_good_broker_has_the_bytes() -> None:
    with running_broker(answer_all) as broker:
        address = parse_address(f"tcp://{broker.address}")
        assert send_message([address], BODY, 10.0) == address

    assert broker.messages == [BODY]


def test_a_name_that_nobody_knows_is_said() -> None:
    with pytest.raises(BrokerError, match=r"no-such-host\.invalid"):
        send_message([parse_address("no-such-host.invalid")], BODY, TIMEOUT_S)


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert str(parse_address("[::1]:61613")) == "[::1]:61613"
    assert parse_address("[::1]").host == "::1"


@pytest.mark.parametrize("text", ["mq..example:1", ".", f"{'x' * 64}.org", "a b", ""])
def test_what_is_no_name_of_a_host_is_refused_at_once(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no address"):
        parse_address(text)
