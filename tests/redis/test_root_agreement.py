"""Disk and bus must agree: roots that go, files that go, and what operators decide."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.protocol import lane_key
from scanbus.bus.store import beat_writer, connect, read_cursor, writers_alive
from scanbus.cli import main
from scanbus.schemas import Verdict, VerdictWord
from scanbus.writer import init_root, replay
from tests.support.mixed_scan import N_FRAMES, durable, fill, whole_scan
from tests.support.raw_publisher import RawScan, frames
from tests.support.trees import differences
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

QUICK = ("--lease-s", "1")
PER_SEGMENT = 20
ACCEPT = ["root", "accept-loss"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANBUS_RETRY_S", "0.1")
    monkeypatch.setenv("SCANBUS_HEARTBEAT_S", "0.3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def problems(url: str) -> str:
    with connect(url, name="test") as client:
        found = writers_alive(client).values()
        return "; ".join(text for info in found for text in info["problems"])


def says(url: str, text: str) -> Callable[[], bool]:
    return lambda: text in problems(url)


def trim(scan: RawScan, lane: str, point: int) -> None:
    """Remove what the writer has acknowledged, as an evictor does."""
    assert read_cursor(scan.client, scan.uid, lane) >= point
    scan.client.xtrim(lane_key(scan.uid, lane), minid=f"{point}-0", approximate=False)


def segment(root: Path, number: int) -> Path:
    return found_below(root, "scan0001")[0] / f"eiger_{number:04d}.h5"


def assert_complete(url: str, scan: RawScan, root: Path) -> None:
    assert final_verdict(url, scan.uid).verdict is VerdictWord.COMPLETE
    assert_frames(root, ())


def assert_frames(root: Path, missing: tuple[int, ...]) -> None:
    with h5py.File(found_below(root, "scan0001.h5")[0]) as file:
        data = file["1.1/measurement/eiger"][()]
    expected = frames(0, N_FRAMES)
    expected[list(missing)] = np.iinfo(np.uint16).max
    np.testing.assert_array_equal(data, expected)


# ---------------------------------------------------------------- the root


@pytest.mark.parametrize("behind", ["nothing", "an empty folder", "another root"])
def test_a_root_that_goes_pauses_its_scans_until_it_is_back(
    redis_url: str, root: Path, behind: str
) -> None:
    scan = RawScan(redis_url).prepare()
    away = root.with_name("away")
    with writer(redis_url, root, *QUICK):
        fill(scan, 0, 0.5)
        wait_until(lambda: durable(scan, 60))
        root.rename(away)
        if behind != "nothing":
            root.mkdir()
        if behind == "another root":
            init_root(root)
        fill(scan, 0.5, 1)
        scan.end()
        wait_until(says(redis_url, str(root)))
        wait_until(says(redis_url, "paused: "))
        there = [
            path for path in found_below(root, "*") if ".scanbus" not in path.parts
        ]
        assert there == []
        if behind != "nothing":
            shutil.rmtree(root)
        away.rename(root)
        assert_complete(redis_url, scan, root)
    replay(redis_url, scan.uid, root.with_name("again"))
    assert differences(root, root.with_name("again")) == []


def test_a_root_that_goes_while_no_scan_is_open_is_named(
    redis_url: str, root: Path
) -> None:
    with writer(redis_url, root, *QUICK):
        # One that has not begun yet would refuse to.
        wait_until(lambda: is_alive(redis_url))
        root.rename(root.with_name("away"))
        wait_until(says(redis_url, "is no root of scanbus"))
        root.with_name("away").rename(root)
        wait_until(lambda: problems(redis_url) == "")


def keys(url: str) -> set[str]:
    with connect(url, name="test") as client:
        return {key.decode() for key in client.keys("*")}


def is_alive(url: str) -> bool:
    with connect(url, name="test") as client:
        return bool(writers_alive(client))


def test_the_same_scan_is_not_continued_below_another_root(
    redis_url: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its points up to the cursor are on the other disk."""
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, *QUICK) as one:
        fill(scan, 0, 0.5)
        wait_until(lambda: durable(scan, 60))
        one.kill()
    fill(scan, 0.5, 1)
    scan.end()
    other = root.with_name("other")
    with writer(redis_url, other, *QUICK) as second:
        assert second.wait() == 1
        assert "below another root" in second.said
        assert f"scanbus root use {other}" in second.said
    assert not found_below(other, "*.h5")
    with writer(redis_url, root, *QUICK):
        assert_complete(redis_url, scan, root)


def test_an_operator_moves_a_bus_to_another_root(
    redis_url: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_scan(redis_url)
    use = ["root", "use", "--redis", redis_url]
    other = init_root(root.with_name("other")).path
    with writer(redis_url, root, "--once") as one:
        assert one.wait() == 0
    with writer(redis_url, root):
        wait_until(lambda: writers(redis_url))
        assert main([*use, str(other)]) == 1
        assert f"below {root}" in capsys.readouterr().err
    wait_until(lambda: not writers(redis_url))
    assert main([*use, str(root.with_name("none"))]) == 1
    assert main([*use, str(other)]) == 0
    scan = whole_scan(redis_url, number=2)
    with writer(redis_url, other, "--once") as one:
        assert one.wait() == 0
    assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE


def writers(url: str) -> int:
    with connect(url, name="test") as client:
        return len(writers_alive(client))


def test_a_redis_that_came_back_empty_takes_the_root(
    redis_url: str, root: Path
) -> None:
    with writer(redis_url, root, *QUICK):
        wait_until(lambda: "scanbus:root" in keys(redis_url))
        with connect(redis_url, name="test") as client:
            client.flushall()
        scan = whole_scan(redis_url)
        assert_complete(redis_url, scan, root)
        assert {"scanbus:root", "scanbus:bus"} <= keys(redis_url)


def test_two_writers_of_one_bus_below_one_root_share_it(
    redis_url: str, root: Path
) -> None:
    with writer(redis_url, root, *QUICK), writer(redis_url, root, *QUICK):
        wait_until(lambda: writers(redis_url) == 2)
        scan = whole_scan(redis_url)
        assert_complete(redis_url, scan, root)


def test_a_second_writer_below_a_copy_of_the_root_is_refused(
    redis_url: str, root: Path
) -> None:
    init_root(root)
    copy = shutil.copytree(root, root.with_name("copy"))
    with writer(redis_url, root, *QUICK):
        wait_until(lambda: writers(redis_url))
        with writer(redis_url, copy, *QUICK) as second:
            assert second.wait() == 1
            assert "below a copy of this root" in second.said


@pytest.mark.parametrize("age_days", [6, 8])
def test_the_heartbeat_of_a_killed_writer_stays_a_week(
    redis_url: str, root: Path, age_days: int
) -> None:
    with writer(redis_url, root, *QUICK) as one:
        wait_until(lambda: writers(redis_url))
        one.kill()
    (left,) = (root / ".scanbus/writers").iterdir()
    then = time.time() - age_days * 86400
    os.utime(left, (then, then))
    with writer(redis_url, root, *QUICK):
        wait_until(lambda: final_verdict(redis_url, whole_scan(redis_url).uid))
        assert left.exists() == (age_days < 7)


def test_the_heartbeat_of_a_writer_that_left_in_part_refuses_no_other(
    redis_url: str, root: Path
) -> None:
    """One that could not remove it from the bus is not there until it lapses."""
    with connect(redis_url, name="test") as client:
        info = {"root": str(root), "host": "elsewhere"}
        beat_writer(client, "left", info, ttl_ms=2000)
        with writer(redis_url, root, *QUICK):
            assert_complete(redis_url, whole_scan(redis_url), root)
        # Nor where the clock of Redis has jumped back.
        beat_writer(client, "left", info, ttl_ms=3_600_000)
        with writer(redis_url, root, *QUICK):
            assert_complete(redis_url, whole_scan(redis_url, number=2), root)
        beats = set((root / ".scanbus/writers").iterdir())
        with writer(redis_url, root, *QUICK) as one:
            wait_until(lambda: set((root / ".scanbus/writers").iterdir()) - beats)
            one.process.terminate()
            assert one.wait() == 0


# ----------------------------------------------------------- the beamline


def test_two_buses_share_a_root_under_different_beamlines(
    redis_url: str, redis_factory: Callable[[], object], root: Path
) -> None:
    other = redis_factory().url  # type: ignore[attr-defined]
    first, second = RawScan(redis_url), RawScan(other, beamline="id01")
    with writer(redis_url, root, *QUICK), writer(other, root, *QUICK):
        for url, scan in ((redis_url, first), (other, second)):
            fill(scan.prepare())
            scan.end()
            assert final_verdict(url, scan.uid).verdict is VerdictWord.COMPLETE


def test_a_beamline_belongs_to_one_living_bus(
    redis_url: str, redis_factory: Callable[[], object], root: Path
) -> None:
    other = redis_factory().url  # type: ignore[attr-defined]
    first, second = whole_scan(redis_url), whole_scan(other, number=2)
    with writer(redis_url, root, *QUICK) as one:
        assert final_verdict(redis_url, first.uid).verdict is VerdictWord.COMPLETE
        with writer(other, root, *QUICK):
            wait_until(says(other, "another bus writes beamline id00"))
            assert not found_below(root, "scan0002.h5")
            one.kill()
            assert final_verdict(other, second.uid).verdict is VerdictWord.COMPLETE


# ---------------------------------------------------------------- the files


def running(url: str, scan: RawScan, root: Path) -> None:
    fill(scan, 0, 0.8)
    wait_until(lambda: durable(scan, 4 * PER_SEGMENT))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize("way", ["in mid-scan", "between two writers"])
def test_a_segment_that_is_deleted_is_written_again_from_the_bus(
    redis_url: str, root: Path, number: int, way: str
) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, *QUICK) as one:
        running(redis_url, scan, root)
        if way == "between two writers":
            one.leave()
        segment(root, number).unlink()
        if way == "in mid-scan":
            fill(scan, 0.8, 1)
            scan.end()
            assert_complete(redis_url, scan, root)
    if way == "between two writers":
        fill(scan, 0.8, 1)
        scan.end()
        with writer(redis_url, root, *QUICK):
            assert_complete(redis_url, scan, root)
    replay(redis_url, scan.uid, root.with_name("again"))
    assert differences(root, root.with_name("again")) == []


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_segment_that_no_longer_is_on_the_bus_pauses_its_scan_until_it_is_back(
    redis_url: str, root: Path, number: int
) -> None:
    scan = RawScan(redis_url).prepare()
    away = root.with_name("away.h5")
    with writer(redis_url, root, *QUICK):
        running(redis_url, scan, root)
        trim(scan, "eiger", 4 * PER_SEGMENT)
        segment(root, number).rename(away)
        fill(scan, 0.8, 1)
        scan.end()
        wait_until(says(redis_url, f"scanbus root accept-loss {scan.uid}"))
        assert points_text(number) in problems(redis_url)
        # As from a backup: another file with the same content.
        shutil.copy(away, segment(root, number))
        assert_complete(redis_url, scan, root)


def points_text(number: int) -> str:
    start = number * PER_SEGMENT
    return f"eiger {start} to {start + PER_SEGMENT - 1}"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("numbers", [(0,), (1, 2), (3,), (0, 2), (2, 3), (0, 1, 2, 3)])
def test_a_loss_that_an_operator_accepts_is_partial_and_named(
    redis_url: str, root: Path, numbers: tuple[int, ...]
) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, *QUICK):
        running(redis_url, scan, root)
        trim(scan, "eiger", 4 * PER_SEGMENT)
        for number in numbers:
            segment(root, number).unlink()
        fill(scan, 0.8, 1)
        scan.end()
        wait_until(says(redis_url, "accept-loss"))
        assert main([*ACCEPT, scan.uid, "--redis", redis_url]) == 0
        verdict = final_verdict(redis_url, scan.uid)
    missing = [n * PER_SEGMENT + k for n in numbers for k in range(PER_SEGMENT)]
    assert verdict.verdict is VerdictWord.PARTIAL
    assert points_of(verdict) == missing
    assert_frames(root, tuple(missing))
    assert main(["check", "--all", str(found_below(root, "scan0001.h5")[0])]) == 0
    assert main([*ACCEPT, scan.uid, "--redis", redis_url]) == 1


def points_of(verdict: Verdict) -> list[int]:
    ranges = verdict.channels["eiger"].missing
    return [point for start, stop in ranges for point in range(start, stop)]


def test_a_loss_is_accepted_of_lost_files_only(redis_url: str, root: Path) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, *QUICK):
        running(redis_url, scan, root)
        assert main([*ACCEPT, scan.uid, "--redis", redis_url]) == 0
        trim(scan, "eiger", 3 * PER_SEGMENT)
        fill(scan, 0.8, 1)
        scan.end()
        assert_complete(redis_url, scan, root)


def test_a_whole_folder_that_went_is_not_made_again_before_its_data_are(
    redis_url: str, root: Path
) -> None:
    """As if the file system of the proposal were not mounted."""
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, *QUICK) as one:
        running(redis_url, scan, root)
        one.leave()
    trim(scan, "eiger", 4 * PER_SEGMENT)
    (root / "hg123").rename(root.with_name("away"))
    with writer(redis_url, root, *QUICK):
        wait_until(says(redis_url, "are gone from"))
        assert not (root / "hg123").exists()
        root.with_name("away").rename(root / "hg123")
        fill(scan, 0.8, 1)
        scan.end()
        assert_complete(redis_url, scan, root)


# Between a cursor and what the writer notes about the file: another may be there.
SLOW_TO_NOTE = ";".join(f"acknowledge.after=delay=0.3@{n}" for n in range(1, 9))


@pytest.mark.parametrize(("number", "failpoints"), [(1, ""), (3, SLOW_TO_NOTE)])
def test_another_file_in_the_place_of_a_segment_is_named(
    redis_url: str, root: Path, number: int, failpoints: str
) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, *QUICK, failpoints=failpoints):
        running(redis_url, scan, root)
        shutil.copy(segment(root, 0), segment(root, number))
        fill(scan, 0.8, 1)
        scan.end()
        wait_until(says(redis_url, f"name taken: {segment(root, number)}"))
        segment(root, number).unlink()
        assert_complete(redis_url, scan, root)
