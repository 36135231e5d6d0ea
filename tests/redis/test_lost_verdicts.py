"""Verdicts that a crash of Redis took back are said again."""

from pathlib import Path
from typing import Any

import pytest

from scanbus.bus.keys import POSITION, events_key
from scanbus.bus.registry import end_beat, find_scan
from scanbus.schemas import Verdict
from tests.support.raw_publisher import RawScan
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis


def forget_the_last_event(scan: RawScan) -> None:
    """As when Redis, with AOF ``everysec``, crashes just after it."""
    reply: Any = scan.client.xrevrange(events_key(scan.uid), count=1)
    ((last, _),) = reply
    assert scan.client.xdel(events_key(scan.uid), last) == 1
    scan.client.delete(POSITION)
    assert scan.client.client_kill_filter(_type="normal", skipme=True)


def verdict_of(scan: RawScan) -> Verdict | None:
    return find_scan(scan.client, scan.uid).verdict


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_verdict_that_redis_lost_is_said_again(
    redis_url: str, tmp_path: Path, *, has_ended: bool
) -> None:
    scan = RawScan(redis_url).prepare()
    scan.send_frames(0, 8)
    if has_ended:
        scan.end()
    else:
        end_beat(scan.client, scan.uid)

    with writer(redis_url, tmp_path):
        said = wait_until(lambda: verdict_of(scan))
        assert said.provisional is not has_ended
        forget_the_last_event(scan)
        assert verdict_of(scan) is None
        assert wait_until(lambda: verdict_of(scan)) == said
