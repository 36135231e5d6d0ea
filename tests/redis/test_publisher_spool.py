"""Publisher and Redis die together: what stood in the spool is in the files."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.protocol import ANNOUNCEMENTS, lane_key
from scanbus.bus.store import append_event, connect, reserved_quotas
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.recovery.resume import DIED
from scanbus.publisher.scan import Scan
from scanbus.publisher.spool import ScanSpool, find_scans
from scanbus.schemas import (
    ChannelLedger,
    EndReason,
    ScanJudged,
    Verdict,
    VerdictWord,
)
from scanbus.schemas.errors import DeadlineError, QuotaRefusedError, SpoolError
from tests.conftest import RedisFactory
from tests.support.published import MemoryWriter, frames, read_scan, record_of
from tests.support.roots import made_root
from tests.support.spool_publisher import SHAPE
from tests.support.waiting import found_below, wait_until
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis

UID = "killedkilled"


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory({"appendonly": "no"})


@contextmanager
def publishing(url: str, spool: Path, n_frames: int) -> Iterator[IO[str]]:
    """A publisher's process, killed at the end; its standard output."""
    command = [sys.executable, "-m", "tests.support.spool_publisher", url, str(spool)]
    process = subprocess.Popen(
        [*command, str(n_frames)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def flushed(said: IO[str], at_least: int) -> int:
    point = 0
    while point < at_least:
        point = int(said.readline())
    return point


def check_files(root: Path, verdict: Verdict, at_least: int) -> None:
    """Every point up to some is there, and what is there is right."""
    with h5py.File(found_below(root, "scan0001.h5")[0]) as file:
        measurement = file["1.1/measurement"]
        images = measurement["d"][()]
        assert len(images) >= at_least
        np.testing.assert_array_equal(images, frames(0, len(images), SHAPE))
        values = measurement["a"][()]
        assert len(values) >= at_least
        np.testing.assert_array_equal(values, np.arange(len(values)) * 1.0)
        np.testing.assert_array_equal(measurement["b"][()], values * 2.0)
        late = file["1.1/scanbus/late/label_0000"]
        np.testing.assert_array_equal(late["scanbus/point"][()], [1])
        assert file["1.1/reached"][()] >= at_least - 1
    assert verdict.channels["d"].missing == ()
    assert verdict.channels["a"].missing == ()
    assert verdict.channels["label"].missing == ((1, 2), (3, 4))


def test_publisher_and_redis_killed_together_lose_nothing_that_was_flushed(
    server: PrivateRedis, tmp_path: Path
) -> None:
    spool, root = tmp_path / "spool", tmp_path / "root"
    root.mkdir()
    with writer(server.url, root), publishing(server.url, spool, 400) as said:
        n_flushed = flushed(said, 100)
        server.kill()
        n_flushed = flushed(said, n_flushed + 50)  # It goes on without a Redis.
    server.start()
    with writer(server.url, root):
        command = ["publish", "resume", "--spool", str(spool), "--redis", server.url]
        assert main(command) == VerdictWord.PARTIAL.exit_code
        verdict = final_verdict(server.url, UID)
    assert verdict.verdict is VerdictWord.PARTIAL  # Only of the label's points.
    check_files(root, verdict, n_flushed)
    with connect(server.url, name="test") as client:
        ended = record_of(client, UID).ended
        assert ended is not None
        assert (ended.end_reason, ended.text) == (EndReason.FAILURE, DIED)
        assert ended.late == {"label": 1}
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_flushed_points_that_the_spool_and_redis_lost_are_named(
    server: PrivateRedis, tmp_path: Path, how: str
) -> None:
    """Up to the last one, however shortly before its death it was flushed."""
    spool, root = tmp_path / "spool", tmp_path / "root"
    with publishing(server.url, spool, 400) as said:
        n_flushed = flushed(said, 100)
    server.kill()
    files = sorted((spool / UID / "lanes/d").iterdir())
    if how == "removed":
        shutil.rmtree(spool / UID / "lanes/d")
    else:
        os.truncate(files[-1], files[-1].stat().st_size // 3)
    server.start()
    made_root(root)
    with writer(server.url, root):
        command = ["publish", "resume", "--spool", str(spool), "--redis", server.url]
        assert main(command) == VerdictWord.PARTIAL.exit_code
        verdict = final_verdict(server.url, UID)
    channel = verdict.channels["d"]
    ((first, stop),) = channel.missing
    assert first == 0 if how == "removed" else 0 < first < n_flushed
    assert n_flushed <= stop == channel.expected
    assert verdict.channels["a"].missing == ()


def test_a_publisher_that_died_alone_is_resumed_by_its_successor(
    server: PrivateRedis, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    with publishing(server.url, spool, 400) as said:
        n_flushed = flushed(said, 60)
        with Publisher(server.url, spool=spool, close_timeout_s=0) as other:
            assert other.resumed == {}  # It lives: nobody else touches its scan.
    with (
        MemoryWriter(server.url) as memory,
        Publisher(server.url, spool=spool, close_timeout_s=20) as publisher,
    ):
        assert list(publisher.resumed) == [UID]
    verdict = publisher.resumed[UID]
    assert verdict is not None
    assert verdict.verdict is VerdictWord.COMPLETE
    lane = memory.lanes[UID, "d"]
    assert lane.odd == []
    images = lane.values("d")
    assert len(images) == lane.length
    assert len(images) >= n_flushed
    np.testing.assert_array_equal(images, frames(0, len(images), SHAPE))
    assert list(spool.iterdir()) == []


def declare(scan: Scan) -> None:
    scan.channel("a")
    scan.detector("d", shape=SHAPE, dtype="uint32", codec="none", points_per_chunk=1)


def test_without_a_writer_the_disk_takes_more_than_quota_and_memory(
    server: PrivateRedis, tmp_path: Path
) -> None:
    quota, n_frames = 2**20, 400
    images = frames(0, n_frames, SHAPE)
    with Publisher(
        server.url, spool=tmp_path, memory_bytes_kept=2**19, close_timeout_s=30
    ) as publisher:
        with publisher.scan(quota_bytes=quota) as scan:
            declare(scan)
            scan.send("a", np.arange(n_frames, dtype=float))
            for image in images:
                scan.send("d", image)
                assert scan._queue.watch.kept_bytes < 2**20
        time.sleep(0.3)
        with connect(server.url, name="test") as client:
            lane = read_scan(client, scan.uid)["d"]
            assert sum(len(entry.payload) for entry in lane.entries) <= quota
        with MemoryWriter(server.url) as memory:
            assert scan.verdict(30).verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(memory.lanes[scan.uid, "d"].values("d"), images)
    assert list(tmp_path.iterdir()) == []


def test_a_scan_judged_before_all_is_sent_is_not_waited_for(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """As by a writer that has it all on its disk, when Redis lost it."""
    n_frames = 100
    with Publisher(
        server.url, spool=tmp_path, memory_bytes_kept=2**18, close_timeout_s=60
    ) as publisher:
        with publisher.scan(quota_bytes=2**18) as scan:
            declare(scan)
            scan.send("a", np.arange(n_frames, dtype=float))
            for image in frames(0, n_frames, SHAPE):
                scan.send("d", image)
        with connect(server.url, name="test") as client:
            wait_until(lambda: record_of(client, scan.uid).started is not None)
            judged = Verdict(
                uid=scan.uid,
                verdict=VerdictWord.COMPLETE,
                channels={
                    name: ChannelLedger(expected=n_frames, written=n_frames)
                    for name in "ad"
                },
            )
            append_event(client, scan.uid, ScanJudged(time=time.time(), verdict=judged))
            assert scan.verdict(20) == judged
            assert len(read_scan(client, scan.uid)["d"].values("d")) < n_frames
    assert list(tmp_path.iterdir()) == []


def test_what_redis_lost_is_read_back_from_the_spool(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with Publisher(
        server.url, spool=tmp_path, memory_bytes_kept=2**18, close_timeout_s=0.2
    ) as publisher:
        with publisher.scan() as scan:
            declare(scan)
            scan.send("d", frames(0, 50, SHAPE))
            with connect(server.url, name="test") as client:
                wait_until(lambda: client.xlen(lane_key(scan.uid, "d")) >= 50)
            server.kill()
            server.start()
            scan.send("d", frames(50, 50, SHAPE))
        with connect(server.url, name="test") as client:
            wait_until(lambda: bool(client.exists(ANNOUNCEMENTS)))
            wait_until(lambda: record_of(client, scan.uid).ended is not None)
            lane = read_scan(client, scan.uid)["d"]
            np.testing.assert_array_equal(lane.values("d"), frames(0, 100, SHAPE))


def test_a_scan_that_was_closed_without_verdict_is_resumed_as_it_ended(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with Publisher(server.url, spool=tmp_path, close_timeout_s=0) as publisher:
        with publisher.scan() as scan:
            declare(scan)
            scan.send("d", frames(0, 20, SHAPE))
    server.kill()
    server.start()
    with (
        MemoryWriter(server.url),
        Publisher(server.url, spool=tmp_path, close_timeout_s=20) as publisher,
    ):
        pass
    assert list(publisher.resumed) == [scan.uid]
    with connect(server.url, name="test") as client:
        ended = record_of(client, scan.uid).ended
        assert ended is not None
        assert ended.end_reason is EndReason.SUCCESS
        assert len(read_scan(client, scan.uid)["d"].values("d")) == 20


def test_a_scan_that_is_not_finished_in_the_spool_is_not_begun_again(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with Publisher(server.url, spool=tmp_path, close_timeout_s=0) as publisher:
        with publisher.scan(uid="onceonce") as scan:
            declare(scan)
        with pytest.raises(SpoolError, match=r"onceonce.*was not finished"):
            publisher.scan(uid="onceonce").__enter__()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk takes root")
def test_a_full_spool_is_waited_for_and_named(
    server: PrivateRedis, tmp_path: Path
) -> None:
    spool = tmp_path / "small"
    spool.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(spool)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a small disk be mounted")
    try:
        with Publisher(
            server.url,
            spool=spool,
            memory_bytes_kept=2**18,
            close_timeout_s=20,
            send_deadline_s=1.0,
        ) as publisher:
            with publisher.scan() as scan:
                declare(scan)
                filler = spool / "filler"
                scan.send("a", 1.0)
                scan.flush()
                filler.write_bytes(bytes(900 * 2**10))
                with pytest.raises(DeadlineError, match=r"spool.*No space left"):
                    scan.send("d", frames(0, 60, SHAPE))
                filler.unlink()
                taken = scan._queue.lanes["d"].length
                scan.flush()
                scan.send("d", frames(taken, 4, SHAPE))
            with MemoryWriter(server.url) as memory:
                assert scan.verdict(20).verdict is VerdictWord.COMPLETE
        images = memory.lanes[scan.uid, "d"].values("d")
        np.testing.assert_array_equal(images, frames(0, taken + 4, SHAPE))
    finally:
        subprocess.run(["umount", str(spool)], check=True)


def test_a_folder_of_which_a_part_was_removed_is_no_scan(tmp_path: Path) -> None:
    whole = ScanSpool.make(tmp_path, "whole")
    whole.close()
    part = tmp_path / ".removed-part"
    (part / "lanes").mkdir(parents=True)

    (found,) = find_scans(tmp_path)

    assert isinstance(found, ScanSpool)
    assert found.folder == whole.folder
    assert not part.exists()
    found.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_scan_whose_quota_is_refused_leaves_no_quota_in_its_spool(
    redis_url: str, tmp_path: Path
) -> None:
    # Whoever resumes a spool reserves the quota of its scans without asking.
    with Publisher(redis_url, spool=tmp_path, close_timeout_s=0.2) as publisher:
        scan = publisher.scan(quota_bytes=2**45).__enter__()
        scan.channel("th")
        with pytest.raises(QuotaRefusedError):
            scan.send("th", 1.0)
        with pytest.raises(QuotaRefusedError):
            scan.__exit__(None, None, None)
    with connect(redis_url, name="test") as client:
        with Publisher(redis_url, spool=tmp_path, close_timeout_s=0.2) as publisher:
            assert list(publisher.resumed) == []
            assert reserved_quotas(client) == {}
