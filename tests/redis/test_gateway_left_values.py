"""A gateway that is killed after a frame, and before the values beside the frame."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.protocol.entries import split_id
from scanbus.bus.protocol.keys import lane_key
from scanbus.bus.store import announcements, connect, ends_of_streams, find_scan
from scanbus.publisher.gateways.runner import ScanNames
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.schemas import VerdictWord
from scanbus.writer import WriterSettings, run_writer
from tests.support.gateway_process import GatewayProcess, wait_alive
from tests.support.gateway_senders import ZmqSender, dectris_gateway
from tests.support.roots import made_root
from tests.support.waiting import wait_until
from tests.support.writers import final_verdict

pytestmark = pytest.mark.redis

NAMES = ScanNames("eiger", {"proposal": "hg1", "collection": "sample"})
FRAME = np.zeros((4, 6), "<u2")


@pytest.fixture
def sender() -> Iterator[ZmqSender]:
    made = ZmqSender(dectris_gateway, SeriesV2)
    yield made
    made.close()


def uid_of(url: str) -> str:
    with connect(url, name="test") as client:
        found = [each.document for each in announcements(client)]
    assert found[0] is not None
    return found[0].scan.uid


def wait_points(url: str, n_points: int) -> None:
    """Wait until all lanes of the only scan have points."""

    def are_there() -> bool:
        with connect(url, name="test") as client:
            if not list(announcements(client)):
                return False
            prepared = find_scan(client, uid_of(url)).prepared
            if prepared is None:
                return False
            lanes = [lane.name for lane in prepared.lanes]
            ends = ends_of_streams(client, uid_of(url), lanes)
        points = [sum(split_id(end[1])) if end else 0 for end in ends]
        return min(points) >= n_points

    wait_until(are_there)


def forget_values(url: str, n_kept: int) -> None:
    """Leave the lanes of values as they are before the last points are sent."""
    uid = uid_of(url)
    with connect(url, name="test") as client:
        prepared = find_scan(client, uid).prepared
        assert prepared is not None
        for lane in prepared.lanes:
            if lane.name == "eiger":
                continue
            key = lane_key(uid, lane.name)
            found = [entry for entry, _ in client.xrange(key)]
            last = b"0-0"
            for entry in found:
                if sum(split_id(entry)) > n_kept:
                    client.xdel(key, entry)
                else:
                    last = entry
            client.execute_command("XSETID", key, last)


@pytest.mark.parametrize("n_since", [0, 3])
def test_frames_without_their_values_are_not_called_missing(
    sender: ZmqSender, redis_url: str, tmp_path: Path, n_since: int
) -> None:
    """Only values are lost, whether frames come after the restart or not."""
    gateway = GatewayProcess(sender.maker(), redis_url, NAMES, once=False)
    sender.start(1, 5 + n_since)
    sender.frame(1, 0, FRAME)
    wait_points(redis_url, 1)
    for number in range(1, 5):
        sender.frame(1, number, FRAME)
    wait_points(redis_url, 5)
    gateway.kill()
    forget_values(redis_url, 1)
    gateway = GatewayProcess(sender.maker(), redis_url, NAMES, once=True)
    wait_alive(redis_url, gateway.pid)
    for number in range(5, 5 + n_since):
        sender.frame(1, number, FRAME)
    sender.end(1)
    gateway.wait()
    uid = uid_of(redis_url)
    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path))
    run_writer(settings, once=True)
    verdict = final_verdict(redis_url, uid)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.channels["eiger"].missing == ()
    assert verdict.channels["eiger_frame_number"].missing == ((1, 5),)
    assert "frames 1 to 4 were on the way" in verdict.reason
    with connect(redis_url, name="test") as client:
        notes = " | ".join(each.note for each in find_scan(client, uid).updates)
    assert "it goes on with frame 5; frames 1 to 4 were published" in notes
    assert "never came" not in notes
    assert "short of" not in notes
