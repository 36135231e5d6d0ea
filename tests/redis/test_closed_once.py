"""A scan that was closed goes on once, whoever finds that it was closed."""

from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.protocol import heartbeat_key, lane_key
from scanbus.bus.store import connect
from scanbus.publisher import Publisher
from scanbus.publisher.recovery.closed_scan import closed_by_verdict
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.publisher.transport.continuation import continue_scan
from scanbus.schemas.errors import ScanStateError
from tests.support.waiting import wait_until
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis

UID = "closedonce"


def close_it(url: str) -> bool:
    """Close the scan as if its publisher had been silent; it beats every 2 s."""
    with connect(url, name="test") as client:
        client.delete(heartbeat_key(UID))
    try:
        return close_scan(url, UID) == UID
    except ScanStateError:
        return False


def test_a_verdict_that_was_read_before_the_scan_went_on_is_not_that_of_the_new_one(
    redis_url: str, tmp_path: Path
) -> None:
    """One thread reads the verdict, another one lets the scan go on before it."""
    with (
        Publisher(redis_url, close_timeout_s=0) as publisher,
        connect(redis_url, name="test") as client,
        publisher.scan(uid=UID, session="20260101") as scan,
    ):
        scan.channel("a")
        scan.send("a", np.arange(6.0))
        scan.flush()
        wait_until(lambda: bool(client.xlen(lane_key(UID, "a"))))
        wait_until(lambda: close_it(redis_url))
        with writer(redis_url, tmp_path / "root"):
            verdict = final_verdict(redis_url, UID)
        scan.send("a", np.arange(6.0, 10.0))
        scan.flush()
        wait_until(lambda: scan.uid != UID)
        uid, queue = scan.uid, scan._queue
        closed = closed_by_verdict(queue, UID, verdict)
        assert closed is not None
        continue_scan(client, queue, closed)
        assert scan.uid == uid
