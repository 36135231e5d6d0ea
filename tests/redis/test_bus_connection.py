"""Every way to reach a Redis, and a sentence for every way to fail."""

import gc
import shutil
import socket
import subprocess
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
import redis

from scanbus.bus.store import (
    Bus,
    ServerReport,
    connect,
    describe_server,
    no_room_reason,
    ping,
    translated,
)
from scanbus.cli.private_redis import PrivateRedisError
from scanbus.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    BusUnsuitableError,
    ServerAddressError,
)
from tests.conftest import RedisFactory
from tests.redis.conftest import AnyRedis

pytestmark = pytest.mark.redis


def answers(url: str) -> bool:
    with connect(url, name="test") as client:
        return bool(client.ping())


def test_a_server_is_reached_over_its_socket_and_over_tcp(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory(tcp=True)
    assert answers(server.url)
    assert answers(server.tcp_url)
    assert answers(server.tcp_url + "/3")


def test_who_pings_is_connected_or_told_that_nobody_answers(
    any_bus: Bus, free_port: int
) -> None:
    ping(any_bus)
    url = f"redis://127.0.0.1:{free_port}"
    with connect(url, name="test") as client:
        with pytest.raises(BusUnavailableError), translated(url):
            ping(client)


def test_a_client_says_its_name(any_bus: Bus) -> None:
    assert any_bus.client_getname() in {"test", b"test"}


def test_what_a_client_reads_into_goes_with_the_client(
    redis_factory: RedisFactory,
) -> None:
    # A mebibyte each: a writer makes some clients for every scan, for months.
    def parsers() -> int:
        return sum(type(each).__name__.endswith("Parser") for each in gc.get_objects())

    url = redis_factory().url
    gc.collect()
    before = parsers()
    gc.disable()
    try:
        with connect(url, name="test") as client:
            client.ping()
            assert parsers() == before + 1
        del client
        assert parsers() == before
    finally:
        gc.enable()


def test_streams_come_raw(any_bus: Bus) -> None:
    any_bus.xadd("s", {"b": "2", "a": "1"}, id="1-1")
    entry: Any = [b"1-1", [b"b", b"2", b"a", b"1"]]
    assert any_bus.xrange("s") == [entry]
    assert any_bus.xrevrange("s") == [entry]
    assert any_bus.xread({"s": "0"}) == [[b"s", [entry]]]
    with any_bus.pipeline(transaction=False) as pipe:
        pipe.xread({"s": "0"})
        assert pipe.execute() == [[[b"s", [entry]]]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key and a certificate for 127.0.0.1 that it signs itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture
def tls_port(any_redis: AnyRedis, certificate: Path, free_port: int) -> int:
    """The port of a server that speaks TLS only."""
    options: dict[str, str | int] = {
        "tls-port": free_port,
        "tls-cert-file": str(certificate / "cert.pem"),
        "tls-key-file": str(certificate / "key.pem"),
        "tls-auth-clients": "no",
    }
    try:
        any_redis(options)
    except PrivateRedisError as error:
        pytest.skip(f"this server was built without TLS: {error.reason}")
    return free_port


def test_a_server_is_reached_over_tls(tls_port: int, certificate: Path) -> None:
    trusted = f"ssl_ca_certs={certificate / 'cert.pem'}"
    assert answers(f"rediss://127.0.0.1:{tls_port}?{trusted}")


def test_a_certificate_that_nobody_signed_is_refused(tls_port: int) -> None:
    url = f"rediss://user:secret@127.0.0.1:{tls_port}"
    with pytest.raises(BusUnavailableError, match="certificate") as caught:
        with translated(url):
            answers(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_gets_a_sentence(free_port: int) -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port}"
    with connect(url, name="test") as client:
        with pytest.raises(BusUnavailableError) as caught:
            describe_server(client, url)
    text = str(caught.value)
    assert f"127.0.0.1:{free_port}" in text
    assert "secret" not in text
    assert "user" not in text


def test_a_socket_that_is_not_there_gets_a_sentence(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/no.sock?password=secret"
    with connect(url, name="test") as client:
        with pytest.raises(BusUnavailableError, match=r"no\.sock") as caught:
            describe_server(client, url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://secret@host",
        "secret",
        "redis://:secret/slash@host",
        "redis://host:secret",
        "redis://host?secret=5",
        "redis://host?db=secret",
        "redis://a:what?secret@host:1x",
    ],
)
def test_an_address_that_is_none_gets_a_sentence(url: str) -> None:
    with pytest.raises(ServerAddressError, match="not an address of a Redis") as caught:
        connect(url, name="test")
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_password_that_redis_quotes_is_hidden(redis_factory: RedisFactory) -> None:
    server = redis_factory({"rename-command": "AUTH nobody-knows-it"}, tcp=True)
    url = server.tcp_url.replace("redis://", "redis://someone:s3cr%25t@")
    with connect(url, name="test") as client:
        with pytest.raises(BusRefusedError) as caught, translated(url):
            client.ping()
    text = "".join(traceback.format_exception(caught.value))
    assert "unknown command 'AUTH'" in text
    assert "s3cr" not in text


def test_a_wrong_password_and_a_missing_one_get_a_sentence(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory({"requirepass": "right"}, tcp=True)
    address = server.tcp_url.removeprefix("redis://")
    for url in (server.tcp_url, f"redis://:wrong@{address}"):
        with connect(url, name="test") as client:
            with pytest.raises(BusUnavailableError) as caught:
                describe_server(client, url)
        assert "wrong" not in str(caught.value)
    assert answers(f"redis://:right@{address}")


def test_a_user_who_may_not_gets_a_sentence(any_bus: Bus) -> None:
    any_bus.acl_setuser("guest", enabled=True, nopass=True, commands=["+ping"])
    path = any_bus.connection_pool.connection_kwargs["path"]
    url = f"unix://guest:x@{path}"
    with connect(url, name="test") as client:
        with pytest.raises(BusUnsuitableError, match="permissions"):
            describe_server(client, url)


def test_the_report_says_what_weakens_the_promises(any_redis: AnyRedis) -> None:
    server = any_redis({"appendonly": "yes"})
    with connect(server.url, name="test") as client:
        other = describe_server(client, server.url)
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        report = describe_server(client, server.url)

    assert report.version == server.version
    assert (other.maxmemory_bytes, other.evicts, other.persists) == (0, False, True)
    assert [text.split()[:3] for text in other.warnings] == [
        ["Redis", "has", "no"],
    ]
    assert (report.maxmemory_bytes, report.evicts) == (100 * 2**20, True)
    assert [text.split()[:2] for text in report.warnings] == [
        ["Redis", "evicts"],
        ["Redis", "keeps"],
    ]
    assert report.run_id == other.run_id != ""


def test_nothing_is_warned_of_where_all_is_well() -> None:
    assert ServerReport("7.0.0", "x", 2**30, evicts=False, persists=True).warnings == ()


def test_who_connects_once_notices_that_the_connection_was_lost(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory()
    with connect(server.url, name="test", once=True) as client:
        assert client.ping()
        assert client.set("a", "1")
        server.kill()
        with pytest.raises(redis.exceptions.ConnectionError):
            client.ping()
        server.start()
        for _ in range(3):
            with pytest.raises(redis.exceptions.ConnectionError, match="was lost"):
                client.ping()
    with connect(server.url, name="test") as usual:
        assert usual.ping()


def test_who_connects_once_notices_a_loss_between_two_commands(
    redis_factory: RedisFactory,
) -> None:
    """Redis came back empty before anything was sent: a retry would not tell."""
    server = redis_factory()
    with connect(server.url, name="test", once=True) as client:
        assert client.ping()
        server.kill()
        server.start()
        with pytest.raises(redis.exceptions.ConnectionError):
            client.ping()


def test_who_connects_once_may_try_until_it_could(
    redis_factory: RedisFactory,
) -> None:
    server = redis_factory()
    server.kill()
    with connect(server.url, name="test", once=True) as client:
        with pytest.raises(redis.exceptions.ConnectionError):
            client.ping()
        server.start()
        assert client.ping()


def test_a_server_that_is_silent_is_given_up(redis_factory: RedisFactory) -> None:
    server = redis_factory()
    with connect(server.url, name="test", timeout_s=0.3) as client:
        assert client.ping()
        with connect(server.url, name="other") as other:
            other.execute_command("CLIENT", "PAUSE", 1500, "ALL")
        with pytest.raises(BusUnavailableError, match=r"[Tt]imeout"):
            with translated(server.url):
                client.ping()


ERRORS = redis.exceptions


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ERRORS.OutOfMemoryError("command not allowed when used memory"), "OOM"),
        (ERRORS.OutOfMemoryError("OOM command not allowed"), "OOM"),
        (ERRORS.ReadOnlyError("You can't write against a read only replica"), "READO"),
        (ERRORS.BusyLoadingError("Redis is loading the dataset"), "LOADING"),
        (ERRORS.ClusterDownError("Hash slot not served"), "CLUSTERDOWN"),
        (ERRORS.TryAgainError("Multiple keys request"), "TRYAGAIN"),
        (ERRORS.MasterDownError("Link with MASTER is down"), "MASTERDOWN"),
        (ERRORS.ResponseError("MISCONF Redis is configured to save"), "MISCONF"),
        (ERRORS.ResponseError("NOREPLICAS Not enough good replicas"), "NOREPLICAS"),
        (ERRORS.ResponseError("BUSY Redis is busy running a script"), "BUSY"),
        (ERRORS.ResponseError("Error running script: -OOM command not"), "OOM"),
        (ERRORS.ExecAbortError("Transaction discarded because of: OOM x"), "OOM"),
    ],
)
def test_what_passes_with_time_is_known_by_its_word(
    error: Exception, word: str
) -> None:
    reason = no_room_reason(error)
    assert reason is not None
    assert word in reason


@pytest.mark.parametrize(
    "text",
    [
        "BUSYGROUP Consumer Group name already exists",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR unknown command 'ROOM'",
        "",
    ],
)
def test_what_does_not_pass_is_not_waited_for(text: str) -> None:
    assert no_room_reason(redis.exceptions.ResponseError(text)) is None


def test_a_full_server_says_so_through_translated(any_redis: AnyRedis) -> None:
    server = any_redis({"maxmemory": "1kb"})
    with connect(server.url, name="test") as client:
        with pytest.raises(BusUnavailableError, match="OOM"):
            with translated(server.url):
                client.set("a", "1")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ERRORS.ConnectionError("refused"), BusUnavailableError),
        (ERRORS.InvalidResponse("garbage"), BusUnavailableError),
        (ERRORS.ResponseError("UNBLOCKED client unblocked"), BusRefusedError),
        (ERRORS.ResponseError("WHATEVER nobody knows"), BusRefusedError),
        (ERRORS.ResponseError(""), BusRefusedError),
        (ERRORS.NoScriptError("No matching script"), BusRefusedError),
        (ERRORS.WatchError("changed"), BusRefusedError),
        (ERRORS.ReadOnlyError("a replica"), BusUnavailableError),
        (ERRORS.NoPermissionError("no permissions"), BusUnsuitableError),
        (ERRORS.MovedError("1 127.0.0.1:1"), BusUnsuitableError),
        (ERRORS.AskError("1 127.0.0.1:1"), BusUnsuitableError),
        (ERRORS.ClusterCrossSlotError("keys of two slots"), BusUnsuitableError),
    ],
)
def test_no_error_of_redis_passes_untranslated(
    error: Exception, kind: type[BusUnavailableError]
) -> None:
    with pytest.raises(BusUnavailableError) as caught:
        with translated("redis://u:secret@bus"):
            raise error
    assert type(caught.value) is kind
    assert caught.value.reason
    assert "secret" not in str(caught.value)


def test_an_argument_that_cannot_be_sent_is_the_callers_fault(any_bus: Bus) -> None:
    unfit: Any = object()
    with pytest.raises(ERRORS.DataError), translated("redis://bus"):
        any_bus.set("a", unfit)


def test_a_node_of_a_cluster_is_refused(any_redis: AnyRedis) -> None:
    server = any_redis({"cluster-enabled": "yes"})
    with connect(server.url, name="test") as client:
        with pytest.raises(BusUnsuitableError, match="node of a Redis Cluster"):
            describe_server(client, server.url)


def test_a_server_that_is_too_old_is_named(free_port: int) -> None:
    """No server so old is here: one that says so, and nothing else."""
    info = b"redis_version:6.0.16\r\n"
    listener = socket.create_server(("127.0.0.1", free_port))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            while asked := connection.recv(4096):
                if b"INFO\r\n" in asked:
                    connection.sendall(b"$%d\r\n%s\r\n" % (len(info), info))
                else:
                    connection.sendall(b"+OK\r\n" * asked.count(b"*"))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    url = f"redis://127.0.0.1:{free_port}"
    with connect(url, name="test", timeout_s=5) as client:
        with pytest.raises(BusUnsuitableError, match=r"6\.0\.16, at least 6\.2"):
            describe_server(client, url)
    thread.join(5)
    listener.close()
