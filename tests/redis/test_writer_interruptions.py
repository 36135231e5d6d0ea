"""Writers and publishers that die, pause or come back; operators who close scans."""

import time
from functools import partial
from pathlib import Path

import hdf5plugin  # noqa: F401  (registers the filters)
import pytest

from scanbus.bus.store import (
    acquire_lease,
    append_event,
    find_scan,
    read_cursor,
    read_position,
    renew_lease,
    reserve_quota,
)
from scanbus.cli import main
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import EndReason, ScanEnded, VerdictWord
from scanbus.schemas.errors import ScanStateError
from scanbus.writer import replay
from tests.support.mixed_scan import N_POINTS, durable, fill, whole_scan, write_once
from tests.support.raw_publisher import RawScan
from tests.support.trees import differences
from tests.support.writers import final_verdict, wait_until, writer


def test_a_killed_writer_and_its_successor_give_the_files_of_an_undisturbed_run(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    for stop in (0.3, 0.6, 0.9):
        with writer(redis_url, tmp_path / "live", "--lease-s", "1") as one:
            fill(scan, scan.reached["g"] / N_POINTS, stop)
            reached = scan.reached["eiger"] // 20 * 20
            wait_until(partial(durable, scan, reached))
            one.kill()
    fill(scan, 0.9, 1.0)
    scan.end()
    with writer(redis_url, tmp_path / "live", "--lease-s", "1", "--once") as last:
        assert last.wait() == 0

    replay(redis_url, scan.uid, tmp_path / "again")
    assert differences(tmp_path / "live", tmp_path / "again") == []


def test_a_paused_writer_that_wakes_up_damages_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, tmp_path / "live", "--lease-s", "1") as paused:
        fill(scan, 0.0, 0.5)
        wait_until(lambda: read_cursor(scan.client, scan.uid, "eiger") >= 40)
        paused.pause()
        fill(scan, 0.5, 1.0)
        scan.end()
        with writer(redis_url, tmp_path / "live", "--lease-s", "1"):
            verdict = final_verdict(redis_url, scan.uid)
        paused.go_on()
        assert paused.leave() == 0

    assert verdict.verdict is VerdictWord.COMPLETE
    replay(redis_url, scan.uid, tmp_path / "again")
    assert differences(tmp_path / "live", tmp_path / "again") == []


def test_a_publisher_that_is_gone_leaves_a_provisional_partial_scan(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url, heartbeat_s=0.5).prepare(), 0.0, 0.5)

    assert write_once(redis_url, tmp_path) == VerdictWord.PARTIAL.exit_code

    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    assert verdict.provisional
    assert "publisher is gone" in verdict.reason
    assert read_position(scan.client) == "0-0"


def test_an_interrupted_scan_that_returns_is_completed(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url, heartbeat_s=0.5).prepare(), 0.0, 0.5)
    write_once(redis_url, tmp_path)
    fill(scan, 0.5, 1.0)
    scan.end()

    assert write_once(redis_url, tmp_path) == 0

    replay(redis_url, scan.uid, tmp_path / "again")
    assert find_scan(scan.client, scan.uid).verdict.verdict == "complete"  # type: ignore[union-attr]


def test_an_operator_closes_a_scan_whose_publisher_is_gone(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url, heartbeat_s=0.5).prepare(), 0.0, 0.5)
    reserve_quota(scan.client, scan.uid, 2**30, 2**31)
    write_once(redis_url, tmp_path)
    # Interrupted, it reserves only what it holds: others have room again.
    reserve_quota(scan.client, "another0", 2**30, 2**30 + 2**25)

    assert main(["close", scan.uid, "--redis", redis_url, "--text", "it died"]) == 0
    assert main(["close", scan.uid, "--redis", redis_url]) == 1

    assert write_once(redis_url, tmp_path) == 0
    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.provisional) == ("complete", False)
    assert verdict.end_reason == "FAILURE"
    assert verdict.channels["th"].expected == N_POINTS // 2


def test_a_scan_that_ended_and_of_which_redis_lost_a_seal_can_be_closed(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url, heartbeat_s=0.5).prepare()
    scan.send_frames(0, 4)
    scan.seal("g", "hits")
    ended = ScanEnded(time=time.time(), end_reason=EndReason.SUCCESS)
    append_event(scan.client, scan.uid, ended)
    with writer(redis_url, tmp_path):
        wait_until(lambda: find_scan(scan.client, scan.uid).verdict)

        close_scan(redis_url, scan.uid)

        verdict = final_verdict(redis_url, scan.uid)
    assert (verdict.verdict, verdict.end_reason) == ("complete", "SUCCESS")
    with pytest.raises(ScanStateError, match="has ended already"):
        close_scan(redis_url, scan.uid)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("reason", list(EndReason))
def test_a_scan_that_failed_before_it_was_sealed_is_closed_by_the_writer(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: EndReason
) -> None:
    """If its publisher says that all went well, Redis has lost seals, maybe points."""
    monkeypatch.setenv("SCANBUS_INTERRUPTED_CLOSE_S", "3")
    scan = RawScan(redis_url, heartbeat_s=0.5).prepare()
    scan.send_frames(0, 4)
    scan.seal("g", "hits")
    append_event(scan.client, scan.uid, ScanEnded(time=time.time(), end_reason=reason))
    with writer(redis_url, tmp_path) as one:
        wait_until(lambda: find_scan(scan.client, scan.uid).verdict)
        if reason is EndReason.SUCCESS:
            time.sleep(6)
            assert "interrupted_closed" not in one.said
        else:
            verdict = final_verdict(redis_url, scan.uid)
            assert (verdict.verdict, verdict.end_reason) == ("complete", reason.value)


def test_a_look_at_a_failed_scan_does_not_put_off_its_end(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANBUS_INTERRUPTED_CLOSE_S", "12")
    scan = RawScan(redis_url, heartbeat_s=0.5).prepare()
    scan.send_frames(0, 4)
    ended = ScanEnded(time=time.time(), end_reason=EndReason.FAILURE)
    append_event(scan.client, scan.uid, ended)
    with writer(redis_url, tmp_path) as one:
        wait_until(lambda: find_scan(scan.client, scan.uid).verdict)
        final_verdict(redis_url, scan.uid)
    # Put off, it would be looked at once more before.
    assert one.said.count('"scan_opened"') <= 4


def test_only_the_publisher_ends_a_scan_while_it_lives(redis_url: str) -> None:
    scan = RawScan(redis_url).prepare()

    with pytest.raises(ScanStateError, match="alive"):
        close_scan(redis_url, scan.uid)


def test_a_second_writer_waits_for_the_lease(redis_url: str, tmp_path: Path) -> None:
    scan = whole_scan(redis_url)
    lease = acquire_lease(scan.client, scan.uid, "somebody", 700)
    assert lease is not None

    assert write_once(redis_url, tmp_path) == 0
    assert not renew_lease(scan.client, lease, 1000)
