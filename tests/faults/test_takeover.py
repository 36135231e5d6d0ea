"""Two writers: one is killed or stands still in the middle of a scan."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import EndReason, Verdict, VerdictWord
from scanbus.schemas.file_names import WORK_FOLDER
from scanbus.writer import replay
from tests.conftest import RedisFactory
from tests.faults.content import scan_uid
from tests.faults.judge import Claim, judge_run
from tests.faults.processes import LEASE_S, WriterProcess, until
from tests.faults.publisher_process import QUOTA_BYTES, declare, send_points
from tests.support.roots import made_root
from tests.support.trees import differences
from tests.support.waiting import found_below
from tests.support.writers import final_verdict

pytestmark = [pytest.mark.faults, pytest.mark.redis]

SHAPE = (200, 200)
N_POINTS = 300
AT_MOST_S = 5.0
SEED = 5
LENGTH = 80


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


def send(scan: Scan, start: int, stop: int) -> None:
    for number in range(start, stop):
        frame = np.full(SHAPE, number, np.uint16)
        scan.send("one", frame)
        scan.send("two", frame + 7)
        scan.send("counter", number * 1.0)


@pytest.mark.timeout(120)
def test_a_scan_is_complete_within_lease_and_five_seconds_of_its_writers_death(
    server: PrivateRedis, tmp_path: Path
) -> None:
    root = made_root(tmp_path / "files")
    writers = [WriterProcess(server.url, root, tmp_path, f"w{n}") for n in (0, 1)]
    try:
        assert until(lambda: all(one.is_ready for one in writers), 30)
        with Publisher(server.url, close_timeout_s=30) as publisher:
            with publisher.scan(scan_number=1, quota_bytes=40 * 2**20) as scan:
                for name in ("one", "two"):
                    scan.detector(name, shape=SHAPE, dtype="uint16")
                scan.channel("counter")
                send(scan, 0, N_POINTS // 2)
                assert until(lambda: any(map(_has_opened, writers)), 30)
                victim = next(one for one in writers if _has_opened(one))
                victim.kill()
                killed_at = time.monotonic()
                send(scan, N_POINTS // 2, N_POINTS)
            verdict = scan.verdict(30)
            took_s = time.monotonic() - killed_at
    finally:
        for one in writers:
            one.kill()

    assert verdict.verdict is VerdictWord.COMPLETE
    assert took_s < LEASE_S + AT_MOST_S
    replay(server.url, scan.uid, tmp_path / "again")
    assert differences(root, tmp_path / "again") == []


def _has_opened(writer: WriterProcess) -> bool:
    return '"scan_opened"' in writer.log.read_text()


@contextmanager
def half_a_scan(url: str) -> Iterator[Scan]:
    """A scan as the judge knows it, of which the first half was sent."""
    with (
        Publisher(url, close_timeout_s=1) as publisher,
        publisher.scan(
            uid=scan_uid(SEED, 1),
            scan_number=1,
            session="20260101",
            quota_bytes=QUOTA_BYTES,
        ) as scan,
    ):
        declare(scan)
        send_points(scan, SEED, 1, 0, LENGTH // 2)
        yield scan


def other_half(scan: Scan, url: str) -> Verdict:
    """Send the rest of it and wait for its verdict."""
    send_points(scan, SEED, 1, LENGTH // 2, LENGTH)
    scan.finish(EndReason.SUCCESS)
    return final_verdict(url, scan.uid)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("mutant", "does_damage"),
    [("", False), ("no-fence", True)],
    ids=["sound", "broken"],
)
def test_only_a_writer_without_fence_renames_over_what_its_successor_made(
    server: PrivateRedis, tmp_path: Path, mutant: str, *, does_damage: bool
) -> None:
    root = made_root(tmp_path / "files")
    paused = WriterProcess(
        server.url,
        root,
        tmp_path,
        "paused",
        failpoints="master.before=stop@1",
        mutant=mutant,
    )
    successor: WriterProcess | None = None
    try:
        # It has not ended, so what stands still is the master of half a scan.
        with half_a_scan(server.url) as scan:
            assert until(lambda: paused.was_hit, 30), paused.log_tail()
            successor = WriterProcess(
                server.url, root, tmp_path, "successor", mutant=mutant
            )
            verdict = other_half(scan, server.url)
        assert successor.leave() < float("inf")
        # Its next step is the rename; asked to leave, it does not mend what it did.
        paused.process.terminate()
        paused.signal(signal.SIGCONT)
        assert until(lambda: not paused.is_running, 30)
    finally:
        for one in (paused, successor):
            if one is not None:
                one.kill()

    claim = Claim(ended=True, said=verdict.verdict.value)
    assert claim.said == VerdictWord.COMPLETE.value
    findings = judge_run(root, SEED, LENGTH, {1: claim})
    assert bool(findings[1].lost and findings[1].wrong_verdicts) is does_damage
    assert all(one.is_clean for one in findings.values()) is not does_damage


@pytest.mark.timeout(120)
@pytest.mark.parametrize("wakes_up", ["in the middle", "after the end"])
def test_one_that_slept_before_it_took_over_costs_an_attempt_at_most(
    server: PrivateRedis, tmp_path: Path, wakes_up: str
) -> None:
    root = made_root(tmp_path / "files")
    trap = "rename.before=stop@1"
    paused = WriterProcess(server.url, root, tmp_path, "paused", failpoints=trap)
    successor: WriterProcess | None = None
    try:
        with half_a_scan(server.url) as scan:
            assert until(lambda: paused.was_hit, 30), paused.log_tail()
            successor = WriterProcess(server.url, root, tmp_path, "successor")
            assert until(lambda: _has_opened(successor), 30), successor.log_tail()
            if wakes_up == "in the middle":
                # The folder that it renames away now is its successor's.
                paused.signal(signal.SIGCONT)
                assert until(lambda: _has_lost(paused), 30)
            verdict = other_half(scan, server.url)
        # As if another scan of the dataset was being written.
        (found_below(root, "scan0001")[0].parent / WORK_FOLDER).mkdir(exist_ok=True)
        paused.signal(signal.SIGCONT)
        assert until(lambda: _has_lost(paused), 30)
        assert paused.leave() < float("inf")
        assert successor.leave() < float("inf")
    finally:
        paused.kill()
        if successor is not None:
            successor.kill()

    claim = Claim(ended=True, said=verdict.verdict.value)
    findings = judge_run(root, SEED, LENGTH, {1: claim})
    assert [note for one in findings.values() for note in one.notes] == []


def _has_lost(writer: WriterProcess) -> bool:
    return "is lost" in writer.log.read_text()
