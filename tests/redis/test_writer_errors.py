"""Errors that nobody foresaw, of Redis or of the process, do not end the writer."""

import resource
import time
from pathlib import Path
from typing import Any

import pytest

from scanbus.bus.store import Bus, connect, writers_alive
from scanbus.schemas import VerdictWord
from tests.support.mixed_scan import fill, whole_scan
from tests.support.raw_publisher import RawScan
from tests.support.writers import WriterProcess, final_verdict, wait_until, writer

pytestmark = pytest.mark.redis


def is_idle(client: Bus) -> bool:
    """Whether a writer waits for announcements."""
    return any(each["cmd"] == "xread" for each in writer_clients(client))


def writer_clients(client: Bus) -> list[dict[str, str]]:
    return [each for each in client.client_list() if each["name"] == "scanbus-writer"]


def test_a_wait_that_redis_ends_with_an_error_does_not_end_the_writer(
    redis_url: str, tmp_path: Path
) -> None:
    with connect(redis_url, name="test") as client, writer(redis_url, tmp_path) as one:
        for _ in range(3):
            wait_until(lambda: is_idle(client))
            for each in writer_clients(client):
                client.client_unblock(int(each["id"]), error=True)
        scan = whole_scan(redis_url)
        verdict = final_verdict(redis_url, scan.uid)
        assert verdict.verdict is VerdictWord.COMPLETE
        assert one.leave() == 0
    assert one.said.count("UNBLOCKED") >= 1


def test_a_writer_goes_on_when_it_has_its_rights_back(
    redis_url: str, tmp_path: Path
) -> None:
    with connect(redis_url, name="test") as client:
        allow(client, "+@all")
        socket = client.connection_pool.connection_kwargs["path"]
        with writer(f"unix://beamline:x@{socket}", tmp_path) as one:
            wait_until(lambda: writers_alive(client))
            for denied in ("-eval", "-xread", "-info", "-hset", "-@all"):
                allow(client, denied)
                time.sleep(0.5)
                allow(client, "+@all")
            scan = whole_scan(redis_url)
            verdict = final_verdict(redis_url, scan.uid)
            assert verdict.verdict is VerdictWord.COMPLETE
            assert one.leave() == 0
    assert "permissions" in one.said


def allow(client: Bus, commands: str) -> None:
    """Set what the user of the writer may do; only its next commands notice."""
    client.acl_setuser("beamline", enabled=True, nopass=True, keys=["*"])
    run: Any = client.execute_command
    run("ACL", "SETUSER", "beamline", "+@all", commands)


def limit_memory(process: WriterProcess, more: int | None) -> None:
    """Let its worker map so many bytes more than now; None for no limit."""
    (worker,) = process.workers
    pid = worker.pid
    limit = resource.RLIM_INFINITY
    if more is not None:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def test_a_writer_that_can_start_no_thread_waits_until_it_can(
    redis_url: str, tmp_path: Path
) -> None:
    with connect(redis_url, name="test") as client:
        with writer(redis_url, tmp_path) as one:
            wait_until(lambda: writers_alive(client))
            # A thread needs 8 MiB for its stack. One is left of an earlier thread:
            # the scan's thread takes it, and then there is none for other threads.
            limit_memory(one, 4 << 20)
            scan = RawScan(redis_url).prepare()
            time.sleep(5)
            assert one.process.poll() is None
            assert writers_alive(client)
            limit_memory(one, None)
            fill(scan).end()
            verdict = final_verdict(redis_url, scan.uid)
            assert verdict.verdict is VerdictWord.COMPLETE
            assert one.leave() == 0
