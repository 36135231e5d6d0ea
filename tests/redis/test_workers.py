"""The writer's worker processes die, hang and are killed: the service lives on."""

import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from scanbus.bus.protocol import attempts_key
from scanbus.bus.store import Bus, connect, read_cursor, writers_alive
from scanbus.schemas import VerdictWord
from scanbus.writer import replay
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS, FAILPOINTS_VARIABLE
from tests.support.long import long_but
from tests.support.mixed_scan import N_POINTS, fill
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.trees import differences
from tests.support.writers import (
    WriterProcess,
    final_verdict,
    wait_until,
    writer,
    writer_command,
)

pytestmark = [pytest.mark.redis, pytest.mark.faults]

DEATHS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGBUS)
# Not of the service itself, and not those of joins, which take many segments.
# Steps that a scan may not come to.
UNUSED = ("trim.", "renumber.", "join_")
OF_ANY_SCAN = [name for name in FAILPOINTS if not name.startswith(UNUSED)]


def the_worker(one: WriterProcess) -> psutil.Process:
    """Return the worker of a writer, once it is ready."""
    found: list[psutil.Process] = wait_until(lambda: one.workers)
    (worker,) = found
    return worker


def send_rest(scan: RawScan) -> None:
    fill(scan, scan.reached["g"] / N_POINTS, 1.0)
    scan.end()


def assert_complete(url: str, root: Path, scan: RawScan) -> None:
    """Check verdict and files against what an undisturbed writer makes."""
    verdict = final_verdict(url, scan.uid, 60)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    replay(url, scan.uid, root.with_name("again"))
    assert differences(root, root.with_name("again")) == []


def test_workers_that_die_at_random_leave_the_files_of_an_undisturbed_run(
    redis_url: str, tmp_path: Path
) -> None:
    chance = random.Random(1)
    root = tmp_path / "live"
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root) as one:
        wait_until(lambda: writers_alive(scan.client))
        for number in range(6):
            fill(scan, number * 0.15, (number + 1) * 0.15)
            worker = the_worker(one)
            time.sleep(chance.uniform(0.0, 0.8))
            worker.send_signal(chance.choice(DEATHS))
            wait_until(partial(is_gone, one, worker.pid))
        send_rest(scan)
        assert_complete(redis_url, root, scan)
        assert one.leave() == 0
    assert one.said.count('"worker_died"') == 6


def is_gone(one: WriterProcess, pid: int) -> bool:
    return pid not in {worker.pid for worker in one.workers}


@pytest.mark.parametrize("failpoint", long_but({"link.after"}, OF_ANY_SCAN))
def test_a_worker_killed_at_any_failpoint_is_replaced(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failpoint: str,
) -> None:
    hits = tmp_path / "hits"
    monkeypatch.setenv(FAILPOINTS_VARIABLE, f"{failpoint}=kill@1")
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(hits))
    root = tmp_path / "live"
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root) as one:
        send_rest(scan)
        assert_complete(redis_url, root, scan)
        assert one.leave() == 0
    assert f"{failpoint} 1 kill" in hits.read_text()
    assert one.said.count('"worker_died"') == 1


def test_workers_end_with_their_service_however_it_ends(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url).prepare(), 0.0, 0.5)
    with writer(redis_url, tmp_path) as one:
        worker = the_worker(one)
        wait_until(lambda: read_cursor(scan.client, scan.uid, "eiger") >= 20)
        worker.suspend()  # It cannot notice anything by itself.
        one.kill()
        assert psutil.wait_procs([worker], timeout=5)[1] == []
    with writer(redis_url, tmp_path) as one:
        worker = the_worker(one)
        wait_until(lambda: any(".h5" in file.path for file in worker.open_files()))
        assert one.leave() == 0
        assert psutil.wait_procs([worker], timeout=5)[1] == []


def test_a_suspended_worker_loses_its_scan_to_its_successor(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANBUS_WORKER_SILENCE_S", "3")
    root = tmp_path / "live"
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, "--lease-s", "1") as one:
        fill(scan, 0.0, 0.5)
        wait_until(lambda: read_cursor(scan.client, scan.uid, "eiger") >= 20)
        worker = the_worker(one)
        worker.suspend()
        with connect(redis_url, name="test") as client:
            wait_until(lambda: "has been silent" in problems(client))
        send_rest(scan)
        assert_complete(redis_url, root, scan)
        assert one.leave() == 0
    assert one.said.count('"worker_silent"') == 1


def problems(client: Bus) -> str:
    found = writers_alive(client).values()
    return "; ".join(text for info in found for text in info["problems"])


def test_ctrl_c_in_a_terminal_ends_the_attempts_in_order(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url).prepare(), 0.0, 0.5)
    process = subprocess.Popen(
        writer_command(made_root(tmp_path)),
        env={**os.environ, "SCANBUS_REDIS": redis_url},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: read_cursor(scan.client, scan.uid, "eiger") >= 20)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 0
    assert "worker_died" not in said
    assert not scan.client.exists(attempts_key(scan.uid))


def test_the_service_loads_no_hdf5(redis_url: str, tmp_path: Path) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, tmp_path) as one:
        send_rest(scan)
        final_verdict(redis_url, scan.uid)
        service = Path(f"/proc/{one.process.pid}/maps").read_text()
        worker = Path(f"/proc/{the_worker(one).pid}/maps").read_text()
    assert "h5py" in worker
    assert "h5py" not in service
    assert "hdf5" not in service
