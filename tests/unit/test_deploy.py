"""What an operator installs is accepted by the programs that will read it.

systemd-analyze and real Redis servers judge their files themselves. For the image and
the compose file there is no engine in the tests: their shape and their promises are
checked.
"""

import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from benchmarks.harness.stage import ALLOCATOR
from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import MAX_ENTRY_BYTES
from tests.support.redis_binaries import BINARIES

WRITER_UNIT = "systemd/scanbus-writer.service"
REDIS_DROP_IN = "systemd/redis-server.service.d/scanbus.conf"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "deploy"


# ------------------------------------------------------------------------- systemd


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "cat"},
    )


def complaints_about(folder: Path, unit: str) -> list[str]:
    """Return what `systemd-analyze verify` says about our files in `folder`.

    It also loads the machine's own units; their warnings are not ours.
    """
    done = analyze("verify", "--man=no", folder / unit)
    ours = [line for line in done.stderr.splitlines() if str(folder) in line]
    ours += [line for line in done.stderr.splitlines() if line.startswith(unit)]
    return ours or ([done.stderr] if done.returncode else [])


def installed_unit(source: Path, folder: Path) -> Path:
    """Copy the unit with a command that exists: verify looks for the program."""
    program = folder / "scanbus"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = source.read_text().replace("/opt/scanbus/bin/scanbus", str(program))
    unit = folder / source.name
    unit.write_text(text)
    return unit


@needs_systemd
def test_systemd_accepts_the_writers_unit(deploy: Path, tmp_path: Path) -> None:
    unit = installed_unit(deploy / WRITER_UNIT, tmp_path)
    assert complaints_about(tmp_path, unit.name) == []


@needs_systemd
def test_the_check_of_units_would_notice_a_mistake(
    deploy: Path, tmp_path: Path
) -> None:
    unit = installed_unit(deploy / WRITER_UNIT, tmp_path)
    unit.write_text(unit.read_text().replace("RestartSec=2", "RestartSek=2"))
    assert any("RestartSek" in line for line in complaints_about(tmp_path, unit.name))


@needs_systemd
def test_systemd_accepts_the_drop_in_for_redis(deploy: Path, tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    base = f"[Service]\nType=notify\nExecStart={program} /etc/redis/redis.conf\n"
    (tmp_path / "redis-server.service").write_text(base)
    drop_in = tmp_path / "redis-server.service.d" / "scanbus.conf"
    drop_in.parent.mkdir()
    text = (deploy / REDIS_DROP_IN).read_text()
    drop_in.write_text(text.replace("/usr/bin/redis-server", str(program)))
    assert complaints_about(tmp_path, "redis-server.service") == []

    drop_in.write_text(text.replace("OOMScoreAdjust=-900", "OOMScoreAdjust=lots"))
    assert any(
        "lots" in line for line in complaints_about(tmp_path, "redis-server.service")
    )


@needs_systemd
def test_the_writer_is_well_shielded(deploy: Path, tmp_path: Path) -> None:
    unit = installed_unit(deploy / WRITER_UNIT, tmp_path)
    done = analyze("security", "--offline=true", "--threshold=30", unit)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def settings_of(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if match := re.match(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_the_writer_is_always_started_again_and_never_given_up(deploy: Path) -> None:
    unit = settings_of(deploy / WRITER_UNIT)
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["RequiresMountsFor"] == unit["ReadWritePaths"] == ["/data"]


@pytest.mark.redis
def test_the_writer_tells_systemd_that_it_is_ready_and_alive(
    deploy: Path, tmp_path: Path, redis_url: str
) -> None:
    """`Type=notify` and `WatchdogSec` would restart a writer that does not."""
    unit = settings_of(deploy / WRITER_UNIT)
    assert unit["Type"] == ["notify"]
    assert "WatchdogSec" in unit
    (tmp_path / "data").mkdir()
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


def test_the_writers_command_line_is_one_that_the_command_knows(deploy: Path) -> None:
    (command,) = settings_of(deploy / WRITER_UNIT)["ExecStart"]
    options = set(re.findall(r"--[\w-]+", command))
    assert options <= options_of("writer")


def options_of(*command: str) -> set[str]:
    # A wide terminal: no option is cut by an ellipsis.
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    script = "import sys; from scanbus.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"--[\w-]+", done.stdout))


# --------------------------------------------------------------------------- Redis


def active_lines(conf: Path) -> list[str]:
    lines = (line.strip() for line in conf.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


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


def test_the_configuration_needs_no_redis_newer_than_6_2(deploy: Path) -> None:
    newer_than_6_2 = {
        "maxmemory-clients",
        "aof-timestamp-enabled",
        "appenddirname",
        "shutdown-timeout",
        "listpack",
        "enable-debug-command",
    }
    names = {line.split()[0] for line in active_lines(deploy / "redis" / "redis.conf")}
    assert not names & newer_than_6_2


def test_the_configuration_names_no_folder_that_may_be_missing(deploy: Path) -> None:
    """Redis changes to `dir` while it reads; in a container it is another folder."""
    lines = active_lines(deploy / "redis" / "redis.conf")
    assert not any(line.startswith(("dir ", "include ", "aclfile ")) for line in lines)


def test_every_setting_of_redis_is_said_once(deploy: Path) -> None:
    lines = active_lines(deploy / "redis" / "redis.conf")
    limits = [line for line in lines if line.startswith("client-output-buffer-limit")]
    assert len(limits) == 3
    names = [line.split()[0] for line in lines if line not in limits]
    assert sorted(names) == sorted(set(names))


# ------------------------------------------------------------------- image, compose


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    loaded = yaml.safe_load((repository / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    text = text.replace("\\\n", " ")
    found = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return [(name, rest) for name, rest in found]


def test_the_image_is_pinned_staged_and_not_run_as_root(deploy: Path) -> None:
    lines = instructions(deploy / "Dockerfile")
    bases = [rest.split()[0] for name, rest in lines if name == "FROM"]
    assert len(bases) == 2
    # One base: the virtual environment points to the Python that made it.
    assert len(set(bases)) == 1
    assert ":" in bases[0]
    assert not bases[0].endswith(":latest")
    last_stage = lines[max(n for n, line in enumerate(lines) if line[0] == "FROM") :]
    names = [name for name, _ in last_stage]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "HEALTHCHECK" in names
    assert not any(
        re.search(r"apt-get|gcc|pip install", rest)
        for name, rest in last_stage
        if name == "RUN"
    )
    # Exec form: a shell in between would keep SIGTERM to itself.
    assert all(rest.startswith("[") for n, rest in lines if n in ("ENTRYPOINT", "CMD"))


def test_the_image_is_built_from_files_that_exist_and_are_not_ignored(
    deploy: Path, repository: Path
) -> None:
    ignore = (deploy / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    copied: set[str] = set()
    for name, rest in instructions(deploy / "Dockerfile"):
        if name == "COPY" and not rest.startswith("--from"):
            copied |= set(rest.split()[:-1])
    assert copied == kept
    assert all((repository / name).exists() for name in copied)


def test_every_service_that_stays_is_watched_restarted_and_given_time_to_stop(
    compose: dict[str, Any],
) -> None:
    assert set(compose["services"]) == {"redis", "writer", "demo"}
    for name in ("redis", "writer"):
        service = compose["services"][name]
        assert service["restart"] in ("always", "unless-stopped")
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert "stop_grace_period" in service
    assert compose["services"]["demo"]["profiles"] == ["demo"]
    assert compose["services"]["demo"]["restart"] == "no"


def test_the_compose_file_names_files_and_volumes_that_exist(
    compose: dict[str, Any], repository: Path
) -> None:
    build = compose["services"]["writer"]["build"]
    assert (repository / build["dockerfile"]).is_file()
    mounts = [
        re.sub(r"\$\{\w+:-(.*?)\}", r"\1", mount).split(":")[0]
        for service in compose["services"].values()
        for mount in service.get("volumes", [])
    ]
    assert {m for m in mounts if not m.startswith(".")} == set(compose["volumes"])
    assert all((repository / m).is_file() for m in mounts if m.startswith("."))
    for service in compose["services"].values():
        image = service.get("image", "scanbus:0.1.0")
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image)


def test_redis_is_published_to_this_machine_only(compose: dict[str, Any]) -> None:
    ports = compose["services"]["redis"]["ports"]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


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


def test_the_writers_command_in_the_compose_file_is_known(
    compose: dict[str, Any],
) -> None:
    subcommand, *arguments = compose["services"]["writer"]["command"]
    options = {word for word in arguments if word.startswith("--")}
    assert options <= options_of(subcommand)


def test_the_demo_of_the_compose_file_makes_frames_and_publishes_them(
    deploy: Path, tmp_path: Path
) -> None:
    fabio = pytest.importorskip("fabio")
    demo = runpy.run_path(str(deploy / "demo" / "publish_demo.py"))
    frames = demo["write_frames"](tmp_path, n_frames=2, side=64)
    with fabio.open(str(frames[1])) as image:
        assert image.data.shape == (64, 64)
        assert image.data.dtype == "uint16"
        assert image.data.max() > 20
    program, *subcommand = demo["publish_command"](frames)
    assert program == "scanbus"
    options = {word for word in subcommand if word.startswith("--")}
    assert options <= options_of(*subcommand[:2])


# ------------------------------------------------------------------------- Makefile


@pytest.fixture(scope="module")
def make(repository: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    program = shutil.which("make")
    if program is None:
        pytest.skip("there is no make here")
    # The tests themselves may run under `make test`: its flags are not ours.
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "-s", "-f", str(repository / "Makefile"), *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=clean,
        )

    return run


def test_make_help_names_every_target_for_users(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = make(tmp_path, "help")
    assert done.returncode == 0, done.stderr
    for target in ("demo", "test", "lint", "bench", "faults", "clean", "help"):
        assert f"make {target} " in done.stdout


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("exit 127", "scanbus needs Python 3.11 or newer"),  # an empty pyenv shim
        (
            'case "$2" in *version_info\\ \\<*) exit 1;; esac',
            "scanbus needs Python 3.11",
        ),
        ('case "$2" in *ensurepip*) exit 1;; esac', "cannot make virtual environments"),
    ],
)
def test_make_says_in_a_sentence_what_python_lacks(
    python: str,
    sentence: str,
    make: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    (tmp_path / "pyproject.toml").touch()
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    done = make(tmp_path, "demo", f"PYTHON={program}")
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "apt-get install" in done.stderr
    assert not (tmp_path / ".venv").exists()
