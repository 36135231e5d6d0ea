"""Workers of the pool: in processes as in threads, they write what they are told."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from scanbus.bus.store import (
    Lease,
    LoopGuard,
    acquire_lease,
    connect,
    read_cursor,
    renew_lease,
    take_bus_id,
)
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import WorkerFailedError
from scanbus.writer import WriterSettings, steps
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.service import worker_pool
from scanbus.writer.service.lease_renewal import renew_stale
from scanbus.writer.service.worker_channel import AttemptOrder, Outcome
from scanbus.writer.service.worker_pool import (
    Launch,
    WorkerPool,
    launch_process,
    launch_thread,
)
from tests.support.mixed_scan import fill, whole_scan
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import wait_until

pytestmark = pytest.mark.redis

LAUNCHES = {"process": launch_process, "thread": launch_thread(ScanWriter)}


@pytest.fixture(params=sorted(LAUNCHES))
def launch(request: pytest.FixtureRequest) -> Launch:
    return LAUNCHES[request.param]


Make = Callable[..., WorkerPool]


@pytest.fixture
def make(redis_url: str, tmp_path: Path) -> Iterator[Make]:
    """Open a pool that is ready; it is killed at the end."""
    pools: list[WorkerPool] = []

    def made(launch: Launch, **settings: Any) -> WorkerPool:
        given = WriterSettings.load(
            redis=redis_url, root=made_root(tmp_path), **settings
        )
        with connect(redis_url, name="test") as client:
            take_bus_id(client, "bus")  # A service does it.
        pool = WorkerPool(given, launch=launch)
        pools.append(pool)
        pool.open()
        pool.wait_ready()
        return pool

    yield made
    for pool in pools:
        pool.stop(time.monotonic() + 10)
        pool.kill()


def is_ready(pool: WorkerPool) -> bool:
    """Whether a worker is ready, after a round of the service."""
    pool.look_after()
    return pool.is_ready


class Attempt:
    """One attempt of a scan, as the service orders it."""

    def __init__(self, pool: WorkerPool, scan: RawScan) -> None:
        lease = acquire_lease(scan.client, scan.uid, "test", 10_000)
        assert lease is not None
        self.lease: Lease = lease
        self.outcomes: list[Outcome] = []
        self.running = pool.start(
            lease,
            self.outcomes.append,
            lambda number: AttemptOrder(number, scan.identity, scan.title, lease.fence),
        )

    def outcome(self, pool: WorkerPool) -> Outcome:
        """Wait for the outcome, as the service waits."""

        def ended() -> bool:
            pool.look_after()
            return bool(self.outcomes)

        wait_until(ended)
        (outcome,) = self.outcomes
        return outcome


def test_a_scan_is_written_and_its_lease_given_back(launch: Launch, make: Make) -> None:
    pool = make(launch)
    scan = whole_scan(pool._settings.redis)

    attempt = Attempt(pool, scan)
    outcome = attempt.outcome(pool)

    assert outcome.verdict is not None
    assert outcome.verdict.verdict is VerdictWord.COMPLETE
    assert outcome.last_event != "0-0"
    assert not outcome.has_died
    assert read_cursor(scan.client, scan.uid, "eiger") > 0
    assert not renew_lease(scan.client, attempt.lease, 1000)


def test_several_scans_are_written_at_once(launch: Launch, make: Make) -> None:
    pool = make(launch, workers=2)
    wait_until(lambda: len(pool.pids) == 2)
    scans = [whole_scan(pool._settings.redis, number=number) for number in range(1, 7)]

    attempts = [Attempt(pool, scan) for scan in scans]

    per_worker = {id(each.running.link) for each in attempts}
    assert len(per_worker) == 2
    outcomes = [each.outcome(pool) for each in attempts]
    assert {str(each.verdict and each.verdict.verdict) for each in outcomes} == {
        "complete"
    }


def test_a_stopped_pool_ends_its_attempts_in_order(launch: Launch, make: Make) -> None:
    pool = make(launch)
    scan = fill(RawScan(pool._settings.redis).prepare(), 0.0, 0.5)
    attempt = Attempt(pool, scan)
    wait_until(lambda: read_cursor(scan.client, scan.uid, "eiger") >= 20)

    pool.stop(time.monotonic() + 20)

    assert attempt.outcomes[0].verdict is None
    assert attempt.outcomes[0].problem == ""
    assert not attempt.outcomes[0].has_died
    assert not renew_lease(scan.client, attempt.lease, 1000)
    assert not pool.is_ready


def test_an_attempt_whose_lease_is_gone_says_so(launch: Launch, make: Make) -> None:
    pool = make(launch, lease_s=0.4)
    scan = RawScan(pool._settings.redis).prepare()
    attempt = Attempt(pool, scan)

    attempt.running.authority.release()

    assert "the lease with fence" in attempt.outcome(pool).problem


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_dies_is_replaced_and_its_attempt_ends(
    make: Make, number: signal.Signals
) -> None:
    pool = make(launch_process)
    scan = RawScan(pool._settings.redis).prepare()
    attempt = Attempt(pool, scan)
    (pid,) = pool.pids

    psutil.Process(pid).send_signal(number)
    outcome = attempt.outcome(pool)

    assert outcome.has_died
    assert number.name in outcome.problem
    assert not renew_lease(scan.client, attempt.lease, 1000)
    wait_until(partial(is_ready, pool))
    assert pool.pids != [pid]


def test_a_worker_that_is_silent_is_not_given_leases_and_is_killed(make: Make) -> None:
    pool = make(launch_process, lease_s=0.4, worker_silence_s=1.5)
    scan = RawScan(pool._settings.redis).prepare()
    attempt = Attempt(pool, scan)
    wait_until(lambda: attempt.running.link.n_attempts)
    (pid,) = pool.pids

    psutil.Process(pid).suspend()

    assert "has been silent" in wait_until(lambda: attempt.running.trouble)
    assert not pool.is_ready
    renew_stale(scan.client, [attempt.running], LoopGuard("test", ""))
    outcome = attempt.outcome(pool)
    assert outcome.has_died
    assert "SIGKILL" in outcome.problem


def test_workers_that_cannot_start_are_named(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path))
    pool = WorkerPool(settings)
    pool.open()

    with pytest.raises(WorkerFailedError, match="exit code 1"):
        pool.wait_ready()
    pool.kill()


def test_a_worker_that_dies_at_every_start_is_tried_less_and_less_often(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(launch_process)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    psutil.Process(pool.pids[0]).kill()
    n_before = pool._n_launched

    deadline = time.monotonic() + 4
    said = set()
    while time.monotonic() < deadline:
        pool.look_after()
        said |= {text.partition(";")[0] for text in pool.problems}
        time.sleep(0.01)

    assert said == {"a worker ended soon after its start (exit code 1)"}
    assert 2 <= pool._n_launched - n_before <= 6
    monkeypatch.undo()
    wait_until(partial(is_ready, pool))
    assert not pool.problems
    assert worker_pool._LONGEST_PAUSE_S <= 30


class FileAccess:
    """Files that are touched by threads of an attempt while nothing watches them.

    There is one per session, since an audit hook cannot be removed.
    """

    EVENTS = frozenset(
        (
            "open",
            "os.link",
            "os.listdir",
            "os.mkdir",
            "os.remove",
            "os.rename",
            "os.rmdir",
            "os.scandir",
            "os.truncate",
        )
    )

    OTHERS = frozenset({"scanbus-list", "scanbus-replaced"})

    def __init__(self) -> None:
        self.root: Path | None = None
        self.n_watched = 0
        self.unwatched: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root is None or event not in self.EVENTS:
            return
        if str(self.root) not in str(arguments[0]):
            return
        thread = threading.current_thread()
        if thread is threading.main_thread() or thread.name in self.OTHERS:
            return  # The test itself; and what no scan waits for.
        watched = getattr(steps._watched, "steps", None)
        if watched is not None and thread.ident in watched._current:
            self.n_watched += 1
        else:
            self.unwatched.append(f"{event}{arguments[:1]} in {thread.name}")


@pytest.fixture(scope="session")
def file_access() -> FileAccess:
    return FileAccess()


def test_a_thread_that_touches_files_is_watched(
    make: Make, tmp_path: Path, file_access: FileAccess
) -> None:
    pool = make(LAUNCHES["thread"], wanted_sources=2, master_s=0.01)
    file_access.root = tmp_path
    try:
        scan = whole_scan(pool._settings.redis)
        outcome = Attempt(pool, scan).outcome(pool)
    finally:
        file_access.root = None
    assert outcome.verdict is not None
    assert outcome.verdict.verdict is VerdictWord.COMPLETE
    assert any(found_below(tmp_path, "eiger_0000-*.h5"))  # Some were joined.
    assert file_access.n_watched > 100
    assert file_access.unwatched == []
