"""What an operator installs: the shape and the promises of its files.

The programs that will read them judge them in tests/process and tests/redis. For the
image and the compose file there is no engine in the tests.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deployment import WRITER_UNIT, settings_of


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "deploy"


def test_the_writer_is_always_started_again_and_never_given_up(deploy: Path) -> None:
    unit = settings_of(deploy / WRITER_UNIT)
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["RequiresMountsFor"] == unit["ReadWritePaths"] == ["/data"]


def active_lines(conf: Path) -> list[str]:
    lines = (line.strip() for line in conf.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


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
