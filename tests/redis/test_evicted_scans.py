"""Whoever still knows a scan that was forgotten: writers, readers, publishers."""

from pathlib import Path
from threading import Thread

import pytest

from scanbus.bus.protocol import ANNOUNCEMENTS, WRITERS, heartbeat_key, number_key
from scanbus.bus.store import (
    KEPT_WHEN_FULL,
    Bus,
    Evictor,
    beat_writer,
    connect,
    find_scan,
    writers_alive,
)
from scanbus.cli import main
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import NoLongerError, UnknownScanError
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer
from scanbus.writer.service.service import WriterService
from tests.conftest import RedisFactory
from tests.support.published import MemoryWriter
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.redis


def small_scan(url: str, number: int = 1, *, heartbeat_s: float = 60.0) -> RawScan:
    scan = RawScan(url, number=number, heartbeat_s=heartbeat_s).prepare()
    scan.send_group(0, 10)
    scan.end()
    return scan


def forget(client: Bus, *uids: str) -> None:
    """Have everything forgotten that may be, these among it."""
    for uid in uids:
        client.delete(heartbeat_key(uid))

    def are_gone() -> bool:
        Evictor().free(client, 1, kept_scans=0)  # It may trim first, and remove later.
        return not any(list(client.scan_iter(f"*{uid}*")) for uid in uids)

    wait_until(are_gone)


def test_readers_of_a_forgotten_scan_are_told_where_it_is(
    redis_url: str, tmp_path: Path
) -> None:
    scan = small_scan(redis_url)
    subscriber = Subscriber(redis_url, lapse_s=0.2)
    early, late = subscriber.scan(scan.uid), subscriber.scan(scan.uid)
    stream = early.stream("th", "c1")
    run_writer(
        WriterSettings.load(redis=redis_url, root=made_root(tmp_path)), once=True
    )
    assert late.refresh()
    master = late.file()

    with subscriber:
        forget(scan.client, scan.uid)

        for reader in (early, late):
            with pytest.raises(NoLongerError, match=master):
                reader.read("th", 0, 10)
            with pytest.raises(NoLongerError, match=master):
                reader.latest("th")
        with pytest.raises(NoLongerError, match=master):
            list(stream)
        assert subscriber.scans() == []
        with pytest.raises(UnknownScanError):
            subscriber.scan(scan.uid)
        assert (tmp_path / master).is_file()


def test_following_passes_over_what_was_forgotten_meanwhile(
    redis_url: str, tmp_path: Path
) -> None:
    scans = [small_scan(redis_url, number) for number in (1, 2)]
    run_writer(
        WriterSettings.load(redis=redis_url, root=made_root(tmp_path)), once=True
    )
    with Subscriber(redis_url) as subscriber:
        readers = subscriber.follow(from_now=False, timeout_s=5)
        assert next(readers).uid == scans[0].uid
        forget(scans[1].client, scans[1].uid)
        third = RawScan(redis_url, number=3)
        assert next(readers).uid == third.uid


def test_a_publisher_that_has_its_verdict_keeps_nothing(redis_url: str) -> None:
    with (
        MemoryWriter(redis_url),
        Publisher(redis_url, close_timeout_s=10) as publisher,
        connect(redis_url, name="test") as client,
    ):
        with publisher.scan() as scan:
            scan.channel("a")
            scan.send("a", 1.0)
            wait_until(lambda: client.exists(heartbeat_key(scan.uid)))
        scan.verdict(10)
        # At once, not when the sign of life would lapse.
        wait_until(lambda: not client.exists(heartbeat_key(scan.uid)), 3)
        wait_until(lambda: Evictor().free(client, 1, kept_scans=0).scans == 1, 3)


def test_commands_say_that_a_forgotten_scan_may_have_left(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = small_scan(redis_url)
    run_writer(
        WriterSettings.load(redis=redis_url, root=made_root(tmp_path)), once=True
    )
    forget(scan.client, scan.uid)
    assert main(["tail", scan.uid, "--redis", redis_url]) == 1
    assert "their files stay" in " ".join(capsys.readouterr().err.split())


def test_a_service_does_not_remember_scans_that_are_done(
    redis_url: str, tmp_path: Path
) -> None:
    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path))
    service = WriterService(settings)
    thread = Thread(target=service.run, kwargs={"once": False})
    thread.start()
    try:
        for number in range(1, 6):
            final_verdict(redis_url, small_scan(redis_url, number).uid)
        wait_until(lambda: not service._tasks)

        open_scan = RawScan(redis_url, number=6).prepare()
        for number in range(7, 10):
            final_verdict(redis_url, small_scan(redis_url, number).uid)
        # The position stands before the open scan: the others have to be known.
        wait_until(lambda: sum(t.record is None for t in service._tasks.values()) == 3)
        open_scan.end()
        wait_until(lambda: not service._tasks)
    finally:
        service.stop()
        thread.join()


def test_a_service_that_starts_forgets_writers_that_were_killed(
    redis_url: str, tmp_path: Path
) -> None:
    scan = small_scan(redis_url)
    scan.client.hset(WRITERS, "killed", b"{}")
    run_writer(
        WriterSettings.load(redis=redis_url, root=made_root(tmp_path)), once=True
    )
    assert scan.client.hlen(WRITERS) == 0


def test_the_exit_code_counts_scans_that_are_not_remembered(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    scan.reached["g"] = 10  # The first ten points were lost.
    scan.send_group(10, 20)
    scan.end()
    small_scan(redis_url, 2)
    small_scan(redis_url, 3)

    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path))
    assert run_writer(settings, once=True) == VerdictWord.PARTIAL.exit_code
    assert find_scan(scan.client, scan.uid).state == "partial"


def test_a_writer_that_missed_the_end_of_a_scan_lets_it_go(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, tmp_path, "--lease-s", "1") as paused:
        wait_until(lambda: found_below(tmp_path, f"*{scan.uid}*"))
        paused.pause()
        scan.send_group(0, 10)
        scan.end()
        with writer(redis_url, tmp_path, "--lease-s", "1") as other:
            final_verdict(redis_url, scan.uid)
            other.leave()
        forget(scan.client, scan.uid)
        # Its own sign of life may have lapsed; a new one says how many scans it has.
        for name in writers_alive(scan.client):
            beat_writer(scan.client, name, {"scans": -1}, 1)
        paused.go_on()

        def lets_go() -> bool:
            infos = writers_alive(scan.client).values()
            return [info["scans"] for info in infos] == [0]

        wait_until(lets_go)
        paused.leave()
    assert not list(scan.client.scan_iter(f"*{scan.uid}*"))
    assert scan.client.xlen(ANNOUNCEMENTS) == 0


def test_a_small_redis_takes_scans_with_large_metadata_for_ever(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    """What they leave there besides their points would fill it several times."""
    n_scans, mask = 60, "m" * 800_000
    server = redis_factory({"maxmemory": "16mb", "maxmemory-policy": "noeviction"})
    with (
        writer(server.url, tmp_path),
        connect(server.url, name="test") as client,
        Publisher(server.url, close_timeout_s=30, send_deadline_s=20) as publisher,
    ):
        scans = []
        for number in range(n_scans):
            with publisher.scan(quota_bytes=2**18, metadata={"mask": mask}) as scan:
                scan.channel("a")
                scan.send("a", float(number))
            scans.append(scan)
            if number % 10 == 9:
                assert scan.verdict(30).verdict is VerdictWord.COMPLETE
        words = {scan.verdict(30).verdict for scan in scans}
        assert words == {VerdictWord.COMPLETE}

        left = client.xlen(ANNOUNCEMENTS)
        assert KEPT_WHEN_FULL <= left < n_scans / 2
        assert len(list(client.scan_iter("scanbus:{*:lane"))) == left
        assert len(list(client.scan_iter("scanbus:{*"))) <= 5 * left
        assert client.get(number_key(scan.identity.dataset_folder)) == b"%d" % n_scans
    assert len(found_below(tmp_path, "scan????.h5")) == n_scans
