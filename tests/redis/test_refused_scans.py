"""A scan that is refused has never been: no number, no announcement, no spool."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.protocol import ANNOUNCEMENTS, RESERVED
from scanbus.bus.store import Bus, connect, reserve_quota, writers_alive
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import DeadlineError, QuotaRefusedError
from tests.support.waiting import found_below, wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

MIB = 2**20


def larger_than_the_budget(publisher: Publisher) -> Scan:
    return publisher.scan(quota_bytes=2**45)


def too_small_for_a_frame(publisher: Publisher) -> Scan:
    return publisher.scan(quota_bytes=1000)


def no_room_in_time(publisher: Publisher) -> Scan:
    return publisher.scan(quota_bytes=2**31)


def send(scan: Scan) -> None:
    scan.detector("d", shape=(64, 64), dtype="uint16")
    scan.send("d", np.zeros((64, 64), np.uint16))


def traces(client: Bus, uid: str) -> list[str]:
    found = [key.decode() for key in client.scan_iter("*") if uid in key.decode()]
    found += ["announced"] * client.xlen(ANNOUNCEMENTS)
    return found + ["reserved"] * client.hexists(RESERVED, uid)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("is_spooled", [False, True])
@pytest.mark.parametrize(
    "refused", [larger_than_the_budget, too_small_for_a_frame, no_room_in_time]
)
def test_nothing_of_it_is_left(
    redis_url: str,
    tmp_path: Path,
    refused: Callable[[Publisher], Scan],
    is_spooled: bool,
) -> None:
    spool = tmp_path / "spool" if is_spooled else None
    with (
        connect(redis_url, name="test") as client,
        Publisher(
            redis_url, spool=spool, send_deadline_s=0.3, close_timeout_s=5
        ) as publisher,
    ):
        reserve_quota(client, "another0", 2**30, 2**40)
        scan = refused(publisher)
        with pytest.raises((QuotaRefusedError, DeadlineError)) as said:
            with scan:
                send(scan)
        assert traces(client, scan.uid) == []
        assert spool is None or list(spool.iterdir()) == []
        with pytest.raises(type(said.value)):
            scan.verdict(1)
        with publisher.scan(quota_bytes=MIB) as scan:
            send(scan)
        assert scan.identity.scan_number == 1


def test_a_number_that_somebody_else_has_taken_since_stays(redis_url: str) -> None:
    with (
        Publisher(redis_url, close_timeout_s=0.1) as publisher,
        Publisher(redis_url, close_timeout_s=0.1) as other,
    ):
        scan = larger_than_the_budget(publisher).__enter__()
        with other.scan() as second:
            second.channel("a")
        with pytest.raises(QuotaRefusedError):
            send(scan)
        with publisher.scan() as third:
            third.channel("a")
    assert (second.identity.scan_number, third.identity.scan_number) == (2, 3)


def test_a_writer_lets_it_go(redis_url: str, tmp_path: Path) -> None:
    with (
        connect(redis_url, name="test") as client,
        writer(redis_url, tmp_path / "root", "--lease-s", "1") as process,
        Publisher(redis_url, close_timeout_s=30) as publisher,
    ):
        wait_until(lambda: bool(writers_alive(client)), timeout_s=60)
        scan = larger_than_the_budget(publisher).__enter__()
        wait_until(lambda: any("lease" in key for key in traces(client, scan.uid)))
        with pytest.raises(QuotaRefusedError):
            send(scan)
        with publisher.scan() as next_one:
            send(next_one)
        assert next_one.identity.scan_number == 1
        assert next_one.verdict(60).verdict is VerdictWord.COMPLETE
        wait_until(lambda: traces(client, scan.uid) == ["announced"], timeout_s=30)
        process.leave()
    assert not any(
        scan.uid in str(path) for path in found_below(tmp_path / "root", "*")
    )
