"""A number that is given once, or refused, does not end or disturb the counting."""

import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanbus.bus.protocol.keys import ANNOUNCEMENTS, events_key, number_key
from scanbus.bus.store import (
    Bus,
    announcements,
    claim_scan_number,
    next_scan_number,
    raise_scan_number,
    release_scan_number,
    take_number_after,
)
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import MAX_COUNTED_NUMBER, VerdictWord
from scanbus.schemas.errors import (
    NoNumberLeftError,
    QuotaRefusedError,
    ScanNumberTakenError,
    SpoolError,
)
from scanbus.writer.storage.number_claims import last_number
from tests.support.numbered_scans import (
    DATASET,
    SESSION,
    await_writer,
    flush,
    publish,
    values_in,
)
from tests.support.published import record_of
from tests.support.raw_publisher import RawScan
from tests.support.waiting import found_below, wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

LARGEST = 99_999_999


def counter(client: Bus) -> Any:
    return client.get(number_key(DATASET))


def refuse(publisher: Publisher, **where: Any) -> Scan:
    """Open a scan that cannot start."""
    scan = publisher.scan(session=SESSION, quota_bytes=2**45, **where)
    scan.__enter__()
    scan.channel("a")
    with pytest.raises(QuotaRefusedError):
        scan.send("a", 1.0)
    return scan


# ------------------------------------------------------------------ large numbers


def test_after_the_largest_number_the_scans_are_counted_on(
    server: PrivateRedis, client: Bus, tmp_path: Path
) -> None:
    with writer(server.url, tmp_path):
        await_writer(server)
        with Publisher(server.url) as publisher:
            publish(publisher, [1.0])
            for number in (LARGEST, LARGEST - 1):
                publish(publisher, [float(number)], scan_number=number)
            publish(publisher, [2.0])
        assert counter(client) == b"2"
        with Publisher(server.url) as other:
            publish(other, [3.0])
        flush(server)
        with Publisher(server.url) as third:
            publish(third, [4.0])
            with pytest.raises(ScanNumberTakenError):
                publish(third, [0.0], scan_number=LARGEST)
        assert counter(client) == b"4"
    assert [values_in(tmp_path, number) for number in (1, 2, 3, 4)] == [
        *([1.0], [2.0], [3.0], [4.0])
    ]
    assert values_in(tmp_path, LARGEST) == [float(LARGEST)]


def test_a_large_number_is_given_once_also_without_a_writer(
    server: PrivateRedis, client: Bus
) -> None:
    with Publisher(server.url, close_timeout_s=0) as publisher:
        publish(publisher, [1.0], scan_number=LARGEST, verdict_s=0)
        with pytest.raises(ScanNumberTakenError):
            publish(publisher, [1.0], scan_number=LARGEST, verdict_s=0)
    assert client.xlen(ANNOUNCEMENTS) == 1


def test_a_counter_is_restored_also_for_a_large_number(
    server: PrivateRedis, client: Bus
) -> None:
    with Publisher(server.url, close_timeout_s=0) as publisher:
        with publisher.scan(session=SESSION, scan_number=LARGEST) as scan:
            scan.channel("a")
            scan.send("a", 1.0)
            events = events_key(scan.uid)
            wait_until(lambda: client.xlen(events) == 2)
            flush(server)
            wait_until(lambda: client.xlen(events) == 2, timeout_s=30)
            wait_until(lambda: counter(client) == b"0")


def test_a_scan_that_cannot_be_counted_is_refused_and_publishes_nothing(
    server: PrivateRedis, client: Bus
) -> None:
    client.set(number_key(DATASET), MAX_COUNTED_NUMBER - 1)
    with Publisher(server.url, close_timeout_s=0) as publisher:
        scan = publish_open(publisher)
        assert scan.identity.scan_number == MAX_COUNTED_NUMBER
        with pytest.raises(NoNumberLeftError, match=f"{DATASET} are used up") as said:
            publish_open(publisher)
        assert "Use another dataset, or give the scan a number" in str(said.value)
        publish(publisher, [1.0], scan_number=5, verdict_s=0)
    numbers = [line.document.scan.scan_number for line in announcements(client)]  # type: ignore[union-attr]
    assert numbers == [MAX_COUNTED_NUMBER, 5]
    assert not list(client.scan_iter("scanbus:claim:*"))


def publish_open(publisher: Publisher) -> Scan:
    with publisher.scan(session=SESSION) as scan:
        scan.channel("a")
    return scan


@pytest.mark.parametrize("stored", [b"99999999", b"100000000", b"9" * 400, b"9e9"])
def test_a_counter_beyond_the_limit_is_filled_again_from_the_disk(
    server: PrivateRedis, client: Bus, tmp_path: Path, stored: bytes
) -> None:
    """Other publishers may set it."""
    (tmp_path / DATASET / "scan0004").mkdir(parents=True)
    client.set(number_key(DATASET), stored)
    with writer(server.url, tmp_path), Publisher(server.url) as publisher:
        await_writer(server)
        publish(publisher, [1.0])
    assert values_in(tmp_path, 5) == [1.0]


def test_a_writer_that_has_no_number_left_says_so(
    server: PrivateRedis, client: Bus, tmp_path: Path
) -> None:
    folder = tmp_path / RawScan(server.url, uid="another0").identity.dataset_folder
    for number in (3, MAX_COUNTED_NUMBER):
        name = f"scan{number:04d}"
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.h5").write_bytes(b"of somebody else")
    scan = RawScan(server.url, number=3, uid="nonumber0").prepare()
    scan.end()
    with writer(server.url, tmp_path) as one:
        wait_until(lambda: "scan_paused" in one.said)
        assert "are used up: they are counted up to 89999999" in one.said
        assert record_of(client, scan.uid).renumbered is None
        (folder / f"scan{MAX_COUNTED_NUMBER}/scan{MAX_COUNTED_NUMBER}.h5").unlink()
        (folder / f"scan{MAX_COUNTED_NUMBER}").rmdir()
        client.delete(number_key(scan.identity.dataset_folder))
        wait_until(lambda: bool(record_of(client, scan.uid).final_verdict))
    assert record_of(client, scan.uid).identity.scan_number == 4


NUMBERS = st.integers(1, LARGEST) | st.sampled_from(
    [1, 2, MAX_COUNTED_NUMBER - 1, MAX_COUNTED_NUMBER, MAX_COUNTED_NUMBER + 1, LARGEST]
)


def test_no_counter_gives_an_invalid_number(client: Bus, tmp_path: Path) -> None:
    """Whatever was given, raised or found on the disk; all agree on what counts."""
    folders = count()

    @settings(max_examples=60, deadline=None)
    @given(numbers=st.lists(st.tuples(NUMBERS, st.sampled_from("graf")), max_size=6))
    def check(numbers: list[tuple[int, str]]) -> None:
        client.flushall()
        folder = tmp_path / str(next(folders))
        top = 0
        for index, (number, how) in enumerate(numbers):
            match how:
                case "g":
                    claim_scan_number(client, DATASET, f"given{index:04d}", number)
                case "r":
                    raise_scan_number(client, DATASET, number)
                case "f":
                    (folder / f"scan{number:04d}").mkdir(parents=True, exist_ok=True)
                    raise_scan_number(client, DATASET, last_number(folder))
                case _:
                    raise_scan_number(client, DATASET, 0)
            top = max(top, number if how != "a" and number < 90_000_000 else 0)
        if top == MAX_COUNTED_NUMBER:
            with pytest.raises(NoNumberLeftError):
                next_scan_number(client, DATASET, "counted0")
            with pytest.raises(NoNumberLeftError):
                take_number_after(client, DATASET, top)
        else:
            assert next_scan_number(client, DATASET, "counted0") == top + 1

    check()


# ---------------------------------------------------------------- refused scans


@pytest.mark.parametrize("number", [50, LARGEST])
def test_a_refused_scan_puts_the_counter_back(
    server: PrivateRedis, client: Bus, number: int
) -> None:
    with Publisher(server.url, close_timeout_s=0) as publisher:
        publish(publisher, [1.0], verdict_s=0)
        refuse(publisher, scan_number=number)
        assert counter(client) == b"1"
        assert publish_open(publisher).identity.scan_number == 2
    with Publisher(server.url, close_timeout_s=0) as other:
        assert publish_open(other).identity.scan_number == 3


def is_quiet(folder: Path) -> bool:
    """Whether nobody writes below a folder; one who does would make it again."""

    def listed() -> list[tuple[Path, int, int]]:
        found = [(path, path.lstat()) for path in found_below(folder, "*")]
        return [(path, each.st_size, each.st_mtime_ns) for path, each in found]

    before = listed()
    time.sleep(0.5)
    return listed() == before


def test_a_scan_that_cannot_be_announced_puts_the_counter_back(
    server: PrivateRedis, client: Bus, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    with Publisher(server.url, close_timeout_s=0, spool=spool) as publisher:
        publish(publisher, [1.0], verdict_s=0)
        wait_until(lambda: is_quiet(spool))
        spool.rename(tmp_path / "away")
        spool.write_text("no folder")
        for given_one in ({"scan_number": 50}, {}):
            with pytest.raises(SpoolError):
                publish(publisher, [1.0], verdict_s=0, **given_one)
            assert counter(client) == b"1"
        spool.unlink()
        (tmp_path / "away").rename(spool)
        assert publish_open(publisher).identity.scan_number == 2


def test_the_counter_stays_if_another_scan_was_counted_on(
    server: PrivateRedis, client: Bus
) -> None:
    with (
        Publisher(server.url, close_timeout_s=0) as one,
        Publisher(server.url, close_timeout_s=0) as other,
    ):
        publish(one, [1.0], verdict_s=0)
        scan = one.scan(session=SESSION, scan_number=50, quota_bytes=2**45).__enter__()
        assert publish_open(other).identity.scan_number == 51
        scan.channel("a")
        with pytest.raises(QuotaRefusedError):
            scan.send("a", 1.0)
        assert counter(client) == b"51"
        assert publish_open(one).identity.scan_number == 52


def test_the_counter_goes_back_to_the_largest_number_that_is_taken(
    server: PrivateRedis, client: Bus, tmp_path: Path
) -> None:
    """Numbers below 50 that scans and files got since."""
    (tmp_path / DATASET / "scan0030").mkdir(parents=True)
    with (
        Publisher(server.url, close_timeout_s=0) as one,
        Publisher(server.url, close_timeout_s=0) as other,
    ):
        publish(one, [1.0], verdict_s=0)
        scan = one.scan(session=SESSION, scan_number=50, quota_bytes=2**45).__enter__()
        publish(other, [20.0], scan_number=20, verdict_s=0)
        scan.channel("a")
        with pytest.raises(QuotaRefusedError):
            scan.send("a", 1.0)
        assert counter(client) == b"20"
        with writer(server.url, tmp_path):
            await_writer(server)
            refuse(one, scan_number=50)
            assert counter(client) == b"30"


def test_given_numbers_that_are_released_in_any_order_are_not_given_twice(
    client: Bus,
) -> None:
    """Against a model: no counted number is one that a scan has or may have."""

    @settings(max_examples=150, deadline=None)
    @given(
        steps=st.lists(
            st.tuples(st.sampled_from(["count", "give", "release"]), st.integers(1, 9)),
            max_size=14,
        )
    )
    def check(steps: list[tuple[str, int]]) -> None:
        client.flushall()
        held: dict[int, str] = {}
        for index, (what, number) in enumerate(steps):
            uid = f"program{index:02d}"
            if what == "release" and held:
                chosen = sorted(held)[number % len(held)]
                release_scan_number(client, DATASET, held.pop(chosen), chosen)
            elif what == "give" and number not in held:
                assert not claim_scan_number(client, DATASET, uid, number).holder
                held[number] = uid
            elif what == "count":
                counted = forgotten_claims(client, uid)
                assert counted not in held
                held[counted] = uid
            at_least = max(held, default=0)
            assert int(client.get(number_key(DATASET)) or 0) >= at_least
        for number in sorted(held, reverse=True):
            release_scan_number(client, DATASET, held.pop(number), number)

    def forgotten_claims(client: Bus, uid: str) -> int:
        number = next_scan_number(client, DATASET, uid)
        assert client.get(f"scanbus:claim:{DATASET}:{number}") == uid.encode()
        return number

    check()


def test_a_verdict_is_given_on_scans_around_a_large_number(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with writer(server.url, tmp_path), Publisher(server.url) as publisher:
        await_writer(server)
        verdicts = [
            publish(publisher, [1.0], **given_one)
            for given_one in ({}, {"scan_number": LARGEST}, {}, {})
        ]
    assert [each and each.verdict for each in verdicts] == [VerdictWord.COMPLETE] * 4
