"""A publisher is killed; its successor goes on in the same scan."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.store import connect, find_scan, reserved_quotas
from scanbus.publisher import LostPoints, Publisher, Scan
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.schemas import EndReason, Verdict, VerdictWord
from scanbus.schemas.errors import (
    PublisherAliveError,
    ScanStateError,
    UnknownScanError,
)
from scanbus.writer import WriterSettings, run_writer
from tests.conftest import RedisFactory
from tests.support.reopen_publisher import LAST, MASK, UID, declare, frame, send
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.redis

CHANNELS = ("x", "text", "one", "four")


class Program:
    """A process that publishes, to be killed."""

    def __init__(self, url: str, spool: Path | None, start: int, stop: int) -> None:
        command = [sys.executable, "-m", "tests.support.reopen_publisher", url]
        command += [str(spool or "-"), str(start), str(stop)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def flushed(self, at_least: int) -> int:
        """Return up to which point everything was flushed."""
        assert self._process.stdout is not None
        point = 0
        while point < at_least:
            point = int(self._process.stdout.readline())
        return point

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        code = self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


def write_now(url: str, root: Path) -> Verdict:
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)
    return final_verdict(url, UID)


def check_file(root: Path, verdict: Verdict, gaps: list[range]) -> None:
    """What is there is right, and what is missing lies in the gaps."""
    (master,) = found_below(root, "scan0001.h5")
    allowed = {point for gap in gaps for point in gap}
    with h5py.File(master) as file:
        mask = file["1.1/instrument/one/pixel_mask"][()]
        np.testing.assert_array_equal(mask, MASK)
        for name in CHANNELS:
            missing = {
                point
                for start, stop in verdict.channels[name].missing
                for point in range(start, stop)
            }
            assert missing <= allowed, name
            assert verdict.channels[name].expected == LAST
            there = sorted(set(range(LAST)) - missing)
            found = file[f"1.1/measurement/{name}"][()][there]
            if name == "x":
                np.testing.assert_array_equal(found, np.array(there) * 0.5)
            elif name == "text":
                assert [text.decode() for text in found] == [
                    f"point {point}" for point in there
                ]
            else:
                np.testing.assert_array_equal(found, [frame(point) for point in there])


@contextmanager
def reopened(url: str, spool: Path | None) -> Iterator[Scan]:
    """Go on with the scan; it is on the bus to its end then."""
    with Publisher(url, spool=spool, left_open=[UID], close_timeout_s=0) as publisher:
        with publisher.reopen(UID) as scan:
            yield scan
        wait_sent(url, [UID])


@pytest.fixture(params=["spool", "bus"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """The folder of a spool, or None for a publisher without one."""
    return tmp_path / "spool" if request.param == "spool" else None


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(2))
def test_a_scan_whose_publisher_is_killed_again_and_again_is_one_scan(
    redis_url: str, spool: Path | None, tmp_path: Path, seed: int
) -> None:
    """Points that were flushed are there; others are missing where they were lost."""
    random = Random(seed)
    root = made_root(tmp_path / "root")
    gaps: list[range] = []
    start = 0
    with writer(redis_url, root):
        while start < LAST - 100:
            program = Program(redis_url, spool, start, LAST - 1)
            n_flushed = program.flushed(start + random.randrange(20, 90))
            program.kill()
            start = n_flushed + random.randrange(0, 30)
            gaps.append(range(n_flushed, start))
        assert Program(redis_url, spool, start, LAST).wait() == 0
        verdict = final_verdict(redis_url, UID)
    assert len(found_below(root, "scan????.h5")) == 1
    assert len(gaps) > 3
    check_file(root, verdict, gaps)
    assert verdict.end_reason == EndReason.SUCCESS.value
    if spool is not None:
        with Publisher(redis_url, spool=spool, close_timeout_s=20) as publisher:
            assert list(publisher.resumed) == [UID]
        assert list(spool.iterdir()) == []  # Judged: nothing of it is needed.


def test_what_no_writer_has_taken_is_kept_too(
    redis_url: str, spool: Path | None, tmp_path: Path
) -> None:
    program = Program(redis_url, spool, 0, LAST - 1)
    n_flushed = program.flushed(200)
    program.kill()
    assert Program(redis_url, spool, n_flushed, LAST).wait() == 0
    verdict = write_now(redis_url, tmp_path / "root")
    assert verdict.verdict is VerdictWord.COMPLETE
    check_file(tmp_path / "root", verdict, [])


def test_the_reopened_scan_survives_the_loss_of_redis(
    redis_factory: RedisFactory, spool: Path | None, tmp_path: Path
) -> None:
    """What was read back, or stands in the spool, is sent again."""
    server = redis_factory({"appendonly": "no"})
    program = Program(server.url, spool, 0, LAST - 1)
    n_flushed = program.flushed(100)
    program.kill()
    with Publisher(
        server.url, spool=spool, left_open=[UID], close_timeout_s=20
    ) as publisher:
        with publisher.reopen(UID) as scan:
            for point in range(n_flushed, LAST):
                if point == n_flushed + 20:
                    scan.flush(20)
                    server.kill()
                    server.start()
                send(scan, point)
        verdict = write_now(server.url, tmp_path / "root")
    assert verdict.verdict is VerdictWord.COMPLETE
    check_file(tmp_path / "root", verdict, [])


def test_a_redis_that_died_with_the_publisher_has_all_again_from_the_spool(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server = redis_factory({"appendonly": "no"})
    program = Program(server.url, tmp_path / "spool", 0, LAST - 1)
    n_flushed = program.flushed(100)
    program.kill()
    server.kill()
    server.start()
    with reopened(server.url, tmp_path / "spool") as scan:
        assert set(scan.lengths) == set(CHANNELS)
        assert min(scan.lengths.values()) >= n_flushed
        for point in range(n_flushed, LAST):
            send(scan, point)
    verdict = write_now(server.url, tmp_path / "root")
    assert verdict.verdict is VerdictWord.COMPLETE
    check_file(tmp_path / "root", verdict, [])


def test_lost_points_have_their_reason_in_the_verdict(
    redis_url: str, spool: Path | None, tmp_path: Path
) -> None:
    program = Program(redis_url, spool, 0, 100)
    program.flushed(100)
    program.kill()
    with reopened(redis_url, spool) as scan:
        for point in range(110, LAST):
            send(scan, point)
        lost = LostPoints("one", 90, 110, "the power was cut")
        scan.finish(EndReason.SUCCESS, lost=[lost])
    verdict = write_now(redis_url, tmp_path / "root")
    assert verdict.verdict is VerdictWord.PARTIAL
    assert "the power was cut" in verdict.reason
    assert verdict.channels["one"].missing == ((100, 110),)


def test_points_without_numbers_follow_those_that_are_there(
    redis_url: str, spool: Path | None, tmp_path: Path
) -> None:
    program = Program(redis_url, spool, 0, 50)
    program.flushed(50)
    program.kill()
    with reopened(redis_url, spool) as scan:
        for point in range(50, LAST):
            scan.send("x", point * 0.5)
            scan.send("text", f"point {point}")
            scan.send("one", frame(point))
            scan.send("four", frame(point))
    verdict = write_now(redis_url, tmp_path / "root")
    assert verdict.verdict is VerdictWord.COMPLETE
    check_file(tmp_path / "root", verdict, [])


def test_a_scan_that_was_only_announced_is_declared_and_goes_on(
    redis_url: str, spool: Path | None, tmp_path: Path
) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from scanbus.publisher import Publisher\n"
        "spool = None if sys.argv[2] == '-' else Path(sys.argv[2])\n"
        "with Publisher(sys.argv[1], spool=spool) as publisher:\n"
        f"    with publisher.scan(uid={UID!r}, title='armed'):\n"
        "        print('there', flush=True)\n"
        "        time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, redis_url, str(spool or "-")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.kill()
    with reopened(redis_url, spool) as scan:
        declare(scan)
        for point in range(LAST):
            send(scan, point)
    verdict = write_now(redis_url, tmp_path / "root")
    assert verdict.verdict is VerdictWord.COMPLETE
    assert len(found_below(tmp_path / "root", "scan????.h5")) == 1


def test_what_the_dead_publisher_had_on_the_bus_counts_against_the_quota(
    redis_url: str, spool: Path | None, tmp_path: Path
) -> None:
    """Its successor waits for room, as it had: no more than the quota is there."""
    program = Program(redis_url, spool, 0, LAST - 1)
    program.flushed(LAST - 20)
    program.kill()
    with (
        Publisher(
            redis_url,
            spool=spool,
            left_open=[UID],
            close_timeout_s=0,
            send_deadline_s=0.5,
        ) as publisher,
        publisher.reopen(UID, quota_bytes=2**22) as scan,
        connect(redis_url, name="test") as client,
    ):
        assert reserved_quotas(client)[UID] >= 2**22
        wait_until(lambda: scan._queue.watch.undelivered_bytes()[0] > 2**19)


def test_a_scan_of_a_living_or_ended_publisher_is_not_reopened(
    redis_url: str, spool: Path | None, tmp_path: Path
) -> None:
    with Publisher(redis_url, close_timeout_s=0, spool=spool) as living:
        with living.scan(uid=UID) as scan:
            scan.channel("x")
            scan.send("x", 1.0)
            with (
                Publisher(redis_url, spool=spool, close_timeout_s=0) as other,
                pytest.raises(PublisherAliveError, match="publisher is alive"),
            ):
                other.reopen(UID).__enter__()
        write_now(redis_url, tmp_path / "root")
    with Publisher(redis_url, spool=spool, close_timeout_s=0) as other:
        with pytest.raises(ScanStateError, match="ended"):
            other.reopen(UID).__enter__()
        with pytest.raises(UnknownScanError):
            other.reopen("another0").__enter__()


def test_a_scan_in_another_spool_is_not_reopened_from_the_bus(
    redis_url: str, tmp_path: Path
) -> None:
    """What only that spool has would be lost."""
    program = Program(redis_url, tmp_path / "spool", 0, 50)
    program.flushed(50)
    program.kill()
    with (
        Publisher(redis_url, spool=tmp_path / "other", close_timeout_s=0) as other,
        pytest.raises(ScanStateError, match="are in the spool of its publisher"),
    ):
        other.reopen(UID).__enter__()


def test_without_left_open_the_scan_in_the_spool_is_ended_as_before(
    redis_url: str, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    program = Program(redis_url, spool, 0, 50)
    program.flushed(50)
    program.kill()
    with Publisher(redis_url, spool=spool, close_timeout_s=0) as publisher:
        assert list(publisher.resumed) == [UID]
        with pytest.raises(ScanStateError):
            publisher.reopen(UID).__enter__()
        # Closed without a wait, it leaves in the spool what is not sent yet.
        with connect(redis_url, name="test") as client:
            ended = wait_until(lambda: find_scan(client, UID).ended)
        assert ended.end_reason is EndReason.FAILURE
