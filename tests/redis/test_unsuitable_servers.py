"""A server that the bus cannot live on: one sentence at once, by every command."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from scanbus.cli import main
from scanbus.cli.app import app
from scanbus.cli.private_redis import PrivateRedis, find_redis_server
from scanbus.publisher import Publisher
from scanbus.schemas.errors import BusUnsuitableError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from tests.support.redis_proxy import RedisProxy
from tests.support.roots import made_root

pytestmark = pytest.mark.redis

AT_ONCE_S = 5.0


@contextmanager
def cluster_node() -> Iterator[str]:
    with PrivateRedis(options={"cluster-enabled": "yes"}) as server:
        yield server.url


@contextmanager
def server_without_scripts() -> Iterator[str]:
    with PrivateRedis(options={"rename-command": 'EVAL ""'}) as server:
        yield server.url


@contextmanager
def old_server() -> Iterator[str]:
    """A server that says it is an old one: none so old is here."""
    info = b"redis_version:6.0.16\r\nredis_mode:standalone\r\n"
    with PrivateRedis() as server, RedisProxy(server.url) as proxy:
        proxy.answer("INFO", b"$%d\r\n%s\r\n" % (len(info), info), times=None)
        yield proxy.url


@contextmanager
def sentinel(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
    process = subprocess.Popen(
        [find_redis_server(), config, "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


Server = Callable[[], AbstractContextManager[str]]
SERVERS: dict[str, tuple[Server, str]] = {
    "node of a cluster": (cluster_node, "it is a node of a Redis Cluster"),
    "no scripts": (server_without_scripts, "it lacks what the bus needs: EVAL"),
    "too old": (old_server, "version 6.0.16, at least 6.2 is needed"),
}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, list[str]]:
    """The arguments of every command that asks Redis."""
    root = str(made_root(tmp_path / "root"))
    spool = tmp_path / "spool"
    spool.mkdir()
    return {
        "layout": ["last"],
        "ls": [],
        "tail": ["last"],
        "status": [],
        "close": ["1"],
        "writer": ["--root", root],
        "replay": ["1", "--root", str(tmp_path / "again")],
        "simulate": [],
        "publish dectris": ["tcp://127.0.0.1:1"],
        "publish files": [edf(tmp_path)],
        "publish pva": ["T:IMAGE"],
        "publish watch": [str(spool)],
        "publish zmq": ["tcp://127.0.0.1:1"],
        "publish resume": ["--spool", str(spool)],
        "root use": [root],
        "root accept-loss": ["1"],
    }


def edf(folder: Path) -> str:
    path = folder / "a_0001.edf"
    header = (
        "{\nHeaderID = EH:000001:000000:000000;\nByteOrder = LowByteFirst;\n"
        "DataType = UnsignedShort;\nDim_1 = 4;\nDim_2 = 4;\nSize = 32;\n"
    )
    path.write_bytes(header.ljust(1022).encode() + b"}\n" + bytes(32))
    return str(path)


def commands_with_redis(group: Any, above: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_with_redis(command, f"{above}{name} ")
        elif any(one.name == "redis" for one in command.params):
            yield f"{above}{name}"


def test_every_command_that_asks_redis_is_tested_here(
    arguments: dict[str, list[str]],
) -> None:
    assert sorted(commands_with_redis(typer.main.get_command(app))) == sorted(arguments)


def assert_all_refuse(
    url: str, sentence: str, arguments: dict[str, list[str]], capsys: Any
) -> None:
    for command, given in arguments.items():
        started = time.monotonic()
        code = main([*command.split(), *given, "--redis", url])
        taken_s = time.monotonic() - started
        err = capsys.readouterr().err
        assert code == ExitCode.USAGE, (command, err)
        assert sentence in err.strip().splitlines()[-1], command
        assert "Traceback" not in err, command
        assert taken_s < AT_ONCE_S, command
    with pytest.raises(BusUnsuitableError, match=sentence):
        Publisher(url)
    with Subscriber(url) as one, pytest.raises(BusUnsuitableError, match=sentence):
        one.scans()


@pytest.mark.parametrize("kind", SERVERS)
def test_every_command_refuses_a_server_in_one_sentence(
    kind: str, arguments: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    start, sentence = SERVERS[kind]
    with start() as url:
        assert_all_refuse(url, sentence, arguments, capsys)


def test_every_command_refuses_a_sentinel_in_one_sentence(
    tmp_path: Path,
    arguments: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with sentinel(tmp_path) as url:
        assert_all_refuse(url, "it is a Redis Sentinel", arguments, capsys)
