"""A scan has the number that it was given last, whatever any clock says."""

import os
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import append_event, connect
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import ScanPrepared, ScanRenumbered, Verdict, VerdictWord
from scanbus.writer import WriterSettings, run_writer
from scanbus.writer.recovery.unfinished import find_unfinished
from scanbus.writer.scan.scan_number import Renumbered
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.steps import Steps
from scanbus.writer.storage.event_journal import EVENTS_FILE, EventJournal
from scanbus.writer.storage.work_folder import WorkFolder
from tests.support.mixed_scan import whole_scan
from tests.support.numbered_scans import DATASET, SESSION, publish, values_in
from tests.support.published import record_of
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.writers import writer

pytestmark = pytest.mark.redis

HOUR_S = 3600


def renumbered(number: int, time_s: float) -> ScanRenumbered:
    return ScanRenumbered(time=time_s, scan_number=number, text="its number was taken")


@pytest.mark.parametrize("ahead_s", [HOUR_S, 0, -HOUR_S])
def test_a_scan_that_a_writer_with_another_clock_renumbered_gets_one_number(
    tmp_path: Path, ahead_s: int
) -> None:
    """That writer died before its claim, and the number was taken meanwhile."""
    with (
        PrivateRedis() as server,
        Publisher(server.url, close_timeout_s=5) as publisher,
        connect(server.url, name="test") as client,
    ):
        with writer(server.url, tmp_path):
            for value in range(3):
                publish(publisher, [value])
        with publisher.scan(session=SESSION) as scan:
            scan.channel("a")
            scan.send("a", [7.0])
            append_event(client, scan.uid, renumbered(2, time.time() + ahead_s))
        with writer(server.url, tmp_path):
            verdict = scan.verdict(30)
        record = record_of(client, scan.uid)
        assert client.get(f"scanbus:number:{DATASET}") == b"5"
    assert verdict.verdict is VerdictWord.COMPLETE
    assert record.identity.scan_number == 5
    assert values_in(tmp_path, 5) == [7.0]


def test_of_several_journals_the_newest_says_the_number(
    redis_url: str, tmp_path: Path
) -> None:
    """Salvage reads them: the clock of the writer before was ahead."""
    scan = RawScan(redis_url).prepare()
    dataset = tmp_path / scan.identity.dataset_folder
    (dataset / ".scanbus").mkdir(parents=True)
    prepared = ScanPrepared(time=1.0, scan=scan.identity, quota_bytes=1, lanes=())
    for fence, number, time_s in ((1, 8, 9e9), (2, 3, 1e9)):
        record = ScanRecord(scan.identity)
        record.fold(prepared)
        record.fold(renumbered(number, time_s))
        work = WorkFolder(dataset, scan.uid, fence, Steps())
        work.open()
        journal = EventJournal(work.path(EVENTS_FILE))
        journal.append(record)
        journal.close()
        os.utime(work.folder, (fence, fence))
    (found,) = find_unfinished(tmp_path)
    assert found.record is not None
    assert found.record.identity.scan_number == 3


class Restless(ScanWriter):
    """Its number is taken again and again, as by a program that makes folders."""

    n_taken = 20

    def run(self) -> Verdict:
        if Restless.n_taken:
            Restless.n_taken -= 1
            raise Renumbered
        return super().run()


def test_an_attempt_takes_a_few_numbers_and_then_pauses(
    redis_url: str, tmp_path: Path
) -> None:
    scan = whole_scan(redis_url)
    root = made_root(tmp_path)
    settings = WriterSettings.load(redis=redis_url, root=root, retry_s=0.5)
    begin = time.monotonic()
    with capture_logs() as logged:
        assert run_writer(settings, once=True, make_writer=Restless) == 0
    assert time.monotonic() - begin > 1.0
    (said,) = (one["reason"] for one in logged if one["event"] == "scan_paused")
    assert "paused: 8 scan numbers in a row were taken" in said
    assert scan.identity.dataset_folder in said
