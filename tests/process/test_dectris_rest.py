"""The configuration of a detector is read over its REST interface, or not, in time."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from scanbus.publisher.gateways.dectris import RestConfiguration, served_configuration
from scanbus.publisher.gateways.runner.messages import SeriesStarted
from scanbus.schemas.errors import ConfigurationError

CONFIG: dict[str, Any] = {
    "count_time": 0.5,
    "nimages": 10,
    "ntrigger": 2,
    "omega_start": 1.5,
    "wavelength": 1.0,
    "description": "EIGER2",
    "unknown": [1, 2],
}


def test_keys_of_the_detector_describe_a_series() -> None:
    with served_configuration("http://127.0.0.1:0", CONFIG) as address:
        described = RestConfiguration(address).describe(SeriesStarted("7", key="x"))
    assert (described.series, described.key, described.n_frames) == ("7", "x", 20)
    assert described.fields["count_time"] == 0.5
    assert described.fields["description"] == "EIGER2"
    assert described.metadata["sample"]["goniometer"]["omega"] == 1.5


def test_what_the_start_says_is_kept() -> None:
    started = SeriesStarted("7", n_frames=5, metadata={"user_data": "x"})
    with served_configuration("http://127.0.0.1:0", CONFIG) as address:
        described = RestConfiguration(address).describe(started)
    assert described.n_frames == 5
    assert described.metadata["user_data"] == "x"


@pytest.mark.parametrize(
    "address",
    ["", "eiger", "eiger:80", "https://eiger", "http://", "http://a/b", "http://a:x"],
)
def test_a_bad_address_is_a_sentence(address: str) -> None:
    with pytest.raises(ConfigurationError, match="rest: "):
        RestConfiguration(address)


def test_nobody_there_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    rest = RestConfiguration(f"http://127.0.0.1:{port}")
    with pytest.raises(ConfigurationError, match="does not tell the configuration"):
        rest.describe(SeriesStarted("7"))


@contextmanager
def answering(octets: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """Answer each connection with these bytes, one by one if there is a pause."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                try:
                    for index in range(len(octets) if pause_s else 0):
                        connection.sendall(octets[index : index + 1])
                        over.wait(pause_s)
                    if not pause_s:
                        connection.sendall(octets)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            with socket.create_connection(listening.getsockname()) as last:
                last.sendall(b"\n")
            thread.join()


HOSTILE = {
    "nothing": (b"", "Remote end closed"),
    "rubbish": (b"\xff" * 100, "does not tell"),
    "an error": (b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", "status 500"),
    "no JSON": (b"HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\n{", "no JSON"),
    "a list": (b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n[]", "JSON object"),
    "no version": (b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{}", "version None"),
    "a path as version": (
        b'HTTP/1.1 200 x\r\nContent-Length: 18\r\n\r\n{"value": "../../"}',
        "version",
    ),
    "terabytes": (
        b"HTTP/1.1 200 x\r\nContent-Length: 9999999999999\r\n\r\n" + b" " * 2**21,
        "more than 1048576 bytes",
    ),
    "many headers": (b"HTTP/1.1 200 x\r\n" + b"a: b\r\n" * 1000, "100 headers"),
}


@pytest.mark.parametrize(("octets", "sentence"), HOSTILE.values(), ids=list(HOSTILE))
def test_another_answer_is_a_sentence(octets: bytes, sentence: str) -> None:
    with answering(octets) as address:
        with pytest.raises(ConfigurationError, match=sentence):
            RestConfiguration(address).describe(SeriesStarted("7"))


def test_an_answer_that_drips_ends_in_time() -> None:
    began = monotonic()
    slow = b"HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000
    with answering(slow, pause_s=0.02) as address:
        with pytest.raises(ConfigurationError, match="does not tell"):
            RestConfiguration(address, timeout_s=0.3).describe(SeriesStarted("7"))
    assert monotonic() - began < 5
