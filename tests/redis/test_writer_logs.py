"""A writer goes on while nobody takes its log."""

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.support.roots import made_root
from tests.support.waiting import wait_until
from tests.support.writers import writer_command

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
