"""Points of a scan as they stand on the bus: values, and the three answers."""

from collections.abc import Iterator

import numpy as np
import pytest

from scanbus.bus.protocol import SEAL_ID, lane_key
from scanbus.bus.store import acknowledge
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import (
    BusUnavailableError,
    DeadlineError,
    NeverError,
    NoLongerError,
    NotYetError,
    ScanInterruptedError,
    ScanStateError,
    UnknownChannelError,
    UnknownScanError,
)
from scanbus.subscriber import ScanReader, Subscriber
from tests.support.raw_publisher import FRAME_SHAPE, RawScan, frames
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

DECLARED = "declared missing by the publisher; if they came late, the file has them"


@pytest.fixture
def subscriber(redis_url: str) -> Iterator[Subscriber]:
    with Subscriber(redis_url, lapse_s=0.3) as subscriber:
        yield subscriber


@pytest.fixture
def raw(redis_url: str) -> Iterator[RawScan]:
    scan = RawScan(redis_url).prepare()
    yield scan
    scan.close()


@pytest.fixture
def scan(subscriber: Subscriber, raw: RawScan) -> ScanReader:
    return subscriber.scan(raw.uid)


def test_every_kind_of_channel_reads_back_as_it_was_sent(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_group(0, 3)
    raw.send_group(3, 10)
    hits = [np.arange(n, dtype=float) for n in (0, 3, 1)]
    raw.send("hits", {"hits": hits})
    raw.send_frames(0, 4)
    raw.send_padded("eiger", frames(4, 6))

    np.testing.assert_array_equal(scan.read("th"), np.arange(10) * 0.5)
    assert scan.read("c1", 2, 5).tolist() == [20, 30, 40]
    assert scan.read("c1").dtype == np.int32
    assert scan.read("label", 9) == ["point 9"]
    for got, sent in zip(scan.read("hits"), hits, strict=True):
        np.testing.assert_array_equal(got, sent)
    np.testing.assert_array_equal(scan.read("eiger"), frames(0, 6))


def test_single_points_and_the_newest_one(raw: RawScan, scan: ScanReader) -> None:
    raw.send_group(0, 10)
    raw.send_frames(0, 4)
    raw.send_frames(4, 5)

    assert scan.point("th", 7) == 3.5
    assert scan.point("label", 7) == "point 7"
    np.testing.assert_array_equal(scan.point("eiger", 2), np.full(FRAME_SHAPE, 2))
    number, frame = scan.latest("eiger")
    assert (number, frame.max()) == (4, 4)
    raw.seal()
    assert scan.latest("th") == (9, 4.5)


def test_lengths_and_seals(raw: RawScan, scan: ScanReader) -> None:
    assert scan.length("eiger") == 0
    raw.send_frames(0, 3)
    assert (scan.length("eiger"), scan.is_over("eiger")) == (3, False)
    raw.seal("eiger")
    assert (scan.length("eiger"), scan.is_over("eiger")) == (3, True)
    assert scan.read("eiger", 3).shape == (0, *FRAME_SHAPE)


def test_a_lane_that_lost_its_seal_is_read_as_one_that_is_not_there(
    raw: RawScan, scan: ScanReader
) -> None:
    """As if it left the bus between two questions of this reader."""
    raw.send_frames(0, 3)
    raw.seal("eiger")
    raw.client.xdel(lane_key(raw.uid, "eiger"), SEAL_ID)
    assert (scan.length("eiger"), scan.is_over("eiger")) == (0, False)


def test_a_point_that_may_come_is_not_there_yet(raw: RawScan, scan: ScanReader) -> None:
    raw.send_group(0, 5)

    for ask in (
        lambda: scan.point("th", 5),
        lambda: scan.read("th", 3, 6),
        lambda: scan.read("th", 9),
        lambda: scan.latest("eiger"),
    ):
        with pytest.raises(NotYetError):
            ask()


def test_a_point_behind_the_seal_never_comes(raw: RawScan, scan: ScanReader) -> None:
    raw.send_group(0, 5)
    raw.seal()

    with pytest.raises(NeverError) as never:
        scan.point("th", 5)
    assert never.value.length == 5
    with pytest.raises(NeverError):
        scan.read("th", 0, 6)
    with pytest.raises(NeverError):
        scan.latest("eiger")


def test_a_trimmed_point_is_no_longer_there_and_its_file_is_named(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_frames(0, 4)
    raw.send_frames(4, 8)
    acknowledge(raw.client, raw.uid, "eiger", 4)
    raw.trim("eiger", 4)

    with pytest.raises(NoLongerError) as no_longer:
        scan.point("eiger", 3)
    assert no_longer.value.file == (
        "hg123/id00/20260101/RAW_DATA/sample/sample_d1/scan0001/scan0001.h5"
    )
    raw.judge(VerdictWord.COMPLETE, master="elsewhere/master.h5")
    with pytest.raises(NoLongerError) as no_longer:
        scan.read("eiger", 1)
    assert (no_longer.value.point, no_longer.value.file) == (1, "elsewhere/master.h5")
    assert scan.read("eiger", 4)[0].max() == 4


def test_a_lane_that_was_trimmed_whole_keeps_its_length(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_frames(0, 4)
    raw.seal("eiger")
    acknowledge(raw.client, raw.uid, "eiger", 4)
    raw.trim("eiger", 4)

    assert scan.length("eiger") == 4
    for ask in (lambda: scan.read("eiger"), lambda: scan.latest("eiger")):
        with pytest.raises(NoLongerError):
            ask()


def test_points_that_only_the_writer_has_are_no_longer_there(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.gap("g", 5, is_durable=True)
    raw.send_group(5, 7)

    with pytest.raises(NoLongerError):
        scan.point("th", 2)
    with pytest.raises(NoLongerError):
        scan.read("th")
    assert scan.read("th", 5).tolist() == [2.5, 3.0]


def test_missing_points_hold_the_missing_value_and_are_named(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_group(0, 2)
    raw.gap("g", 2)
    raw.send(
        "g",
        {"th": [2.0, 2.5], "c1": [40, 50], "label": ["four", "five"]},
        gaps={"c1": ((4, 5),)},
    )
    raw.lose("g", 1)
    raw.send_group(7, 8)
    raw.send("g", {"th": [9.0], "c1": [9], "label": ["bad"]}, damaged=True)

    nan = float("nan")
    expected = [0.0, 0.5, nan, nan, 2.0, 2.5, nan, 3.5, nan]
    np.testing.assert_array_equal(scan.read("th"), expected)
    lowest = np.iinfo(np.int32).min
    numbers = [0, 10, lowest, lowest, lowest, 50, lowest, 70, lowest]
    assert scan.read("c1").tolist() == numbers
    assert scan.read("label", 1, 5) == ["point 1", "", "", "four"]
    missing = [each for batch in scan.batches("c1") for each in batch.missing]
    assert missing == [(2, 4), (4, 5), (6, 7), (8, 9)]
    assert [batch.reason.partition(":")[0] for batch in scan.batches("c1")] == [
        "",
        DECLARED,
        DECLARED,
        "lost",
        "",
        "the checksum does not match",
    ]
    for point in (2, 6, 8):
        assert np.isnan(scan.point("th", point))


def test_an_entry_that_no_reader_believes_hides_nothing_that_came_before(
    raw: RawScan, scan: ScanReader
) -> None:
    raw.send_group(0, 2)
    raw.lose("g", 500)
    raw.send("g", {"th": [9.0], "c1": [9], "label": ["bad"]}, damaged=True)

    assert scan.read("th").tolist() == [0, 0.5]
    with pytest.raises(NotYetError):
        scan.read("th", 0, 3)


def test_what_is_read_is_the_callers_own(raw: RawScan, scan: ScanReader) -> None:
    raw.send_group(0, 4)
    values = scan.read("th")
    values[0] = 99
    assert scan.read("th")[0] == 0


def test_a_long_channel_is_read_in_bounded_pieces(
    raw: RawScan, scan: ScanReader
) -> None:
    for start in range(0, 900, 10):
        raw.send_group(start, start + 10)
    np.testing.assert_array_equal(scan.read("th", 45, 855), np.arange(45, 855) * 0.5)


def test_senseless_points_are_refused(raw: RawScan, scan: ScanReader) -> None:
    raw.send_group(0, 4)
    for ask in (
        lambda: scan.point("th", -1),
        lambda: scan.read("th", -1),
        lambda: scan.read("th", 3, 2),
        lambda: scan.stream("th", start=-1),
    ):
        with pytest.raises(ValueError, match="point"):
            ask()


def test_unknown_names(subscriber: Subscriber, scan: ScanReader) -> None:
    with pytest.raises(UnknownChannelError, match="th, c1"):
        scan.read("nothing")
    with pytest.raises(UnknownScanError):
        subscriber.scan("zzzz")


def test_a_scan_is_found_by_uid_start_number_or_as_the_last(
    subscriber: Subscriber, redis_url: str
) -> None:
    with pytest.raises(UnknownScanError):
        subscriber.scan("last")
    for number, uid in ((1, "a" * 20), (2, "b" * 20)):
        RawScan(redis_url, number=number, uid=uid).close()

    for name, number in (("a" * 20, 1), ("bbb", 2), (1, 1), ("2", 2), ("last", 2)):
        assert subscriber.scan(name).record.identity.scan_number == number


def test_channels_are_known_once_the_scan_is_prepared(
    subscriber: Subscriber, redis_url: str
) -> None:
    raw = RawScan(redis_url)
    scan = subscriber.scan("last")
    assert scan.channels == {}
    with pytest.raises(ScanStateError, match="not prepared"):
        scan.read("th")
    with pytest.raises(DeadlineError):
        scan.wait_prepared(0.05)
    raw.prepare()
    scan.wait_prepared(5)
    assert list(scan.channels) == ["th", "c1", "label", "hits", "eiger"]
    assert scan.state == "started"
    raw.end()
    raw.judge(VerdictWord.PARTIAL)
    assert scan.refresh()
    assert not scan.refresh()
    assert scan.verdict is not None
    assert (scan.state, scan.verdict.verdict) == ("partial", VerdictWord.PARTIAL)
    raw.close()


def test_a_publisher_that_dies_before_prepared_is_named(
    subscriber: Subscriber, redis_url: str
) -> None:
    RawScan(redis_url, heartbeat_s=0.05).close()
    with pytest.raises(ScanInterruptedError):
        subscriber.scan("last").wait_prepared(20)


def test_the_list_of_scans(subscriber: Subscriber, redis_url: str) -> None:
    assert subscriber.scans() == []
    first = RawScan(redis_url, number=1, title="first").prepare()
    first.send_group(0, 5)
    first.send_frames(0, 2)
    first.end()
    first.judge(VerdictWord.COMPLETE)
    second = RawScan(redis_url, number=2).prepare()
    third = RawScan(redis_url, number=3, heartbeat_s=0.01).prepare()
    silent = subscriber.scan(3)
    wait_until(lambda: not silent.publisher_is_alive(), what="the heartbeat lapses")

    infos = subscriber.scans()
    assert [(info.number, info.state) for info in infos] == [
        (1, "complete"),
        (2, "started"),
        (3, "interrupted"),
    ]
    assert infos[0].points == {"th": 5, "c1": 5, "label": 5, "hits": 0, "eiger": 2}
    assert (infos[0].title, infos[0].verdict) == ("first", "complete")
    assert infos[0].end_reason == "SUCCESS"
    assert [info.number for info in subscriber.scans(limit=1)] == [3]
    status = subscriber.status()
    assert (status.n_scans, [info.number for info in status.open]) == (3, [2, 3])
    for raw in (first, second, third):
        raw.close()


def test_a_redis_that_never_answered_is_not_waited_for() -> None:
    with Subscriber("redis://127.0.0.1:1") as subscriber:
        with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:1"):
            subscriber.scans()
