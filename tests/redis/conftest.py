"""Every kind of Redis that this machine has: what must hold, must hold on all."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from scanbus.bus.store import Bus, connect
from scanbus.cli.private_redis import PrivateRedis
from tests.support.redis_binaries import BINARIES


class AnyRedis(Protocol):
    """Start a server of the kind that is being tested."""

    def __call__(
        self, options: Mapping[str, str | int] | None = None
    ) -> PrivateRedis: ...


@pytest.fixture(params=BINARIES.values(), ids=list(BINARIES), scope="session")
def redis_binary(request: pytest.FixtureRequest) -> Path:
    """One server binary after the other."""
    binary: Path = request.param
    return binary


@pytest.fixture(scope="session")
def _shared_kind(redis_binary: Path) -> Iterator[PrivateRedis]:
    with PrivateRedis(binary=redis_binary) as server:
        yield server


@pytest.fixture
def any_bus(_shared_kind: PrivateRedis) -> Iterator[Bus]:
    """A client of an empty Redis of each kind."""
    with connect(_shared_kind.url, name="test") as client:
        client.flushall()
        yield client


@pytest.fixture
def any_redis(redis_binary: Path) -> Iterator[AnyRedis]:
    """Start servers with options of their own, of each kind."""
    with ExitStack() as stack:

        def start(options: Mapping[str, str | int] | None = None) -> PrivateRedis:
            return stack.enter_context(
                PrivateRedis(options=options, binary=redis_binary)
            )

        yield start


@pytest.fixture
def server() -> Iterator[PrivateRedis]:
    """A Redis of its own, for tests that empty or stop it."""
    with PrivateRedis() as one:
        yield one


@pytest.fixture
def client(server: PrivateRedis) -> Iterator[Bus]:
    """A client of that."""
    with connect(server.url, name="test") as one:
        yield one


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the detector writes; the writer may look there."""
    folder = tmp_path / "detector"
    folder.mkdir()
    monkeypatch.setenv("SCANBUS_EXTERNAL_ROOTS", str(folder))
    monkeypatch.setenv("SCANBUS_REFERENCE_WAIT_S", "0")
    return folder


@pytest.fixture
def one_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have writers make one master of a scan that runs: each ends the open segment."""
    monkeypatch.setenv("SCANBUS_MASTER_S", "600")
