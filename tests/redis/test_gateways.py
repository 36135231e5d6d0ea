"""What every gateway does, whatever its sender: one suite for all of them."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 (registers the filters that frames need)
import numpy as np
import numpy.typing as npt
import pytest

from scanbus.bus.store import connect, find_scan, writers_alive
from scanbus.publisher.gateways.runner import (
    GatewayReport,
    ScanNames,
)
from scanbus.schemas import EndReason, Verdict, VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer
from tests.support.gate import NAMES, Gate
from tests.support.gateway_senders import (
    DISTINCT,
    SENDERS,
    Sender,
    made_sender,
)
from tests.support.long import long_but
from tests.support.roots import made_root
from tests.support.waiting import found_below, wait_until
from tests.support.writers import final_verdict, writer

pytestmark = [pytest.mark.redis, pytest.mark.sampled(3)]

SHAPE = (40, 60)


@pytest.fixture(params=SENDERS)
def any_sender(request: pytest.FixtureRequest) -> Iterator[Sender]:
    """One sender after the other."""
    yield from made_sender(SENDERS[request.param], request.node.originalname)


@pytest.fixture(params=long_but(DISTINCT, SENDERS))
def sender(request: pytest.FixtureRequest) -> Iterator[Sender]:
    """The same, but for what hangs neither on the socket nor on whose stream it is."""
    yield from made_sender(SENDERS[request.param], request.node.originalname)


@pytest.fixture
def telling_sender(sender: Sender) -> Sender:
    """A sender that tells where a series begins, and of how many frames."""
    if not sender.has_starts:
        pytest.skip("its stream has frames and nothing else")
    return sender


def frame(number: int) -> npt.NDArray[Any]:
    return np.random.default_rng(number).poisson(9, SHAPE).astype("<u2")


def send_all(sender: Sender, series: int, numbers: list[int], n_frames: int) -> None:
    sender.start(series, n_frames)
    for number in numbers:
        sender.frame(series, number, frame(number))
    sender.end(series)


def written(url: str, root: Path) -> None:
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)


def verdict_of(url: str, report: GatewayReport, index: int = 0) -> Verdict:
    return final_verdict(url, report.series[index][0])


def frames_in(root: Path, number: int = 1) -> npt.NDArray[Any]:
    master = found_below(root, f"scan{number:04}.h5")[0]
    with h5py.File(master) as file:
        found: npt.NDArray[Any] = file[f"{number}.1/measurement/eiger"][()]
    return found


def notes_of(url: str, uid: str) -> str:
    with connect(url, name="test") as client:
        return " | ".join(each.note for each in find_scan(client, uid).updates)


def test_every_frame_is_in_the_file(
    any_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    gate = Gate(any_sender, redis_url, once=True)
    send_all(any_sender, 1, list(range(30)), 30)
    report = gate.report()
    assert report.exit_code is ExitCode.COMPLETE
    assert report.series[0][1].frames == 30
    written(redis_url, tmp_path)
    assert verdict_of(redis_url, report).verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(frames_in(tmp_path), [frame(n) for n in range(30)])


def test_every_frame_has_its_times_and_number_in_file_and_batch(
    sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    began = time.time()
    gate = Gate(sender, redis_url, once=True)
    send_all(sender, 1, list(range(30)), 30)
    report = gate.report()
    with Subscriber(redis_url) as subscriber:
        reader = subscriber.scan(report.series[0][0])
        for batch in reader.stream("eiger"):
            stamps = reader.stamps(batch)
            number = stamps["frame_number"]
            assert number.tolist() == [*range(batch.start, batch.stop)]
            arrival, published = stamps["arrival_time"], stamps["publish_time"]
            assert (arrival >= began).all()
            assert (published >= arrival).all()
    written(redis_url, tmp_path)
    (master,) = found_below(tmp_path, "scan0001.h5")
    with h5py.File(master) as file:
        for name in ("arrival_time", "publish_time", "frame_number"):
            found = file[f"1.1/instrument/eiger/{name}"]
            assert found.attrs["stamp"] == name
            assert len(found) == 30


def test_a_late_gateway_gets_what_the_sender_kept(
    any_sender: Sender, redis_url: str
) -> None:
    sending = threading.Thread(
        target=send_all, args=(any_sender, 1, list(range(10)), 10)
    )
    sending.start()
    report = Gate(any_sender, redis_url, once=True).report()
    sending.join()
    assert report.series[0][1].frames == 10


def test_a_series_whose_start_was_missed_is_a_scan(
    telling_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    gate = Gate(telling_sender, redis_url, once=True)
    for number in range(3, 8):
        telling_sender.frame(4, number, frame(number))
    telling_sender.end(4)
    report = gate.report()
    written(redis_url, tmp_path)
    (uid, counts) = report.series[0]
    assert (counts.frames, counts.missing) == (5, 3)
    assert "the start of the series was not received" in notes_of(redis_url, uid)
    ledger = verdict_of(redis_url, report).channels["eiger"]
    assert ledger.missing == ((0, 3),)
    np.testing.assert_array_equal(
        frames_in(tmp_path)[3:], [frame(n) for n in range(3, 8)]
    )


def test_what_never_came_is_a_gap_also_at_the_end(
    telling_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    gate = Gate(telling_sender, redis_url, once=True)
    send_all(telling_sender, 1, [0, 1, 2, 5, 6], 9)
    report = gate.report()
    assert report.series[0][1].missing == 4
    written(redis_url, tmp_path)
    verdict = verdict_of(redis_url, report)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.channels["eiger"].missing == ((3, 5), (7, 9))
    assert verdict.channels["eiger_frame_number"].missing == ((3, 5), (7, 9))
    assert "frames that never came: 3 to 4" in notes_of(redis_url, verdict.uid)


def test_a_series_stopped_long_before_its_end_is_partial_without_gaps(
    telling_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """So many fill values help nobody; but nobody may think that it is complete."""
    gate = Gate(telling_sender, redis_url, once=True)
    send_all(telling_sender, 1, [0, 1, 2], 200_000)
    report = gate.report()
    assert report.series[0][1].missing == 199_997
    written(redis_url, tmp_path)
    verdict = verdict_of(redis_url, report)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert "ended 199997 frames short of its 200000" in verdict.reason
    assert verdict.channels["eiger"].expected == 3


def test_a_series_of_which_no_frame_came_is_not_complete(
    telling_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """It has no channel that could have gaps."""
    gate = Gate(telling_sender, redis_url, once=True, wait=False)
    send_all(telling_sender, 1, [], 7)
    report = gate.report()
    assert report.series[0][1].missing == 7
    written(redis_url, tmp_path)
    verdict = verdict_of(redis_url, report)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert "0 of 7 frames of the series came" in verdict.reason


def test_a_number_of_frames_that_means_until_stopped_is_no_promise(
    telling_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    gate = Gate(telling_sender, redis_url, once=True)
    send_all(telling_sender, 1, [0, 1, 2], 2**32 - 1)
    report = gate.report()
    assert report.series[0][1].missing == 0
    written(redis_url, tmp_path)
    assert verdict_of(redis_url, report).verdict is VerdictWord.COMPLETE


def test_repeated_and_shuffled_frames_stand_once_in_order(
    sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    gate = Gate(sender, redis_url, once=True)
    send_all(sender, 1, [1, 0, 3, 2, 2, 0, 5, 4], 6)
    report = gate.report()
    (uid, counts) = report.series[0]
    assert (counts.frames, counts.repeated, counts.missing) == (6, 2, 0)
    assert "frame 2 came again" in notes_of(redis_url, uid)
    written(redis_url, tmp_path)
    assert verdict_of(redis_url, report).verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(frames_in(tmp_path), [frame(n) for n in range(6)])


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_number_is_learnt(sender: Sender, redis_url: str, first: int) -> None:
    gate = Gate(sender, redis_url, once=True)
    send_all(sender, 1, list(range(first, first + 4)), 4)
    (_, counts) = gate.report().series[0]
    assert (counts.frames, counts.missing, counts.refused) == (4, 0, 0)


def test_rubbish_is_refused_and_the_series_goes_on(
    sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    gate = Gate(sender, redis_url, once=True)
    sender.rubbish()
    sender.start(1, 6)
    for number in range(6):
        sender.rubbish()
        sender.frame(1, number, frame(number))
    sender.frame(1, 6, np.zeros((3, 3), "<u2"))
    sender.frame(1, 2**31, frame(0))
    sender.end(1)
    report = gate.report()
    (uid, counts) = report.series[0]
    assert report.refused == 9
    # Without a start, the first frame begins the series: after two refusals, not one.
    n_refused = 8 if sender.has_starts else 7
    assert (counts.frames, counts.refused, counts.missing) == (6, n_refused, 0)
    assert report.exit_code is ExitCode.PARTIAL
    notes = notes_of(redis_url, uid)
    assert "expected (40, 60) uint16 as in the first frame, got (3, 3)" in notes
    assert "too far ahead" in notes


def test_a_series_without_its_end_ends_when_the_next_begins(
    telling_sender: Sender, redis_url: str
) -> None:
    gate = Gate(telling_sender, redis_url)
    telling_sender.start(1, 4)
    telling_sender.frame(1, 0, frame(0))
    send_all(telling_sender, 2, [0, 1], 2)
    telling_sender.frame(3, 0, frame(0))
    wait_until(lambda: gate.n_frames == 4)
    telling_sender.frame(2, 1, frame(1))
    # The frame of the series that is over, if it says so.
    n_refused = int(telling_sender.names_series)
    wait_until(lambda: gate.runner.so_far.refused == n_refused)
    report = gate.stop()
    reasons = []
    with connect(redis_url, name="test") as client:
        for uid, _ in report.series:
            ended = find_scan(client, uid).ended
            assert ended is not None
            reasons.append((ended.end_reason, ended.text))
    assert reasons == [
        (
            EndReason.FAILURE,
            "series 2 began; the end of this one did not come",
        ),
        (EndReason.SUCCESS, ""),
        (EndReason.USER_ABORT, "stopped by the test"),
    ]
    assert report.refused == n_refused


def test_series_follow_each_other_while_the_first_is_written(
    sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    with writer(redis_url, tmp_path):
        gate = Gate(sender, redis_url)
        for series in range(1, 4):
            send_all(sender, series, list(range(10)), 10)
        wait_until(lambda: gate.n_frames == 30)
        # Path.rglob fails when the writer removes a folder meanwhile.
        wait_until(
            lambda: any("scan0003.h5" in files for _, _, files in os.walk(tmp_path))
        )
        report = gate.stop()
        for index in range(3):
            verdict = verdict_of(redis_url, report, index)
            assert verdict.verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(frames_in(tmp_path, 2), [frame(n) for n in range(10)])


def test_once_returns_the_code_of_the_verdict(
    sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    with writer(redis_url, tmp_path), connect(redis_url, name="test") as client:
        wait_until(lambda: bool(writers_alive(client)))
        gate = Gate(sender, redis_url, once=True)
        send_all(sender, 1, [0, 2], 3)
        report = gate.report()
    (verdict,) = report.verdicts.values()
    assert verdict.verdict is VerdictWord.PARTIAL
    assert report.exit_code is ExitCode.PARTIAL


def test_a_sender_that_comes_back_goes_on(
    any_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    gate = Gate(any_sender, redis_url, once=True)
    any_sender.start(1, 6)
    for number in range(6):
        any_sender.frame(1, number, frame(number))
        if number == 2:
            wait_until(lambda: gate.n_frames == 3)
            any_sender.restart()
    any_sender.end(1)
    report = gate.report()
    assert report.series[0][1].frames == 6
    assert report.series[0][1].missing == 0


def test_what_was_received_before_a_stop_is_sent(
    sender: Sender, redis_url: str
) -> None:
    gate = Gate(sender, redis_url)
    sender.start(1, 100)
    for number in range(5):
        sender.frame(1, number, frame(number))
    wait_until(lambda: gate.n_frames == 5)
    report = gate.stop()
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(report.series[0][0])
        np.testing.assert_array_equal(
            scan.read("eiger", 0, 5), [frame(n) for n in range(5)]
        )
        assert scan.record.ended is not None
        assert scan.record.ended.end_reason is EndReason.USER_ABORT


def test_a_full_queue_loses_nothing(
    any_sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """Nothing is received while there is no writer; then everything comes."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2**16, (40, 256, 512)).astype("<u2")
    names = ScanNames("eiger", {**NAMES.scan, "quota_bytes": 4 * 2**20})

    def send() -> None:
        any_sender.start(1, len(frames))
        for number, each in enumerate(frames):
            any_sender.frame(1, number, each)
        any_sender.end(1)

    gate = Gate(any_sender, redis_url, names, once=True, queue_messages=4)
    sending = threading.Thread(target=send)
    sending.start()
    wait_until(lambda: gate.runner.queue.n_messages == 4)
    wait_until(lambda: gate.n_frames > 0)
    n_before = gate.n_frames
    with writer(redis_url, tmp_path):
        report = gate.report()
        sending.join()
        verdict = verdict_of(redis_url, report)
    assert n_before < len(frames)
    assert report.queue.full_s > 0
    assert report.queue.peak_bytes < 6 * frames[0].nbytes
    assert verdict.verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(frames_in(tmp_path), frames)


def test_a_scan_that_cannot_start_is_reported_and_others_are_tried(
    sender: Sender, redis_url: str
) -> None:
    names = ScanNames("eiger", {**NAMES.scan, "quota_bytes": 1})
    gate = Gate(sender, redis_url, names)
    for series in range(2):
        sender.start(series, 3)
        for number in range(3):
            sender.frame(series, number, frame(number))
    wait_until(lambda: gate.runner.so_far.refused == 4)
    report = gate.stop()
    assert len(report.failed) == 2
    assert all("quota" in reason for reason in report.failed.values())
    assert report.exit_code is ExitCode.FAILED
