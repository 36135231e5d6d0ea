"""Readers hear what is true: what is lost, what a file has, and what is over."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import Evictor
from scanbus.cli import main
from scanbus.publisher import Publisher
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import (
    NeverError,
    NoLongerError,
    NotYetError,
    ScanInterruptedError,
    ScanStateError,
)
from scanbus.subscriber import Batch, ScanReader, Subscriber
from scanbus.writer import check_files, replay
from tests.support.mixed_scan import master_of, write_once
from tests.support.published import safe_and_shown
from tests.support.raw_publisher import RawScan, frames
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.redis

NO_FILE = "lost: no entry on the bus has them, and no file"
LOST, N_POINTS = (4, 8), 24


@pytest.fixture
def subscriber(redis_url: str) -> Iterator[Subscriber]:
    with Subscriber(redis_url, lapse_s=0.3) as subscriber:
        yield subscriber


def scan_with_a_loss(url: str, first: int = LOST[0]) -> RawScan:
    """Return an ended scan that lost frames and values on their way."""
    scan = RawScan(url).prepare()
    for start in range(0, N_POINTS, 4):
        if start == first:
            scan.lose("eiger", 4)
            scan.lose("g", 4)
        else:
            scan.send_frames(start, start + 4)
            scan.send_group(start, start + 4)
    scan.end()
    return scan


def trim_all(scan: RawScan) -> None:
    """Have everything leave the bus that the writer has acknowledged."""
    Evictor().free(scan.client, 0)


def answers(reader: ScanReader, channel: str) -> list[str]:
    """Ask for each point alone: its value's place, or what the reader is told."""
    told = []
    for point in range(N_POINTS):
        try:
            value = np.asarray(reader.point(channel, point), float)
        except (NoLongerError, NotYetError, NeverError) as error:
            told.append(type(error).__name__)
        else:
            none = np.asarray(reader.channels[channel].missing_value, float)
            is_hole = np.array_equal(value, np.full_like(value, none), equal_nan=True)
            told.append("hole" if is_hole else "value")
    return told


@pytest.mark.parametrize("first", [0, 4, 20])
@pytest.mark.parametrize("is_written", [False, True])
def test_a_lost_point_is_a_hole_wherever_it_is(
    redis_url: str, subscriber: Subscriber, tmp_path: Path, first: int, is_written: bool
) -> None:
    """On the bus, or when all that came is in files and trimmed."""
    scan = scan_with_a_loss(redis_url, first)
    reader = subscriber.scan(scan.uid)
    if is_written:
        write_once(redis_url, tmp_path)
        trim_all(scan)
    expected = ["NoLongerError" if is_written else "value"] * N_POINTS
    expected[first : first + 4] = ["hole"] * 4
    for channel in ("th", "eiger"):
        assert answers(reader, channel) == expected
    if is_written:
        in_file = 4 if first == 0 else 0
        for ask in (
            lambda: reader.read("th"),
            lambda: list(reader.stream("th")),
            lambda: list(reader.stream("eiger", "th")),
        ):
            with pytest.raises(NoLongerError) as told_by:
                ask()
            assert told_by.value.point == in_file


def test_a_stream_goes_on_behind_a_loss_and_names_it(
    redis_url: str, subscriber: Subscriber
) -> None:
    scan = scan_with_a_loss(redis_url)
    reader = subscriber.scan(scan.uid)
    for start in (0, 5, 8):
        for names in (("th",), ("eiger",), ("eiger", "c1")):
            holes: list[Batch] = []
            stops = dict.fromkeys(names, start)
            for batch in reader.stream(*names, start=start):
                assert batch.start == stops[batch.channel]
                stops[batch.channel] = batch.stop
                holes += [batch] * bool(batch.missing)
            assert set(stops.values()) == {N_POINTS}
            assert {hole.reason for hole in holes} <= {NO_FILE}
            assert len(holes) == (0 if start == 8 else len(names))
    newest = list(reader.stream("th", latest_only=True))
    assert [batch.stop for batch in newest] == [N_POINTS]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_tail_goes_on_behind_a_loss_and_says_why(
    redis_url: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    scan_with_a_loss(redis_url)
    command = ["tail", "last", "th", "eiger", "--from-start", *options]
    assert main([*command, "--redis", redis_url]) == 0
    out = capsys.readouterr()
    if options:
        lines = [json.loads(line) for line in out.out.splitlines()]
        assert [line["reason"] for line in lines if line["missing"]] == [NO_FILE] * 2
        assert {line["stop"] for line in lines} >= {N_POINTS}
    else:
        assert out.out.count(f"4 missing; {NO_FILE}") == 2
        assert f"[{N_POINTS - 4}-{N_POINTS - 1}]" in out.out
    assert "ended, SUCCESS" in out.err


def test_a_gap_that_the_publisher_declares_and_a_late_point_are_told_apart(
    redis_url: str, subscriber: Subscriber, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    scan.send_frames(0, 4)
    scan.gap("eiger", 4)
    scan.late("eiger", 5, frames(5, 6))
    scan.send_frames(8, 12)
    scan.end()
    reader = subscriber.scan(scan.uid)
    (hole,) = [batch for batch in reader.batches("eiger") if batch.missing]
    assert (hole.start, hole.stop) == (4, 8)
    assert hole.reason.startswith("declared missing by the publisher")
    write_once(redis_url, tmp_path)
    trim_all(scan)
    # The file has the late one, as such, and not the others.
    assert reader.lost("eiger") == [(4, 5), (6, 8)]
    with pytest.raises(NoLongerError):
        reader.point("eiger", 5)
    hole_value = reader.channels["eiger"].missing_value
    assert (reader.point("eiger", 6) == hole_value).all()


def test_numbered_points_that_never_came_are_holes_for_a_live_reader(
    redis_url: str, subscriber: Subscriber
) -> None:
    got: list[Batch] = []

    def follow() -> None:
        got.extend(subscriber.scan("last").stream("a", timeout_s=30))

    with Publisher(redis_url, reorder_s=0.2, close_timeout_s=0) as publisher:
        with publisher.scan() as scan:
            scan.channel("a")
            scan.send("a", 0.0, point=0)
            reader = threading.Thread(target=follow)
            reader.start()
            for index in (1, 4, 5):
                scan.send("a", float(index), point=index)
        reader.join(60)
    values = np.concatenate([batch.values for batch in got])
    np.testing.assert_array_equal(values, [0, 1, np.nan, np.nan, 4, 5])
    reasons = {batch.reason for batch in got if batch.missing}
    assert all(each.startswith("declared missing") for each in reasons)
    assert len(reasons) == 1


@pytest.mark.parametrize("is_alive", [False, True])
def test_a_judged_scan_is_over_whatever_its_lanes_say(
    redis_url: str,
    subscriber: Subscriber,
    capsys: pytest.CaptureFixture[str],
    *,
    is_alive: bool,
) -> None:
    """No seal came: it was dismissed, or Redis lost what ended it."""
    scan = RawScan(redis_url, heartbeat_s=0.05).prepare()
    scan.send_group(0, 5)
    reader = subscriber.scan(scan.uid)
    wait_until(lambda: not reader.publisher_is_alive())
    assert not reader.is_over("th")
    with pytest.raises(NotYetError):
        reader.point("th", 5)
    with pytest.raises(ScanInterruptedError):
        list(reader.stream("th"))
    unprepared = subscriber.scan(RawScan(redis_url, uid="unprepared").uid)
    scan.client.delete(f"scanbus:{{{unprepared.uid}}}:publisher")
    close_scan(redis_url, unprepared.uid, dismiss=True)
    if is_alive:
        scan.client.set(f"scanbus:{{{unprepared.uid}}}:publisher", "raw", px=60_000)
    with pytest.raises(ScanStateError, match="never prepared"):
        unprepared.wait_prepared(20)
    close_scan(redis_url, scan.uid, dismiss=True)
    if is_alive:
        scan.client.set(f"scanbus:{{{scan.uid}}}:publisher", "raw", px=60_000)

    assert reader.is_over("th")
    with pytest.raises(NeverError):
        reader.point("th", 5)
    with pytest.raises(NeverError):
        reader.latest("eiger")
    assert [batch.stop for batch in reader.stream("th", timeout_s=20)] == [5]
    assert main(["tail", scan.uid, "th", "--redis", redis_url]) == 0
    said = capsys.readouterr().err
    assert "this scan is over" in said
    assert "failed" in said
    assert main(["ls", "--redis", redis_url]) == 0
    assert "failed" in capsys.readouterr().out


def test_points_of_an_interrupted_scan_on_the_bus_are_not_called_missing(
    redis_url: str, subscriber: Subscriber, tmp_path: Path
) -> None:
    """Not in the verdict, not by check; what is lost is named all the same."""
    scan = RawScan(redis_url, heartbeat_s=0.5).prepare()
    scan.send_frames(0, 4)
    scan.lose("eiger", 4)
    for start in range(8, N_POINTS, 4):
        scan.send_frames(start, start + 4)
    scan.send_group(0, 481)
    with writer(redis_url, tmp_path / "root") as process:
        reader = subscriber.scan(scan.uid)

        def interrupted() -> bool:
            reader.refresh()
            return reader.verdict is not None

        wait_until(interrupted)
        verdict = reader.verdict
        assert verdict is not None
        assert verdict.provisional
        assert verdict.channels["th"].missing == ()
        assert verdict.channels["eiger"].missing == (LOST,)
        # Small values are in files by then, frames when their segment is full.
        assert "th, c1, label: not sealed, 481 points so far;" in verdict.reason
        frames_left = "eiger: not sealed, 20 points so far, 4 of them on the bus"
        assert frames_left in verdict.reason
        master = master_of(tmp_path / "root")
        assert check_files([master], everything=True).findings == ()
        # They stand where the log says, for readers and for a replay.
        np.testing.assert_array_equal(reader.read("th"), np.arange(481) * 0.5)
        again = replay(redis_url, scan.uid, tmp_path / "again")
        assert again.channels["th"].missing == ()
        close_scan(redis_url, scan.uid)
        last = final_verdict(redis_url, scan.uid)
        process.leave()
    assert last.verdict is VerdictWord.PARTIAL
    assert last.channels["th"].written == 481
    assert last.channels["eiger"].missing == (LOST,)


def test_readers_find_a_renumbered_scan_by_its_number_in_the_files(
    redis_url: str, subscriber: Subscriber, tmp_path: Path
) -> None:
    for uid in ("firstofone", "secondofone"):
        scan = RawScan(redis_url, uid=uid, number=1).prepare()
        scan.send_group(0, 5)
        scan.end()
    write_once(redis_url, tmp_path)
    reader = subscriber.scan(2)
    assert reader.record.announced.scan_number == 1
    assert [info.number for info in subscriber.scans()] in ([1, 2], [2, 1])
    safe_and_shown(scan.client, reader.uid, "g", 5)
    trim_all(scan)
    with pytest.raises(NoLongerError) as told:
        reader.read("th")
    assert "scan0002" in told.value.file
    assert (tmp_path / told.value.file).exists()
