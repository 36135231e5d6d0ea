"""Real Redis servers accept the files of deploy/; a writer tells systemd of itself."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from benchmarks.harness.stage import ALLOCATOR
from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import MAX_ENTRY_BYTES
from tests.support.deployment import REDIS_DROP_IN, WRITER_UNIT, settings_of
from tests.support.redis_binaries import BINARIES
from tests.support.roots import made_root


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "deploy"


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    loaded = yaml.safe_load((repository / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.redis
def test_the_writer_tells_systemd_that_it_is_ready_and_alive(
    deploy: Path, tmp_path: Path, redis_url: str
) -> None:
    """`Type=notify` and `WatchdogSec` would restart a writer that does not."""
    unit = settings_of(deploy / WRITER_UNIT)
    assert unit["Type"] == ["notify"]
    assert "WatchdogSec" in unit
    made_root(tmp_path / "data")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "2000000",
            "SCANBUS_ROOT": str(tmp_path / "data"),
        }
        script = "import sys; from scanbus.cli import main; sys.exit(main())"
        writer = subprocess.Popen(
            [sys.executable, "-c", script, "writer", "--redis", redis_url],
            env=environment,
        )
        with writer:
            try:
                said = ""
                while "READY=1" not in said or "WATCHDOG=1" not in said:
                    said += systemd.recv(4096).decode() + "\n"
                writer.terminate()
                assert writer.wait(timeout=30) == 0
            finally:
                writer.kill()


@pytest.mark.redis
@pytest.mark.parametrize("binary", BINARIES.values(), ids=list(BINARIES))
def test_redis_starts_with_our_configuration_and_takes_it_over(
    deploy: Path, private_redis_options: dict[str, str | int], binary: Path
) -> None:
    """Every server that is here judges it: 6.2 from the wheel, Debian's 7.0."""
    conf = deploy / "redis" / "redis.conf"
    options = private_redis_options
    with PrivateRedis(config=conf, options=options, binary=binary) as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert client.config_get("maxmemory-policy") == {
                "maxmemory-policy": "noeviction"
            }
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            assert client.config_get("stream-node-max-bytes") == {
                "stream-node-max-bytes": "4096"
            }
            limits = client.config_get("client-output-buffer-limit")
            normal = f"normal {1 << 30} {256 << 20} 30"
            assert normal in limits["client-output-buffer-limit"]
            assert client.info("persistence")["aof_enabled"] == 1


@pytest.mark.redis
def test_redis_refuses_values_that_no_entry_may_have(deploy: Path) -> None:
    conf = deploy / "redis" / "redis.conf"
    options = {"maxmemory": "2gb", "appendonly": "no"}
    with PrivateRedis(config=conf, options=options) as server:
        with redis.Redis.from_url(server.url) as client:
            said = client.config_get("proto-max-bulk-len")
            assert said == {"proto-max-bulk-len": str(MAX_ENTRY_BYTES)}
        with socket.socket(socket.AF_UNIX) as anybody:
            # What is said of its length is enough: nothing of it is sent.
            anybody.connect(server.url.removeprefix("unix://").partition("?")[0])
            anybody.settimeout(5)
            begin = b"*5\r\n$4\r\nXADD\r\n$4\r\nlane\r\n$3\r\n0-1\r\n$1\r\np\r\n"
            anybody.sendall(begin + b"$%d\r\n" % (MAX_ENTRY_BYTES + 1))
            assert b"invalid bulk length" in anybody.recv(200)


@pytest.fixture
def private_redis_options() -> dict[str, str | int]:
    return {"maxmemory": "64mb", "appendonly": "yes", "unixsocketperm": 700}


def test_redis_keeps_the_memory_of_large_entries_wherever_it_runs(
    deploy: Path, compose: dict[str, Any]
) -> None:
    drop_in = (deploy / REDIS_DROP_IN).read_text(encoding="utf-8")
    (told,) = re.findall(r"^Environment=MALLOC_CONF=(\S+)$", drop_in, re.MULTILINE)
    assert compose["services"]["redis"]["environment"] == {"JE_MALLOC_CONF": told}
    assert set(ALLOCATOR.values()) == {told}
    assert "Invalid" not in _said_by_jemalloc(told)
    if not _said_by_jemalloc("no_such_option:1"):
        pytest.skip(
            "this Redis has another allocator, or a jemalloc that reads nothing"
        )


def _said_by_jemalloc(told: str) -> str:
    environment = {"MALLOC_CONF": told, "JE_MALLOC_CONF": told}
    with PrivateRedis(environment=environment) as server:
        return (server.folder / "redis.err").read_text()


@pytest.mark.redis
def test_redis_accepts_the_arguments_that_the_compose_file_adds(
    compose: dict[str, Any], deploy: Path, tmp_path: Path
) -> None:
    arguments = compose["services"]["redis"]["command"][2:]
    names = [argument[2:] for argument in arguments[0::2]]
    values = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for value in arguments[1::2]]
    options: dict[str, str | int] = dict(zip(names, values, strict=True))
    assert options.pop("dir") == "/data"  # a private server has its own
    assert options.pop("unixsocket") == "/tmp/redis.sock"
    options["bind"] = "127.0.0.1"
    conf = deploy / "redis" / "redis.conf"
    with PrivateRedis(config=conf, options=options) as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(2 << 30)}
