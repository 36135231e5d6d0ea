"""All go on while nobody takes their log."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.support.roots import made_root
from tests.support.waiting import found_below, wait_until
from tests.support.writers import writer, writer_command

pytestmark = pytest.mark.redis

# A page, the least that Linux makes: some scans fill it.
PIPE_BYTES = 4096
N_SCANS = 20


@contextmanager
def pipe_that_nobody_reads() -> Iterator[int]:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield theirs
    os.close(ours)
    os.close(theirs)


@contextmanager
def pipe_whose_reader_died() -> Iterator[int]:
    ours, theirs = os.pipe()
    os.close(ours)
    yield theirs
    os.close(theirs)


@contextmanager
def full_disk() -> Iterator[int]:
    device = os.open("/dev/full", os.O_WRONLY)
    yield device
    os.close(device)


@pytest.mark.parametrize(
    "log", [pipe_that_nobody_reads, pipe_whose_reader_died, full_disk]
)
def test_scans_are_written_while_nobody_takes_the_log(
    redis_url: str, tmp_path: Path, log: Callable[[], AbstractContextManager[int]]
) -> None:
    root = made_root(tmp_path / "root")
    with log() as stderr, connect(redis_url, name="test") as client:
        process = subprocess.Popen(
            [*writer_command(root), "--redis", redis_url], stderr=stderr
        )
        try:
            wait_until(lambda: bool(writers_alive(client)), timeout_s=60)
            with Publisher(redis_url, name="tests") as publisher:
                for number in range(N_SCANS):
                    with publisher.scan() as scan:
                        scan.channel("i0")
                        scan.send("i0", float(number))
                    assert scan.verdict(30).verdict is VerdictWord.COMPLETE
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


PUBLISHES = """
import sys
from scanbus.publisher import Publisher
with Publisher(sys.argv[1], name="tests", close_timeout_s=30) as publisher:
    with publisher.scan() as scan:
        scan.channel("i0")
        for number in range(10):
            scan.send("i0", float(number))
    assert scan.verdict(30).verdict == "complete"
    print(scan.uid)
"""


def test_nobody_else_needs_a_log_either(redis_url: str, tmp_path: Path) -> None:
    """A user's program, and the commands that show their progress."""
    environment = {**os.environ, "SCANBUS_REDIS": redis_url}
    scanbus = [sys.executable, "-m", "scanbus.cli"]

    def done(*command: str) -> str:
        return subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=True,
            text=True,
        ).stdout

    root = made_root(tmp_path / "root")
    with full_disk() as stderr:
        with writer(redis_url, root):
            uid = done(sys.executable, "-c", PUBLISHES, redis_url).strip()
        again = made_root(tmp_path / "again")
        done(*scanbus, "replay", uid, "--root", str(again))
        (master,) = found_below(again, "scan0001.h5")
        done(*scanbus, "check", str(master))
        done(*scanbus, "master", "rebuild", "--root", str(again))
        done(*scanbus, "writer", "--root", str(root), "--once")
        done(*scanbus, "simulate", "--points", "9", "--frames", "9")
