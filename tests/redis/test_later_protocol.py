"""What only a later version of scanbus understands is waited for, named, and closed."""

import json
import time
from pathlib import Path

import pytest

from scanbus.bus.protocol import ANNOUNCEMENTS, events_key
from scanbus.bus.store import (
    Bus,
    beat_publisher,
    connect,
    end_publisher_beat,
    id_order,
    read_final_verdict,
    read_position,
    writers_alive,
)
from scanbus.cli import main
from scanbus.publisher import close_scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import ScanStateError
from scanbus.subscriber import Subscriber
from tests.support.mixed_scan import whole_scan
from tests.support.raw_publisher import RawScan
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.redis

UID = "abcdef0123456789"


def announce_later(client: Bus) -> str:
    """Announce a scan of protocol 2, which has the uid at the same place."""
    document = {"protocol": 2, "type": "announced", "time": 1.0, "scan": {"uid": UID}}
    announcement = client.xadd(ANNOUNCEMENTS, {"doc": json.dumps(document)})
    assert isinstance(announcement, bytes)
    return announcement.decode()


def test_an_announcement_of_a_later_protocol_is_not_passed_until_it_is_closed(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(redis_url, name="test") as client:
        later = announce_later(client)
        with writer(redis_url, tmp_path) as one:
            # Other scans go on, and their verdicts come.
            scan = whole_scan(redis_url)
            verdict = final_verdict(redis_url, scan.uid)
            assert verdict.verdict is VerdictWord.COMPLETE
            time.sleep(1)
            assert id_order(read_position(client)) < id_order(later)

            assert main(["status", "--redis", redis_url]) == 0
            said = capsys.readouterr().out
            assert f"{UID} waits for a later version of scanbus" in said
            assert "protocol version 2" in said
            wait_until(lambda: any_problem(client, "protocol version 2"))

            beat_publisher(client, UID, "later", 60_000)
            with pytest.raises(ScanStateError, match="alive"):
                close_scan(redis_url, UID)
            end_publisher_beat(client, UID)
            assert close_scan(redis_url, UID[:8]) == UID
            judged = read_final_verdict(client, UID)
            assert judged is not None
            assert "protocol version 2" in judged.reason
            wait_until(lambda: id_order(read_position(client)) > id_order(later))
            with Subscriber(redis_url) as subscriber:
                assert subscriber.status().later == {}
            assert one.leave() == 0


def any_problem(client: Bus, text: str) -> bool:
    return any(text in str(info["problems"]) for info in writers_alive(client).values())


def test_a_scan_whose_prepared_is_of_a_later_protocol_is_named_and_closed(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = RawScan(redis_url)
    prepared = {"protocol": 2, "type": "prepared"}
    scan.client.xadd(events_key(scan.uid), {"doc": json.dumps(prepared)})
    with writer(redis_url, tmp_path):
        end_publisher_beat(scan.client, scan.uid)
        wait_until(lambda: any_problem(scan.client, "protocol version 2"))
        assert main(["status", "--redis", redis_url]) == 0
        assert "protocol version 2" in capsys.readouterr().out
        assert read_position(scan.client) == "0-0"

        assert main(["close", scan.uid, "--redis", redis_url]) == 0
        verdict = final_verdict(redis_url, scan.uid)
        assert verdict.verdict is VerdictWord.FAILED
        assert "protocol version 2" in verdict.reason
        wait_until(lambda: read_position(scan.client) != "0-0")
        with pytest.raises(ScanStateError, match="has ended already"):
            close_scan(redis_url, scan.uid)


def test_a_writer_that_writes_once_does_not_wait_for_a_later_version(
    redis_url: str, tmp_path: Path
) -> None:
    with connect(redis_url, name="test") as client:
        announce_later(client)
    with writer(redis_url, tmp_path, "--once") as one:
        assert one.wait(30) == VerdictWord.FAILED.exit_code
