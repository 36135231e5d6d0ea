"""systemd and our own command accept the files of deploy/."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deployment import (
    GATEWAY_UNIT,
    REDIS_DROP_IN,
    WRITER_UNIT,
    settings_of,
)

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "deploy"


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    loaded = yaml.safe_load((repository / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


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
@pytest.mark.parametrize("name", [WRITER_UNIT, GATEWAY_UNIT])
def test_systemd_accepts_the_units(deploy: Path, tmp_path: Path, name: str) -> None:
    unit = installed_unit(deploy / name, tmp_path)
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
@pytest.mark.parametrize("name", [WRITER_UNIT, GATEWAY_UNIT])
def test_services_are_well_shielded(deploy: Path, tmp_path: Path, name: str) -> None:
    unit = installed_unit(deploy / name, tmp_path)
    done = analyze("security", "--offline=true", "--threshold=30", unit)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_writers_command_line_is_one_that_the_command_knows(deploy: Path) -> None:
    (command,) = settings_of(deploy / WRITER_UNIT)["ExecStart"]
    options = set(re.findall(r"--[\w-]+", command))
    assert options <= options_of("writer")


def test_the_gateways_command_line_is_one_that_the_command_knows(
    deploy: Path,
) -> None:
    (command,) = settings_of(deploy / GATEWAY_UNIT)["ExecStart"]
    (example,) = re.findall(
        "^#   GATEWAY=(.*)$", (deploy / GATEWAY_UNIT).read_text(), re.MULTILINE
    )
    options = set(re.findall(r"--[\w-]+", f"{command} {example}"))
    assert options <= options_of("publish", example.split()[0])


@pytest.mark.parametrize("kind", ["dectris", "zmq", "pva", "watch"])
def test_each_kind_of_gateway_knows_the_options_of_the_unit(
    deploy: Path, kind: str
) -> None:
    (command,) = settings_of(deploy / GATEWAY_UNIT)["ExecStart"]
    options = set(re.findall(r"--[\w-]+", command))
    assert options
    assert options <= options_of("publish", kind)


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
