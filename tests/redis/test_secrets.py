"""No password of Redis in any output, error, file, process list or key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scanbus.bus.store import connect
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas.exit_codes import ExitCode
from tests.conftest import RedisFactory
from tests.support.roots import made_root
from tests.support.secret_addresses import MALFORMED, SECRET
from tests.support.waiting import found_below, wait_until

pytestmark = pytest.mark.redis

COMMANDS = {
    "ls": [],
    "tail": [],
    "status": ["--json"],
    "close": ["scan"],
    "replay": ["file.h5"],
    "simulate": [],
    "publish files": ["image.edf"],
    "publish resume": ["--spool", "."],
    "writer": ["--root", "."],
}


def said_by(arguments: list[str], folder: Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "scanbus.cli", *arguments],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.sampled(3)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_says_the_password_of_an_address_that_is_none(
    command: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.edf").write_bytes(b"")
    (tmp_path / "file.h5").write_bytes(b"")
    for url in MALFORMED:
        arguments = [*command.split(), *COMMANDS[command]]
        code = main([*arguments, "--redis", url])
        said = capfd.readouterr()
        assert SECRET not in said.out + said.err, url
        assert "Traceback" not in said.err
        assert code in (ExitCode.USAGE, ExitCode.FAILED), said.err
        monkeypatch.setenv("SCANBUS_REDIS", url)
        assert main(arguments) == code
        said = capfd.readouterr()
        assert SECRET not in said.out + said.err, url
        monkeypatch.delenv("SCANBUS_REDIS")


@pytest.mark.parametrize("url", MALFORMED)
def test_a_settings_file_with_a_wrong_address_shows_nothing_of_it(
    tmp_path: Path, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "writer.toml"
    for line in (f"redis = '{url}'", f"redis = ['{url}']", f"redis = '{url}"):
        config.write_text(f"root = '/data'\n{line}\n")
        assert main(["writer", "--config", str(config)]) == ExitCode.USAGE
        said = capfd.readouterr()
        assert SECRET not in said.out + said.err
        assert "Traceback" not in said.err


@pytest.mark.parametrize("place", [["status"], [], ["publish"], ["close", "x"]])
def test_an_address_in_a_wrong_place_is_not_repeated(
    place: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*place, f"redis://:{SECRET} {SECRET}@host"]) == ExitCode.USAGE
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err


@pytest.fixture
def guarded(redis_factory: RedisFactory) -> str:
    """The address of a Redis with a password."""
    server: PrivateRedis = redis_factory({"requirepass": SECRET}, tcp=True)
    return server.tcp_url.replace("redis://", f"redis://:{SECRET}@")


def test_a_whole_run_leaves_the_password_nowhere(guarded: str, tmp_path: Path) -> None:
    root, spool = made_root(tmp_path / "root"), tmp_path / "spool"
    environment = {**os.environ, "SCANBUS_REDIS": guarded}
    command = [sys.executable, "-m", "scanbus.cli", "writer", "--root", str(root)]
    log = tmp_path / "writer.log"
    with log.open("w") as file:
        running = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    said = ""
    try:
        with Publisher(guarded, spool=spool, close_timeout_s=0) as publisher:
            with publisher.scan() as scan:
                scan.channel("a")
                scan.send("a", [1.0, 2.0])
                scan.flush()
                said += files_below(tmp_path)
            scan.verdict(30)
        for arguments in (["status"], ["status", "--json"], ["ls", "--json"], ["tail"]):
            code, text = said_by(arguments, tmp_path, SCANBUS_REDIS=guarded)
            assert code == 0, text
            said += text
        said += process_lists(running.pid)
        with connect(guarded, name="test") as client:
            wait_until(lambda: bool(client.keys("scanbus:writer:*")))
            said += "".join(str(client.dump(key)) for key in client.keys("*"))
            said += str(client.client_list())
    finally:
        running.terminate()
        running.wait(30)
    said += files_below(tmp_path)
    assert "scanbus" in said
    assert SECRET not in said


def files_below(folder: Path) -> str:
    found = (path for path in found_below(folder, "*") if path.is_file())
    return "".join(path.read_bytes().decode("latin-1") for path in found)


def process_lists(pid: int) -> str:
    """Return the command lines of a process and of all its children."""
    said, left = "", [pid]
    while left:
        each = left.pop()
        said += Path(f"/proc/{each}/cmdline").read_bytes().decode()
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            left += map(int, children.read_text().split())
    return said


UNCONFIGURED = """
import sys, time
from scanbus.publisher import Publisher
from scanbus.schemas.logs import get_logger

def work(url):
    publisher = Publisher(url, close_timeout_s=0)
    url = publisher._link.url
    try:
        raise RuntimeError("odd")
    except RuntimeError:
        get_logger().exception("it_failed", scan="1")
    publisher._monitor._send_heartbeats = None
    with publisher.scan() as scan:
        secret_of_the_program = sys.argv[1]
        scan.channel("a")
        scan.send("a", 1.0)
        time.sleep(0.5)

work(sys.argv[1])
"""


def test_tracebacks_of_a_program_that_configures_no_log_show_no_variables(
    guarded: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCONFIGURED, guarded],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "it_failed" in done.stderr
    assert (
        'raise RuntimeError("odd")' in done.stderr or "RuntimeError: odd" in done.stderr
    )
    assert "TypeError" in done.stderr
    assert SECRET not in done.stdout + done.stderr
