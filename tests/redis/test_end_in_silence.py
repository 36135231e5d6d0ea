"""A scan that ends just when its publisher counts as gone has its final verdict."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scanbus.bus.protocol import heartbeat_key
from scanbus.bus.store import append_event, find_scan
from scanbus.publisher import close_scan
from scanbus.schemas import EndReason, ScanEnded, VerdictWord
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.scan.write_authority import ReplayAuthority
from tests.support.raw_publisher import RawScan
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.redis


def _nth(n: int, do: Callable[[], object]) -> Callable[[], bool]:
    """Return a question whose n-th time does something; the answer is always no."""
    calls = 0

    def ask() -> bool:
        nonlocal calls
        calls += 1
        if calls == n:
            do()
        return False

    return ask


@pytest.mark.parametrize("look", range(1, 9))
def test_its_end_is_not_passed_over(redis_url: str, tmp_path: Path, look: int) -> None:
    """It is closed between two looks of the writer, each of which is the last one."""
    scan = RawScan(redis_url).prepare()
    scan.send_group(0, 5)
    scan.client.delete(heartbeat_key(scan.uid))
    record = find_scan(scan.client, scan.uid)
    writer = ScanWriter(
        scan.client,
        record,
        tmp_path,
        ReplayAuthority(scan.client, record.identity),
        pace=Pace(poll_s=0.01, lapse_s=0.02 * look),
        is_stopped=_nth(look, lambda: close_scan(redis_url, scan.uid)),
    )

    verdict = writer.run()

    has_seen_its_end = record.ended is not None
    assert verdict.provisional != has_seen_its_end


def test_a_scan_that_was_closed_is_not_interrupted_by_a_slow_disk(
    redis_url: str, tmp_path: Path
) -> None:
    """Its publisher is silent, and all that is left to do takes longer than that."""
    scan = RawScan(redis_url).prepare()
    for first in range(0, 24, 4):
        scan.send_frames(first, first + 4)
    scan.client.delete(heartbeat_key(scan.uid))
    close_scan(redis_url, scan.uid)

    traps = "close.before=delay=5@2"  # The last segment: nothing is left to read.
    with writer(redis_url, tmp_path / "root", failpoints=traps) as one:
        verdict = final_verdict(redis_url, scan.uid)
        one.leave()

    assert verdict.verdict is VerdictWord.COMPLETE
    assert "scan_interrupted" not in one.said


def test_an_ended_scan_is_not_left_for_want_of_an_event(
    redis_url: str, tmp_path: Path
) -> None:
    """A seal comes later than its scan's end, and nothing says so."""
    scan = RawScan(redis_url).prepare()
    scan.send_group(0, 5)
    scan.seal("eiger", "hits")
    ended = ScanEnded(time=time.time(), end_reason=EndReason.SUCCESS)
    append_event(scan.client, scan.uid, ended)
    scan.client.delete(heartbeat_key(scan.uid))
    with writer(redis_url, tmp_path / "root") as one:
        wait_until(lambda: "scan_interrupted" in one.said)
        # It looks once more at once, for its own verdict is an event.
        time.sleep(8)
        scan.seal("g")
        verdict = final_verdict(redis_url, scan.uid)

    assert verdict.verdict is VerdictWord.COMPLETE
