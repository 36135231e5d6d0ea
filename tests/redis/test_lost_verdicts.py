"""Verdicts that a crash of Redis took back are said again."""

import time
from pathlib import Path
from typing import Any

import pytest

from scanbus.bus.protocol import POSITION, events_key
from scanbus.bus.store import end_publisher_beat, find_scan
from scanbus.schemas import Verdict, VerdictWord
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS_VARIABLE
from tests.conftest import RedisFactory
from tests.support.raw_publisher import RawScan
from tests.support.writers import final_verdict, wait_until, writer

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
        end_publisher_beat(scan.client, scan.uid)

    with writer(redis_url, tmp_path):
        said = wait_until(lambda: verdict_of(scan))
        assert said.provisional is not has_ended
        forget_the_last_event(scan)
        assert verdict_of(scan) is None
        assert wait_until(lambda: verdict_of(scan)) == said


def test_a_verdict_that_redis_never_took_is_not_taken_for_said(
    redis_factory: RedisFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = tmp_path / "hits"
    monkeypatch.setenv(FAILPOINTS_VARIABLE, "verdict.before=stop@1")
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(hits))
    monkeypatch.setenv("SCANBUS_RETRY_S", "0.3")
    # With the lease on its disk, that of the attempt which fails stands for a while.
    server = redis_factory({"appendonly": "yes", "appendfsync": "always"})
    scan = RawScan(server.url).prepare()
    scan.send_frames(0, 8)
    scan.end()

    with writer(server.url, tmp_path, "--lease-s", "3") as one:
        wait_until(hits.exists)
        server.kill()
        one.go_on()
        time.sleep(0.5)
        server.restart()
        time.sleep(1)  # It sees that somebody has the lease, and is killed then.
        one.kill()
    monkeypatch.delenv(FAILPOINTS_VARIABLE)
    with writer(server.url, tmp_path):
        assert final_verdict(server.url, scan.uid).verdict is VerdictWord.COMPLETE
