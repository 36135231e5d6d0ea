"""An idle scan is closed for its publisher's silence, not for having no points."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scanbus.bus.protocol import events_key, heartbeat_key
from scanbus.bus.store import Bus, beat_publisher, seconds_since
from scanbus.cli.private_redis import PrivateRedis
from tests.support.published import record_of
from tests.support.raw_publisher import RawScan
from tests.support.waiting import wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

LIMIT_S = 8.0


def redis_now(client: Bus) -> float:
    return seconds_since(client, "0-0")


def end_of(client: Bus, uid: str) -> float:
    """Return the time by the clock of Redis at which a scan was ended, in seconds."""
    wait_until(lambda: record_of(client, uid).ended is not None, timeout_s=60)
    lines: Any = client.xrange(events_key(uid))
    (ended,) = [key for key, each in lines if b'"type":"ended"' in each[1]]
    return int(ended.partition(b"-")[0]) / 1000


@pytest.mark.sampled(1)
@pytest.mark.parametrize("starts_first", [False, True])
def test_a_new_writer_does_not_count_the_time_in_which_the_publisher_was_back(
    server: PrivateRedis,
    client: Bus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    starts_first: bool,
) -> None:
    """It was interrupted once, and then lived on without an event.

    It goes again while the new writer runs, or before that starts.
    """
    monkeypatch.setenv("SCANBUS_INTERRUPTED_CLOSE_S", str(LIMIT_S))
    scan = RawScan(server.url, heartbeat_s=0.5).prepare()
    with writer(server.url, tmp_path) as one:
        wait_until(lambda: record_of(client, scan.uid).verdict is not None)
        beat_publisher(client, scan.uid, "raw", 60_000)
        wait_until(lambda: one.said.count("scan_opened") == 2)
    last = record_of(client, scan.uid).last_id
    wait_until(lambda: seconds_since(client, last) > LIMIT_S + 1)
    assert record_of(client, scan.uid).last_id == last
    if not starts_first:
        client.delete(heartbeat_key(scan.uid))
        gone_at = redis_now(client)
    with writer(server.url, tmp_path) as other:
        if starts_first:
            wait_until(lambda: "scan_opened" in other.said)
            client.delete(heartbeat_key(scan.uid))
            gone_at = redis_now(client)
        closed_after_s = end_of(client, scan.uid) - gone_at
        wait_until(lambda: "interrupted_closed" in other.said)
        lines = [json.loads(line) for line in other.said.splitlines()]
    assert closed_after_s >= LIMIT_S
    ended = record_of(client, scan.uid).ended
    assert ended is not None
    said = re.search(r"silent for (\d+) s", ended.text)
    assert said is not None
    assert LIMIT_S <= int(said[1]) <= closed_after_s + 1
    events = [line["event"] for line in lines if line.get("scan") == scan.uid]
    assert events.count("interrupted_closed") == 1
