"""Errors that nobody foresaw, of Redis or of the process, and a publisher.

An error ends an attempt, or the one scan that it hits, visibly; never the publisher.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import BusRefusedError, BusUnsuitableError, ScanStateError
from scanbus.schemas.log_events import LogEvent
from tests.support.process_limits import no_more_threads
from tests.support.redis_proxy import (
    BROKEN_REPLIES,
    CLOSE,
    ERRORS,
    WRONG_REPLIES,
    RedisProxy,
)
from tests.support.writers import WriterProcess, wait_until, writer

pytestmark = pytest.mark.redis


@pytest.fixture
def proxy(redis_url: str) -> Iterator[RedisProxy]:
    with RedisProxy(redis_url) as one:
        yield one


def declare(scan: Scan) -> None:
    scan.channel("th", role="axis")
    scan.detector("cam", shape=(64, 64), dtype="uint16")


def send_points(scan: Scan, start: int, stop: int, pause_s: float = 0.0) -> None:
    for point in range(start, stop):
        scan.send("th", float(point))
        scan.send("cam", np.full((64, 64), point, np.uint16))
        time.sleep(pause_s)


def threads() -> set[str]:
    names = (thread.name.split("-") for thread in threading.enumerate())
    return {name[1] for name in names if name[0] == "scanbus"}


# What a publisher asks after its start, and while a scan runs.
COMMANDS = ["XADD", "EVAL", "HGET", "EXEC", "*"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["UNBLOCKED", "NOPERM", "WRONGTYPE", "MOVED", "empty"])
def test_an_error_for_half_a_second_costs_nothing(
    proxy: RedisProxy, tmp_path: Path, name: str
) -> None:
    with running_writer(proxy.url, tmp_path), Publisher(proxy.url) as publisher:
        for command in COMMANDS:
            with publisher.scan() as scan:
                declare(scan)
                send_points(scan, 0, 20)
                fault = proxy.answer(command, ERRORS[name], times=None)
                send_points(scan, 20, 70, 0.01)
                fault.stop()
                send_points(scan, 70, 90)
            check_whole(scan, 90)
        assert "monitor" in threads()


@contextmanager
def running_writer(url: str, root: Path) -> Iterator[WriterProcess]:
    """Run a writer; begin when it has found Redis as it should be."""
    with connect(url, name="test") as client, writer(url, root) as one:
        wait_until(lambda: writers_alive(client))
        yield one


def check_whole(scan: Scan, n_points: int) -> None:
    verdict = scan.verdict()
    assert verdict.verdict is VerdictWord.COMPLETE
    assert {each.written for each in verdict.channels.values()} == {n_points}


def test_an_unknown_error_is_logged_once(proxy: RedisProxy) -> None:
    with capture_logs() as logs, Publisher(proxy.url, close_timeout_s=0.2) as publisher:
        with publisher.scan() as scan:
            declare(scan)
            send_points(scan, 0, 1)
            fault = proxy.answer("HGET", ERRORS["SOMETHING"], times=None)
            wait_until(lambda: fault.n_answered > 2)
            fault.stop()
    repeated = [each for each in logs if each["event"] == LogEvent.ATTEMPT_REPEATED]
    assert [each["what"] for each in repeated] == ["read cursors"]


@pytest.mark.parametrize("command", ["INCRBY", "EVAL", "HGETALL", "EXISTS"])
def test_opening_waits_for_an_unknown_error_to_pass(
    proxy: RedisProxy, command: str
) -> None:
    with Publisher(proxy.url, close_timeout_s=0.2) as publisher:
        proxy.answer(command, ERRORS["SOMETHING"], times=3)
        with publisher.scan() as scan:
            declare(scan)
            send_points(scan, 0, 1)


def test_opening_names_an_error_that_stays(proxy: RedisProxy) -> None:
    with Publisher(proxy.url, close_timeout_s=0.2, send_deadline_s=0.5) as publisher:
        fault = proxy.answer("EVAL", ERRORS["SOMETHING"], times=None)
        with pytest.raises(BusRefusedError, match="nobody knows"):
            publisher.scan().__enter__()
        fault.stop()
        with publisher.scan() as scan:
            declare(scan)
            send_points(scan, 0, 1)


def test_a_node_of_a_cluster_is_named(proxy: RedisProxy) -> None:
    with Publisher(proxy.url, close_timeout_s=0.2) as publisher:
        proxy.answer("EVAL", ERRORS["MOVED"], times=None)
        with pytest.raises(BusUnsuitableError, match="node of a Redis Cluster"):
            publisher.scan().__enter__()


def test_a_scan_without_threads_fails_at_once_and_the_next_one_works(
    redis_url: str, tmp_path: Path
) -> None:
    with running_writer(redis_url, tmp_path), Publisher(redis_url) as publisher:
        scan = publisher.scan().__enter__()
        declare(scan)
        with no_more_threads(), pytest.raises(RuntimeError):
            scan.send("th", 1.0)
        with pytest.raises(RuntimeError, match="start new thread"):
            scan.send("th", 2.0)
        with pytest.raises(RuntimeError, match="start new thread"):
            scan.__exit__(None, None, None)
        with publisher.scan() as another:
            declare(another)
            send_points(another, 0, 3)
        assert another.verdict().verdict is VerdictWord.COMPLETE


def test_frames_are_packed_where_no_thread_can_be_started(
    redis_url: str, tmp_path: Path
) -> None:
    with running_writer(redis_url, tmp_path), Publisher(redis_url) as publisher:
        with publisher.scan() as scan:
            declare(scan)
            scan.prepare()
            with no_more_threads():
                send_points(scan, 0, 20)
            send_points(scan, 20, 40)
        verdict = scan.verdict()
        assert verdict.verdict is VerdictWord.COMPLETE
        assert verdict.channels["cam"].written == 40


def test_a_publisher_that_cannot_start_leaves_no_thread(redis_url: str) -> None:
    before = threads()
    with no_more_threads(), pytest.raises(RuntimeError, match="start new thread"):
        Publisher(redis_url)
    assert threads() == before


def test_a_publisher_whose_monitor_is_gone_refuses_scans(redis_url: str) -> None:
    with capture_logs() as logs, Publisher(redis_url) as publisher:
        scan, wanted = publisher.scan().__enter__(), publisher.scan()
        declare(scan)
        send_points(scan, 0, 1)
        end_thread("scanbus-monitor", SystemExit)
        wait_until(lambda: "monitor" not in threads())
        with pytest.raises(ScanStateError, match="monitor has failed"):
            scan.send("th", 1.0)
        with pytest.raises(ScanStateError, match="monitor has failed"):
            scan.__exit__(None, None, None)
        with pytest.raises(ScanStateError, match="threads have failed"):
            wanted.__enter__()
    assert LogEvent.MONITOR_FAILED in {each["event"] for each in logs}


def end_thread(name: str, error: type[BaseException]) -> None:
    """Raise an error in a thread, as nothing that Python does itself ends it."""
    (thread,) = (each for each in threading.enumerate() if each.name == name)
    assert thread.ident is not None
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(error)
    )
    assert raised == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("command", ["XADD", "EVAL", "HGET", "XREAD", "EXEC"])
def test_a_reply_of_the_wrong_type_costs_nothing(
    proxy: RedisProxy, tmp_path: Path, redis_url: str, command: str
) -> None:
    with running_writer(redis_url, tmp_path), Publisher(proxy.url) as publisher:
        for reply in (*WRONG_REPLIES, *BROKEN_REPLIES, CLOSE):
            with publisher.scan() as scan:
                declare(scan)
                send_points(scan, 0, 20)
                fault = proxy.answer(command, reply, times=5)
                send_points(scan, 20, 70, 0.005)
                fault.stop()
            check_whole(scan, 70)
        assert "monitor" in threads()
