"""Costs that grow with what a scan holds, not with its square.

Bounds are on counts or on CPU time, several times what is needed: a machine under load
passes, and a cost that grows with the square does not.
"""

from pathlib import Path
from typing import Any

import h5py
import psutil
import pytest

from scanbus.bus.store import Bus, announcements, connect, find_scan, load_record
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.support.raw_publisher import RawScan, mixed_lanes
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis


def test_thousands_of_updates_are_written_once_each(
    redis_url: str, tmp_path: Path
) -> None:
    n_updates = 3000
    with (
        writer(redis_url, tmp_path) as one,
        Publisher(redis_url, name="tests") as publisher,
    ):
        with publisher.scan(quota_bytes=2**22) as scan:
            scan.channel("counter")
            for number in range(n_updates):
                scan.update({f"key_{number % 500}": number}, note=f"note {number}")
            scan.send("counter", 1.0)
        verdict = scan.verdict(90.0)
        used = [psutil.Process(one.process.pid), *one.workers]
        cpu_s = sum(sum(each.cpu_times()[:2]) for each in used)

    # Twice the square's time on an idle machine was more than this.
    assert cpu_s < 15
    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(tmp_path / verdict.master) as file:
        entry = file["1.1"]
        assert _notes(entry) == [f"note {number}" for number in range(n_updates)]
        assert entry["key_0"][()] == n_updates - 500
        assert entry["key_499"][()] == n_updates - 1
    with connect(redis_url, name="tests") as client:
        assert len(find_scan(client, scan.uid).updates) == n_updates
        (announced,) = (line.document for line in announcements(client))
        assert announced is not None
        record = load_record(client, announced, skip_updates=True)
        assert (record.updates, record.problems) == ([], [])
        assert record.final_verdict == verdict
        assert record.ended is not None


def test_many_lanes_are_looked_at_together_after_each_loss_of_the_connection(
    redis_url: str,
) -> None:
    """A sender asked three questions for each of its lanes, one after the other."""
    names = [f"c{number}" for number in range(300)]
    with (
        connect(redis_url, name="tests") as client,
        Publisher(redis_url, name="tests", close_timeout_s=0.0) as publisher,
    ):
        scan = publisher.scan(quota_bytes=2**22)
        scan.__enter__()
        for name in names:
            scan.channel(name)
        scan.prepare()
        scan.flush(20.0)
        for turn in range(3):
            before = _reads(client)
            for name in names:
                scan.send(name, float(turn))
            scan.flush(20.0)
            # Some for the points, which may come in several rounds; it was 900 more.
            assert _reads(client) - before < 300
            client.client_kill_filter(_type="normal", skipme=True)


def _reads(client: Bus) -> int:
    """How often the server has read from a client: once for what comes together."""
    info: Any = client.info("stats")
    return int(info["total_reads_processed"])


def _notes(entry: h5py.Group) -> list[str]:
    found: list[str] = []
    for note in entry["notes"].values():
        said = note["data"].asstr()[()]
        found += [said] if isinstance(said, str) else list(said)
    return found


def test_a_jump_over_many_segments_opens_few_files(
    redis_url: str, tmp_path: Path
) -> None:
    """All were open at once: a writer with few descriptors never got over it."""
    n_segments = 400
    (lane,) = [lane for lane in mixed_lanes() if lane.name == "eiger"]
    lane = lane.model_copy(update={"points_per_segment": 2, "points_per_chunk": 1})
    scan = RawScan(redis_url, lanes=(lane,)).prepare()
    scan.send_frames(0, 1)
    scan.reached["eiger"] = 2 * n_segments
    scan.send_frames(2 * n_segments, 2 * n_segments + 1)
    scan.end()

    most = 0
    with writer(redis_url, tmp_path) as service:
        process = psutil.Process(service.process.pid)

        def is_judged() -> bool:
            nonlocal most
            workers = process.children(recursive=True)
            most = max([most, *(worker.num_fds() for worker in workers)])
            return find_scan(scan.client, scan.uid).final_verdict is not None

        wait_until(is_judged)
    verdict = find_scan(scan.client, scan.uid).final_verdict
    assert verdict is not None
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.channels["eiger"].missing == ((1, 2 * n_segments),)
    assert most < 100
