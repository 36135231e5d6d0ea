"""Redis loses the events of a scan, and nothing else, while its publisher is silent.

The writer then sees an announcement without more. It must not call the scan one that
never was, though its files are there.
"""

import time
from pathlib import Path

import pytest

from scanbus.bus.store import append_event, append_events, connect, find_scan
from scanbus.cli import main
from scanbus.schemas import EndReason, Event, ScanEnded, Verdict, VerdictWord
from scanbus.writer import WriterSettings, check_files, run_writer, salvage
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.salvaged import (
    N_FRAMES,
    N_POINTS,
    partly_sent,
    wait_for_flush,
    work_folders,
)
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis


def events_of(scan: RawScan) -> list[Event]:
    record = find_scan(scan.client, scan.uid)
    assert record.prepared is not None
    assert record.started is not None
    return [record.prepared, record.started, *record.updates]


def interrupted(url: str, root: Path) -> tuple[RawScan, list[Event]]:
    """A scan in the middle: killed writer, silent publisher, no events any more."""
    scan = partly_sent(url)
    with writer(url, root) as one:
        wait_for_flush(scan, root)
        one.kill()
    said = events_of(scan)
    lose(scan)
    return scan, said


def lose(scan: RawScan) -> None:
    for key in ("events", "publisher"):
        scan.client.delete(f"scanbus:{{{scan.uid}}}:{key}")


def end(scan: RawScan, end_reason: EndReason) -> None:
    append_event(
        scan.client, scan.uid, ScanEnded(time=time.time(), end_reason=end_reason)
    )


def write(url: str, root: Path) -> None:
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)


def verdict_of(url: str, scan: RawScan) -> Verdict:
    with connect(url, name="test") as client:
        found = find_scan(client, scan.uid).verdict
    assert found is not None
    return found


@pytest.mark.sampled(1)
@pytest.mark.parametrize("is_ended", [False, True], ids=["open", "ended"])
def test_a_scan_that_has_points_on_the_disk_is_not_given_up(
    redis_url: str, tmp_path: Path, *, is_ended: bool
) -> None:
    """An end is no news of what it was, whoever said it."""
    scan, said = interrupted(redis_url, tmp_path)
    if is_ended:
        end(scan, EndReason.FAILURE)
    write(redis_url, tmp_path)
    verdict = verdict_of(redis_url, scan)
    assert verdict.provisional
    assert "scanbus salvage" in verdict.reason
    assert work_folders(tmp_path)
    # The publisher is back, and puts its events there.
    append_events(scan.client, scan.uid, said)
    scan.end()
    write(redis_url, tmp_path)
    verdict = final_verdict(redis_url, scan.uid)
    assert verdict.channels["eiger"].written == N_FRAMES
    assert verdict.channels["th"].written == N_POINTS
    assert verdict.channels["eiger"].missing == verdict.channels["th"].missing == ()


def test_a_scan_whose_disk_is_not_there_is_not_given_up(
    redis_url: str, tmp_path: Path
) -> None:
    """Its lanes tell; also of a scan that no writer had begun."""
    root = tmp_path / "root"
    scan, _ = interrupted(redis_url, made_root(root))
    end(scan, EndReason.FAILURE)
    dataset = work_folders(root)[0].parent
    dataset.rename(tmp_path / "unmounted")
    write(redis_url, root)
    verdict = verdict_of(redis_url, scan)
    assert verdict.provisional
    assert "points of it are on the bus" in verdict.reason
    assert main(["close", scan.uid, "--dismiss", "--redis", redis_url]) == 0
    assert not verdict_of(redis_url, scan).provisional


def test_lanes_without_points_keep_nobody_waiting(
    redis_url: str, tmp_path: Path
) -> None:
    """A publisher makes them before it says what the scan is."""
    scan = RawScan(redis_url).prepare()
    lose(scan)
    end(scan, EndReason.FAILURE)
    write(redis_url, tmp_path)
    assert not verdict_of(redis_url, scan).provisional


def test_what_was_salvaged_is_the_verdict(redis_url: str, tmp_path: Path) -> None:
    scan, _ = interrupted(redis_url, tmp_path)
    write(redis_url, tmp_path)
    (salvaged,) = salvage(tmp_path, (), force=True).scans
    write(redis_url, tmp_path)
    assert final_verdict(redis_url, scan.uid) == salvaged.verdict
    assert check_files([tmp_path / salvaged.verdict.master], everything=True).ok


def test_a_finished_scan_keeps_the_verdict_of_its_files(
    redis_url: str, tmp_path: Path
) -> None:
    scan = partly_sent(redis_url)
    scan.end()
    write(redis_url, tmp_path)
    before = final_verdict(redis_url, scan.uid)
    assert before.verdict is VerdictWord.COMPLETE
    lose(scan)
    scan.client.delete("scanbus:position")
    write(redis_url, tmp_path)
    assert final_verdict(redis_url, scan.uid) == before


def test_one_that_never_was_prepared_is_still_final(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url)
    end(scan, EndReason.FAILURE)
    scan.client.delete(f"scanbus:{{{scan.uid}}}:publisher")
    write(redis_url, tmp_path)
    verdict = final_verdict(redis_url, scan.uid)
    assert verdict.reason == "the scan was announced, never prepared"
