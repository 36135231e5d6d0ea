"""A publisher that comes back to a scan which an operator has closed."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
from structlog.testing import capture_logs

from scanbus.bus.protocol import (
    RESERVED,
    SEAL_ID,
    EncodedEntry,
    checksum_of,
    events_key,
    heartbeat_key,
    lane_key,
    number_key,
    pack_header,
)
from scanbus.bus.store import (
    Bus,
    append_entries,
    connect,
    find_scan,
    publisher_is_alive,
    stream_ends,
)
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.publisher.scan import Scan
from scanbus.schemas import MAX_COUNTED_NUMBER, VerdictWord
from scanbus.schemas.errors import ScanStateError
from scanbus.writer import WriterSettings, run_writer
from scanbus.writer.service.interrupted import close_if_overdue
from scanbus.writer.service.scan_task import ScanTask
from tests.conftest import RedisFactory
from tests.support.continued_publisher import MASK
from tests.support.proxy import Proxy
from tests.support.published import record_of
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.waiting import found_below, wait_until
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis

UID = "closedmeanwhile"
N_SENT, N_ALL = 6, 10
# So long a publisher waits for whoever sealed a lane to end the scan as well.
CLOSING_S = 5.0


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory({"appendonly": "no"}, tcp=True)


def close_it(url: str) -> bool:
    """Close the scan as if its publisher had been silent; it beats every 2 s."""
    with connect(url, name="test") as client:
        client.delete(heartbeat_key(UID))
    with suppress(ScanStateError):
        return close_scan(url, UID, text="it hung") == UID
    return False


def values_in(root: Path, number: int) -> list[float]:
    return list(column(root, number, "a"))


def column(root: Path, number: int, name: str) -> Any:
    with h5py.File(found_below(root, f"scan{number:04d}.h5")[0]) as file:
        return file[f"{number}.1/measurement/{name}"][()]


def parent_in(root: Path, number: int) -> str:
    with h5py.File(found_below(root, f"scan{number:04d}.h5")[0]) as file:
        return str(file[f"{number}.1/scanbus/parent"].asstr()[()])


def check_both(root: Path) -> None:
    """The closed scan has the first points, its child the others, by their numbers."""
    assert values_in(root, 1) == list(range(N_SENT))
    child = values_in(root, 2)
    assert child[N_SENT:] == list(range(N_SENT, N_ALL))
    assert all(np.isnan(child[:N_SENT]))
    assert parent_in(root, 2) == UID


@pytest.mark.parametrize("is_spooled", [False, True])
def test_a_publisher_of_a_closed_scan_publishes_the_rest_as_a_new_scan(
    server: PrivateRedis, tmp_path: Path, *, is_spooled: bool
) -> None:
    """The program notices nothing: it goes on sending."""
    url, root, spool = server.url, tmp_path / "root", tmp_path / "spool"
    port = int(server.tcp_url.rpartition(":")[2])
    with (
        writer(url, root),
        Proxy(port) as proxy,
        Publisher(
            f"redis://127.0.0.1:{proxy.port}", spool=spool if is_spooled else None
        ) as publisher,
    ):
        with publisher.scan(uid=UID, session="20260101") as scan:
            scan.channel("a")
            scan.send("a", np.arange(N_SENT, dtype=float))
            scan.flush()
            with connect(url, name="test") as client:
                wait_until(lambda: bool(client.xlen(lane_key(UID, "a"))))
            # It learns of its end after it took the others, not in between.
            proxy.slow(0.5)
            wait_until(lambda: close_it(url))
            scan.send("a", np.arange(N_SENT, N_ALL - 2, dtype=float))
            proxy.heal()
            wait_until(lambda: scan.uid != UID)
            scan.send("a", np.arange(N_ALL - 2, N_ALL, dtype=float))
        verdict = scan.verdict(60)
        closed = final_verdict(url, UID)  # It may come after that of the other.
    assert verdict.uid == scan.uid
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.end_reason == "SUCCESS"
    assert verdict.channels["a"].missing == ((0, N_SENT),)
    assert closed.verdict is VerdictWord.COMPLETE
    check_both(root)
    assert not is_spooled or list(spool.iterdir()) == []


def test_a_send_does_not_wait_for_room_in_a_scan_that_was_judged_meanwhile(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """Redis lost the seals and the end; the verdict is in the files."""
    url, root = server.url, tmp_path / "root"
    port = int(server.tcp_url.rpartition(":")[2])
    with (
        writer(url, root),
        Proxy(port) as proxy,
        Publisher(f"redis://127.0.0.1:{proxy.port}") as publisher,
    ):
        with publisher.scan(uid=UID, session="20260101", quota_bytes=100_000) as scan:
            scan.channel("a", shape=(1000,))
            scan.send("a", np.zeros((N_SENT, 1000)))
            scan.flush()
            with connect(url, name="test") as client:
                wait_until(lambda: bool(client.xlen(lane_key(UID, "a"))))
            proxy.cut()
            wait_until(lambda: close_it(url))
            final_verdict(url, UID)
            with connect(url, name="test") as client:
                client.flushall()
            proxy.heal()
            for number in range(N_SENT, 60):
                scan.send("a", np.full(1000, float(number)))
        verdict = scan.verdict(60)
    assert verdict.uid != UID
    assert verdict.channels["a"].missing == ((0, N_SENT),)
    assert len(column(root, 1, "a")) == N_SENT
    assert [row[0] for row in column(root, 2, "a")[N_SENT:]] == list(range(N_SENT, 60))


@pytest.mark.parametrize("sealed", [("a",), ("b",), ("a", "b")])
def test_a_closing_that_stopped_before_the_end_of_the_scan_is_completed(
    server: PrivateRedis, tmp_path: Path, sealed: tuple[str, ...]
) -> None:
    """Whoever closed it died between a seal and the end; both lanes go on."""
    url, root = server.url, tmp_path / "root"
    with writer(url, root), Publisher(url) as publisher:
        with publisher.scan(uid=UID, session="20260101") as scan:
            for name in ("a", "b"):
                scan.channel(name)
            for name in ("a", "b"):
                scan.send(name, np.arange(N_SENT, dtype=float))
            scan.flush()
            with connect(url, name="test") as client:
                for name in sealed:
                    wait_until(lambda: bool(client.xlen(lane_key(UID, "b"))))
                    header = pack_header(
                        session=b"operator", checksum=checksum_of(b""), length=N_SENT
                    )
                    seal = EncodedEntry(SEAL_ID, N_SENT, header)
                    append_entries(client, UID, name, [seal])
            for name in ("a", "b"):
                scan.send(name, np.arange(N_SENT, N_ALL, dtype=float))
            wait_until(lambda: scan.uid != UID)
        verdict = scan.verdict(60)
        closed = final_verdict(url, UID)
    assert verdict.uid != UID
    assert closed.verdict is VerdictWord.COMPLETE
    for name in ("a", "b"):
        parts = [column(root, number, name) for number in (1, 2)]
        there = [set(part[~np.isnan(part)]) for part in parts]
        assert there[0] | there[1] == set(range(N_ALL))
        assert not there[0] & there[1]


def is_continued(scan: Scan, uid: str) -> bool:
    return scan.uid != uid


def seal_lane(client: Bus, uid: str) -> float:
    """Seal a lane as somebody who dies before the end of the scan; return when."""
    header = pack_header(session=b"operator", checksum=checksum_of(b""), length=N_SENT)
    append_entries(client, uid, "a", [EncodedEntry(SEAL_ID, N_SENT, header)])
    return time.monotonic()


def test_each_closing_has_its_time_to_be_completed_by_whoever_began_it(
    server: PrivateRedis,
) -> None:
    with (
        Publisher(server.url, close_timeout_s=0) as publisher,
        connect(server.url, name="test") as client,
        publisher.scan(uid=UID, session="20260101") as scan,
    ):
        scan.channel("a")
        for number in range(2):
            uid = scan.uid
            scan.send("a", np.full(N_SENT, float(number)))
            scan.flush()
            wait_until(partial(client.xlen, lane_key(uid, "a")))
            sealed_at = seal_lane(client, uid)
            scan.send("a", 1.0)
            wait_until(partial(is_continued, scan, uid))
            assert time.monotonic() - sealed_at >= CLOSING_S


def test_a_writer_closes_no_scan_that_was_ended_a_moment_before(
    redis_url: str, tmp_path: Path
) -> None:
    """What it has read of the scan is older."""
    raw = RawScan(redis_url, heartbeat_s=0.01).prepare()
    record = find_scan(raw.client, raw.uid)
    task = ScanTask("0-1", record)
    task.interrupted_at = -math.inf
    settings = WriterSettings.load(
        redis=redis_url, root=made_root(tmp_path), interrupted_close_s=0.001
    )
    raw.end()
    wait_until(lambda: not publisher_is_alive(raw.client, raw.uid))
    n_events = raw.client.xlen(events_key(raw.uid))
    with capture_logs() as logged:
        assert not close_if_overdue(raw.client, task, settings, "writer")
    assert raw.client.xlen(events_key(raw.uid)) == n_events
    assert logged == []


@pytest.mark.parametrize("loses_redis", [False, True])
def test_what_only_the_spool_of_a_closed_scan_has_is_resumed_as_a_new_scan(
    server: PrivateRedis, tmp_path: Path, *, loses_redis: bool
) -> None:
    url, root, spool = server.url, tmp_path / "root", tmp_path / "spool"
    port = int(server.tcp_url.rpartition(":")[2])
    with (
        Proxy(port) as proxy,
        Publisher(
            f"redis://127.0.0.1:{proxy.port}", spool=spool, close_timeout_s=0
        ) as publisher,
        publisher.scan(uid=UID, session="20260101") as scan,
    ):
        scan.channel("a")
        scan.send("a", np.arange(N_SENT, dtype=float))
        scan.flush()
        with connect(url, name="test") as client:
            wait_until(lambda: bool(client.xlen(lane_key(UID, "a"))))
        proxy.cut()
        scan.send("a", np.arange(N_SENT, N_ALL, dtype=float))
        scan.flush()
    wait_until(lambda: close_it(url))
    assert write_once(url, root) == 0
    if loses_redis:
        server.kill()
        server.start()
    resume = ["publish", "resume", "--spool", str(spool), "--redis", url]
    with writer(url, root):
        assert main([*resume, "--timeout-s", "60"]) == 2
    check_both(root)
    assert list(spool.iterdir()) == []
    with connect(url, name="test") as client:
        assert client.hgetall(RESERVED) == {}


@pytest.mark.parametrize("obstacle", ["spool", "numbers"])
def test_what_is_in_the_way_when_a_scan_goes_on_is_tried_again(
    server: PrivateRedis, tmp_path: Path, obstacle: str
) -> None:
    """The spool cannot be written, or the dataset has no number left."""
    url, root, spool = server.url, tmp_path / "root", tmp_path / "spool"
    with (
        writer(url, root),
        Publisher(url, spool=spool) as publisher,
        capture_logs() as logs,
    ):
        with publisher.scan(uid=UID, session="20260101") as scan:
            scan.channel("a")
            scan.send("a", np.arange(N_SENT, dtype=float))
            scan.flush()
            with connect(url, name="test") as client:
                wait_until(lambda: reached(client, "a") == N_SENT)
                folder = spool / UID / "scan.json.new"
                if obstacle == "spool":
                    folder.mkdir()
                else:
                    numbers = number_key(scan.identity.dataset_folder)
                    client.set(numbers, MAX_COUNTED_NUMBER)
                wait_until(lambda: close_it(url))
                scan.send("a", np.arange(N_SENT, N_ALL, dtype=float))
                said = {"spool": str(spool), "numbers": "are used up"}[obstacle]
                wait_until(lambda: any(said in str(each) for each in logs))
                assert scan.uid == UID
                if obstacle == "spool":
                    folder.rmdir()
                else:
                    client.set(numbers, 1)
            wait_until(lambda: scan.uid != UID)
        verdict = scan.verdict(60)
        final_verdict(url, UID)
    assert verdict.channels["a"].missing == ((0, N_SENT),)
    assert (verdict.uid, verdict.master.endswith("scan0002.h5")) == (scan.uid, True)
    check_both(root)


def reached(client: Bus, lane: str) -> int:
    ends = stream_ends(client, UID, lane)
    return sum(map(int, ends[1].split(b"-"))) if ends else 0


def has_reached(client: Bus, lane: str, n_points: int) -> bool:
    return reached(client, lane) == n_points


@contextmanager
def continued(
    url: str, spool: Path, side: int, n_sent: int, *, lost: tuple[str, ...] = ()
) -> Iterator[None]:
    """A publisher whose scan was closed after some points, killed when it goes on.

    Parameters
    ----------
    lost : tuple of str
        Lanes that Redis loses before the publisher knows that the scan is closed.
    """
    words = [url, spool, UID, side, n_sent, N_ALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.continued_publisher", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == "sent\n"
            with connect(url, name="test") as client:
                # Each lane has a sender: one may be done before the other begins.
                for lane in ("a", "d"):
                    wait_until(partial(has_reached, client, lane, n_sent), timeout_s=30)
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: close_it(url))
            final_verdict(url, UID)
            with connect(url, name="test") as client:
                for lane in lost:
                    client.delete(lane_key(UID, lane))
            process.send_signal(signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "goes on\n"
            yield
        finally:
            process.kill()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("loss", ["nothing", "all", "a lane, then all"])
@pytest.mark.parametrize(("side", "n_sent"), [(32, 40), (512, 150)])
def test_a_publisher_that_dies_after_its_scan_went_on_sends_nothing_twice(
    server: PrivateRedis, tmp_path: Path, side: int, n_sent: int, loss: str
) -> None:
    """Its spool still has points of the closed scan, or lacks their first ones.

    Where Redis lost a lane, nobody knows how long that was: the new scan has again what
    the publisher did not know to be in files.
    """
    url, root, spool = server.url, tmp_path / "root", tmp_path / "spool"
    lost = ("d",) if "lane" in loss else ()
    resume = ["publish", "resume", "--spool", str(spool), "--redis", url]
    with writer(url, root):
        with continued(url, spool, side, n_sent, lost=lost):
            pass
        if "all" in loss:
            with connect(url, name="test") as client:
                client.flushall()
        assert main([*resume, "--timeout-s", "60"]) == 2
    assert list(spool.iterdir()) == []
    assert parent_in(root, 2) == UID
    with h5py.File(found_below(root, "scan0002.h5")[0]) as file:
        np.testing.assert_array_equal(file["2.1/mask"], MASK)
    for name, empty in (("a", np.nan), ("d", 2**32 - 1)):
        first, rest = (column(root, number, name) for number in (1, 2))
        # One pixel of each frame; the closed scan may have none.
        firsts, rests = (
            each[(slice(None), *[0] * (each.ndim - 1))] for each in (first, rest)
        )
        closed_at = len(firsts)  # The rest was in the spool only.
        np.testing.assert_array_equal(firsts, np.arange(closed_at))
        before = np.full(closed_at, empty, rests.dtype)
        if name in lost:
            before = np.where(rests[:closed_at] == empty, before, firsts)
        np.testing.assert_array_equal(rests[:closed_at], before)
        numbers = np.arange(closed_at, n_sent + N_ALL)
        np.testing.assert_array_equal(rests[closed_at:], numbers)


@pytest.mark.parametrize("is_judged", [False, True])
def test_a_scan_that_was_closed_before_it_was_prepared_loses_nothing(
    server: PrivateRedis, tmp_path: Path, *, is_judged: bool
) -> None:
    url = server.url
    with writer(url, tmp_path / "root"), Publisher(url) as publisher:
        with publisher.scan(uid=UID, session="20260101") as scan:
            wait_until(lambda: close_it(url))
            if is_judged:
                final_verdict(url, UID)
            scan.channel("a")
            scan.send("a", np.arange(N_ALL, dtype=float))
        verdict = scan.verdict(60)
        assert final_verdict(url, UID).end_reason == "FAILURE"
    # One without a verdict may take them: it had no lane that could be sealed.
    assert verdict.uid != UID or not is_judged
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.channels["a"].written == N_ALL


@pytest.mark.parametrize("is_spooled", [False, True])
def test_an_interrupted_scan_is_closed_by_itself(
    server: PrivateRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_spooled: bool,
) -> None:
    """A publisher with a spool has more time; both ends are final, and free the bus."""
    limits = ("SPOOLED", "INTERRUPTED") if is_spooled else ("INTERRUPTED", "SPOOLED")
    monkeypatch.setenv(f"SCANBUS_{limits[0]}_CLOSE_S", "3")
    monkeypatch.setenv(f"SCANBUS_{limits[1]}_CLOSE_S", "100000")
    spool = tmp_path / "spool" if is_spooled else None
    with Publisher(server.url, spool=spool, close_timeout_s=1) as publisher:
        scan = publisher.scan(uid=UID, session="20260101")
        scan.__enter__()
        scan.channel("a")
        scan.send("a", np.arange(N_SENT, dtype=float))
        scan.flush()
        with connect(server.url, name="test") as client:
            wait_until(lambda: bool(client.xlen(lane_key(UID, "a"))))
            # As if it had been killed.
            publisher._monitor.leave_at_once()
            publisher._monitor.join(10)
            client.delete(heartbeat_key(UID))
            with writer(server.url, tmp_path / "root"):
                wait_until(
                    lambda: record_of(client, UID).verdict is not None, timeout_s=60
                )
                verdict = final_verdict(server.url, UID)
            assert client.hgetall(RESERVED) == {}
            text = record_of(client, UID).ended
    assert text is not None
    assert "closed by the writer: its publisher was silent for" in text.text
    assert verdict.end_reason == "FAILURE"
    assert values_in(tmp_path / "root", 1) == list(range(N_SENT))


def write_once(url: str, root: Path) -> int:
    return run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)
