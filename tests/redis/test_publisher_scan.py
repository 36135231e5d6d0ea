"""Scans from the publisher's API to what stands on a real Redis."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from scanbus.bus.codecs import find_codec
from scanbus.bus.store import Bus, connect
from scanbus.publisher import Publisher
from scanbus.schemas import EndReason, VerdictWord
from scanbus.schemas.errors import ScanStateError
from tests.support.published import MemoryWriter, frames, read_scan, record_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def bus(redis_url: str) -> Iterator[Bus]:
    with connect(redis_url, name="test") as client:
        yield client


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    with Publisher(redis_url, name="tests", close_timeout_s=0.2) as publisher:
        yield publisher


@pytest.fixture
def writer(redis_url: str) -> Iterator[MemoryWriter]:
    with MemoryWriter(redis_url) as writer:
        yield writer


def test_a_mixed_scan_comes_out_as_it_was_sent(
    publisher: Publisher, writer: MemoryWriter, bus: Bus
) -> None:
    spectra = np.random.default_rng(1).poisson(5, (100, 4096)).astype(np.uint32)
    with publisher.scan(title="mixed", proposal="hg123") as scan:
        scan.channel("th", units="deg", role="axis", group="points")
        scan.channel("i0", group="points")
        scan.channel("n", dtype="int64", group="points")
        scan.channel("mca", dtype="uint32", shape=(4096,), role="spectrum")
        scan.channel("ragged", dtype="int16", shape=(-1,), max_point_bytes=64)
        scan.channel("label", dtype="string", max_point_bytes=64)
        scan.detector("slow", shape=(600, 600), dtype="uint32")
        scan.detector("fast", shape=(64, 64), dtype="uint32")
        for point in range(100):
            scan.send("th", point * 0.1)
            scan.send("i0", np.float32(point))
            scan.send("n", point)
            scan.send("mca", spectra[point])
            scan.send("ragged", np.arange(point % 7, dtype=np.int16))
            scan.send("label", f"Probe №{point}" * (point % 2))
            scan.send("fast", frames(2 * point, 2))
            if point < 20:
                scan.send("slow", frames(point, 1, (600, 600))[0])
    assert scan.verdict(20).verdict is VerdictWord.COMPLETE
    lanes = read_scan(bus, scan.uid)
    assert [lane.odd for lane in lanes.values()] == [[]] * 6
    points = lanes["points"]
    np.testing.assert_array_equal(points.values("th"), np.arange(100) * 0.1)
    np.testing.assert_array_equal(points.values("i0"), np.arange(100))
    np.testing.assert_array_equal(points.values("n"), np.arange(100))
    np.testing.assert_array_equal(lanes["mca"].values("mca"), spectra)
    ragged = lanes["ragged"].values("ragged")
    assert [list(point) for point in ragged] == [list(range(n % 7)) for n in range(100)]
    labels = [f"Probe №{point}" * (point % 2) for point in range(100)]
    assert lanes["label"].values("label") == labels
    np.testing.assert_array_equal(lanes["fast"].values("fast"), frames(0, 200))
    np.testing.assert_array_equal(
        lanes["slow"].values("slow"), frames(0, 20, (600, 600))
    )
    assert lanes["fast"].length == 200
    record = record_of(bus, scan.uid)
    assert record.ended is not None
    assert record.ended.end_reason is EndReason.SUCCESS


def test_arrays_lists_and_explicit_times_are_taken(
    publisher: Publisher, bus: Bus
) -> None:
    with publisher.scan() as scan:
        scan.channel("a")
        scan.channel("label", dtype="string", max_point_bytes=64)
        scan.channel("ragged", shape=(-1,), max_point_bytes=64)
        scan.detector("d", shape=(600, 600), dtype="uint32")
        scan.send("a", np.arange(1000), time=[100.0, 1099.0])
        scan.send("label", ["x", "yy", ""])
        scan.send("ragged", [[1.0, 2.0], [], [3]])
        scan.send("d", frames(0, 3, (600, 600)), time=(5.0, 7.0))
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lanes = read_scan(bus, scan.uid)
    assert lanes["a"].entries[0].times[0] == 100.0
    assert lanes["a"].entries[-1].times[-1] == 1099.0
    assert lanes["label"].values("label") == ["x", "yy", ""]
    assert [list(p) for p in lanes["ragged"].values("ragged")] == [[1, 2], [], [3]]
    assert [entry.times.tolist() for entry in lanes["d"].entries] == [[5], [6], [7]]


def test_frames_of_several_threads_and_encoders_keep_their_order(
    publisher: Publisher, bus: Bus
) -> None:
    with publisher.scan() as scan:
        for name in ("a", "b"):
            scan.detector(name, shape=(300, 300), dtype="uint32")
        scan.prepare()

        def feed(name: str) -> None:
            for number in range(60):
                scan.send(name, frames(number, 1, (300, 300)))

        threads = [threading.Thread(target=feed, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    for lane in read_scan(bus, scan.uid).values():
        assert lane.odd == []
        values = np.array(lane.values(lane.description.name))
        np.testing.assert_array_equal(values, frames(0, 60, (300, 300)))


def test_packed_frames_travel_untouched(publisher: Publisher, bus: Bus) -> None:
    packed = [
        bytes(find_codec("bitshuffle-lz4").encode(frame))
        for frame in frames(0, 5, (600, 600))
    ]
    with publisher.scan() as scan:
        scan.detector("d", shape=(600, 600), dtype="uint32")
        scan.detector("small", shape=(8, 8), dtype="uint32")
        scan.send("d", packed=packed)
        with pytest.raises(ValueError, match="points_per_chunk=1"):
            scan.send("small", packed=packed[0])
        with pytest.raises(ValueError, match="got 0 bytes"):
            scan.send("d", packed=b"")
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lane = read_scan(bus, scan.uid)["d"]
    assert [entry.payload for entry in lane.entries] == packed
    np.testing.assert_array_equal(lane.values("d"), frames(0, 5, (600, 600)))


def test_a_chunk_that_does_not_fill_up_is_sent_for_live_readers(
    publisher: Publisher, bus: Bus
) -> None:
    with publisher.scan() as scan:
        scan.detector("d", shape=(64, 64), dtype="uint32", points_per_chunk=8)
        scan.send("d", frames(0, 3))
        wait_until(lambda: bool(read_scan(bus, scan.uid)["d"].entries))
        scan.send("d", frames(3, 18))
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lane = read_scan(bus, scan.uid)["d"]
    spans = [(entry.first, entry.count, entry.is_padded) for entry in lane.entries]
    assert spans == [
        (0, 3, False),
        (3, 5, False),
        (8, 8, False),
        (16, 5, True),
    ]
    np.testing.assert_array_equal(lane.values("d"), frames(0, 21))


def test_channels_of_unequal_length_lose_nothing(
    publisher: Publisher, bus: Bus
) -> None:
    with publisher.scan() as scan:
        scan.channel("long", group="g")
        scan.channel("short", dtype="int32", group="g")
        scan.channel("text", dtype="string", max_point_bytes=8, group="g")
        scan.send("long", np.arange(10.0))
        scan.send("short", np.arange(4))
        scan.send("text", ["a", "b"])
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lane = read_scan(bus, scan.uid)["g"]
    assert lane.length == 10
    np.testing.assert_array_equal(lane.values("long"), np.arange(10.0))
    missing = np.iinfo(np.int32).min
    assert lane.values("short") == [0, 1, 2, 3] + [missing] * 6
    assert lane.values("text") == ["a", "b"] + [""] * 8
    covered = {p for start, stop in lane.gaps("short") for p in range(start, stop)}
    assert covered == set(range(4, 10))


def test_skipped_points_are_gaps(publisher: Publisher, bus: Bus) -> None:
    with publisher.scan() as scan:
        scan.channel("a", group="g")
        scan.channel("b", group="g")
        scan.detector("d", shape=(64, 64), dtype="uint32", points_per_chunk=4)
        scan.send("a", [0.0, 1.0, 2.0])
        scan.skip("b", 2)
        scan.send("b", 5.0)
        scan.send("d", frames(0, 2))
        scan.skip("d", 3)
        scan.send("d", frames(5, 4))
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lanes = read_scan(bus, scan.uid)
    np.testing.assert_array_equal(lanes["g"].values("b"), [np.nan, np.nan, 5.0])
    assert lanes["g"].gaps("b") == [(0, 2)]
    spans = [(e.first, e.count, e.is_gap) for e in lanes["d"].entries]
    assert spans == [(0, 2, False), (2, 3, True), (5, 3, False), (8, 1, False)]
    assert lanes["d"].odd == []


def test_updates_and_positioners_are_said(publisher: Publisher, bus: Bus) -> None:
    with publisher.scan(
        metadata={"sample": {"name": "x", "mask": np.eye(40)}},
        positioners={"th": ("deg", 1.0), "mono": 12.0, "state": "open"},
        instrument="id00",
    ) as scan:
        scan.channel("a", role="axis")
        scan.channel("c")
        scan.update(metadata={"early": 1})
        scan.send("a", 1.0)
        scan.update(metadata={"sample": {"mass": 2}}, note="beam lost")
        scan.end_positioners({"th": ("deg", 2.0)})
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    record = record_of(bus, scan.uid)
    assert record.prepared is not None
    assert record.ended is not None
    assert record.metadata()["sample"]["mass"] == 2
    assert record.metadata()["early"] == 1
    assert record.prepared.positioners["th"].units == "deg"
    assert record.prepared.plots[0].signals == ("c",)
    assert record.prepared.plots[0].axes == ("a",)
    assert record.ended.positioners["th"].value == 2.0
    assert [update.note for update in record.updates] == ["", "beam lost"]


def test_a_sequence_says_which_scans_it_has(publisher: Publisher, bus: Bus) -> None:
    with publisher.scan(scan_number=7) as part:
        part.channel("th")
    elsewhere = publisher.scan(dataset="other")
    with publisher.scan() as sequence:
        sequence.add_subscan(part)
        with pytest.raises(ValueError, match="part of itself"):
            sequence.add_subscan(sequence)
        with publisher.scan() as inner:
            inner.add_subscan(part)
            sequence.add_subscan(inner)
            with pytest.raises(ValueError, match="no end"):
                inner.add_subscan(sequence)
        with pytest.raises(ScanStateError):
            sequence.add_subscan(elsewhere)
        with elsewhere, pytest.raises(ValueError, match="its own dataset"):
            sequence.add_subscan(elsewhere)

    wait_until(lambda: record_of(bus, sequence.uid).ended is not None)
    record = record_of(bus, sequence.uid)
    inner_name = f"{inner.identity.scan_number}.1"
    assert record.metadata()["subscans"] == {"7.1": part.uid, inner_name: inner.uid}


def test_an_exception_ends_the_scan_as_failed_and_goes_on(
    publisher: Publisher, bus: Bus
) -> None:
    with pytest.raises(ZeroDivisionError), publisher.scan() as scan:  # noqa: PT012
        scan.channel("a")
        scan.send("a", 1.0)
        raise ZeroDivisionError("no beam")
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    ended = record_of(bus, scan.uid).ended
    assert ended is not None
    assert ended.end_reason is EndReason.FAILURE
    assert ended.text == "ZeroDivisionError: no beam"
    assert read_scan(bus, scan.uid)["a"].values("a") == [1.0]


def test_a_keyboard_interrupt_and_abort_are_the_users(
    publisher: Publisher, bus: Bus
) -> None:
    with pytest.raises(KeyboardInterrupt), publisher.scan() as interrupted:  # noqa: PT012
        interrupted.channel("a")
        raise KeyboardInterrupt
    with publisher.scan() as aborted:
        aborted.channel("a")
        aborted.abort("wrong sample")
    for scan in (interrupted, aborted):
        wait_until(lambda scan=scan: record_of(bus, scan.uid).ended is not None)  # type: ignore[misc]
        ended = record_of(bus, scan.uid).ended
        assert ended is not None
        assert ended.end_reason is EndReason.USER_ABORT
    assert read_scan(bus, aborted.uid)["a"].length == 0


def test_scan_numbers_are_counted_by_dataset(publisher: Publisher) -> None:
    numbers = []
    for dataset in ("0001", "0001", "0002"):
        with publisher.scan(dataset=dataset, quota_bytes=10**6) as scan:
            numbers.append(scan.identity.scan_number)
    with publisher.scan(scan_number=7, quota_bytes=10**6):
        pass
    with publisher.scan(quota_bytes=10**6) as scan:
        numbers.append(scan.identity.scan_number)
    assert numbers == [1, 2, 1, 8]


@pytest.mark.parametrize("inside", [True, False])
def test_a_program_that_forgets_to_close_ends_all_the_same(
    redis_url: str, bus: Bus, inside: bool
) -> None:
    program = f"""
from scanbus.publisher import Publisher
scan = Publisher({redis_url!r}, close_timeout_s=0.5).scan(uid="forgotten1")
scan.__enter__()
scan.channel("a")
scan.send("a", 1.0)
if not {inside}:
    scan.__exit__(None, None, None)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=20,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "closed_without_verdict" in done.stderr
    assert read_scan(bus, "forgotten1")["a"].values("a") == [1.0]
    ended = record_of(bus, "forgotten1").ended
    assert ended is not None
    assert ended.end_reason == ("FAILURE" if inside else "SUCCESS")


def test_closing_waits_for_verdicts_at_most_so_long(redis_url: str) -> None:
    before = threading.enumerate()
    publisher = Publisher(redis_url, close_timeout_s=0.2)
    with publisher.scan() as scan:
        scan.channel("a")
        scan.send("a", 1.0)
    publisher.close()
    publisher.close()
    with pytest.raises(ScanStateError, match="before a verdict"):
        scan.verdict(1)
    with pytest.raises(ScanStateError, match="closed"):
        publisher.scan()
    assert not set(threading.enumerate()) - set(before)


def test_what_is_judged_is_durable_and_frees_its_threads_and_quota(
    publisher: Publisher, writer: MemoryWriter, bus: Bus
) -> None:
    with publisher.scan() as scan:
        scan.channel("a")
        scan.send("a", np.arange(10.0))
    scan.wait_durable(10)
    assert scan.verdict(10).verdict is VerdictWord.COMPLETE
    wait_until(lambda: not bus.hgetall("scanbus:reserved"))
    wait_until(lambda: not [t for t in threading.enumerate() if "sender" in t.name])


@pytest.mark.parametrize("codec", ["none", "bitshuffle-lz4", "zstd"])
@pytest.mark.parametrize("shape", [(600, 600), (1100, 1000)])
def test_arrays_may_be_used_again_after_sending(
    publisher: Publisher, bus: Bus, shape: tuple[int, int], codec: str
) -> None:
    frame = frames(0, 1, shape)[0].copy()
    values = np.zeros(1)
    with publisher.scan() as scan:
        scan.channel("a")
        scan.detector("d", shape=shape, dtype="uint32", codec=codec)
        for number in range(20):
            frame[:] = number
            values[:] = number
            scan.send("a", values)
            scan.send("d", frame)
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lanes = read_scan(bus, scan.uid)
    for number, value in enumerate(lanes["d"].values("d")):
        np.testing.assert_array_equal(value, number)
    assert lanes["a"].values("a") == list(range(20))


def test_a_send_that_is_interrupted_has_sent_nothing(
    publisher: Publisher, bus: Bus
) -> None:
    """Ctrl-C most likely comes while a large frame is packed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    shape = (2048, 2048)
    noise = np.random.default_rng(1).integers(0, 1000, shape, np.uint32)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with publisher.scan() as scan:
            scan.detector("d", shape=shape, dtype="uint32", codec="bitshuffle-zstd")
            scan.send("d", noise)
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            with pytest.raises(KeyboardInterrupt):
                scan.send("d", noise)
            scan.send("d", noise + 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    lane = read_scan(bus, scan.uid)["d"]
    assert lane.odd == []
    assert lane.length == 2
    first, second = lane.values("d")
    np.testing.assert_array_equal(first, noise)
    np.testing.assert_array_equal(second, noise + 1)
