"""Many scans at once: a backlog is written in its order, no live scan waits for it."""

import threading
import time
from pathlib import Path

import pytest

from scanbus.bus.store import read_final_verdict
from scanbus.schemas import Verdict, VerdictWord
from scanbus.writer import WriterSettings
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.service import scan_task
from scanbus.writer.service import service as module
from scanbus.writer.service.service import WriterService
from scanbus.writer.service.worker_pool import launch_thread
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.writers import wait_until

pytestmark = pytest.mark.redis

N_ENDED = 3 * module._MOST_AT_ONCE


class Counted(ScanWriter):
    """A scan writer that is counted while it runs, and held until all may go on."""

    lock = threading.Lock()
    go_on = threading.Event()
    running: list[str]
    most = 0
    holds_live = False

    def run(self) -> Verdict:
        kind = type(self)
        with kind.lock:
            kind.running.append(self._record.uid)
            kind.most = max(kind.most, len(kind.running))
        try:
            if self._record.ended is not None or kind.holds_live:
                assert kind.go_on.wait(60)
            return super().run()
        finally:
            with kind.lock:
                kind.running.remove(self._record.uid)


def test_a_backlog_is_bounded_and_a_live_scan_does_not_wait_for_it(
    redis_url: str, tmp_path: Path
) -> None:
    Counted.running, Counted.most = [], 0
    Counted.go_on.clear()
    ended = []
    for number in range(1, N_ENDED + 1):
        scan = RawScan(redis_url, number=number).prepare()
        scan.send_group(0, 10)
        scan.end()
        ended.append(scan)
    live = RawScan(redis_url, number=N_ENDED + 1).prepare()
    live.send_group(0, 10)
    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path))
    service = WriterService(settings, launch=launch_thread(Counted))
    thread = threading.Thread(target=service.run, kwargs={"once": False})
    thread.start()
    try:
        wait_until(lambda: live.uid in Counted.running)
        wait_until(lambda: len(Counted.running) > module._MOST_AT_ONCE)
        assert Counted.running.count(ended[0].uid) == 1
        assert len(Counted.running) == module._MOST_AT_ONCE + 1
        Counted.go_on.set()
        live.end()
        for scan in (*ended, live):
            wait_until(lambda uid=scan.uid: read_final_verdict(live.client, uid))  # type: ignore[misc]
    finally:
        Counted.go_on.set()
        service.stop()
        thread.join(60)
    assert not thread.is_alive()
    assert Counted.most <= module._MOST_AT_ONCE + 1
    for scan in (*ended, live):
        verdict = read_final_verdict(live.client, scan.uid)
        assert verdict is not None
        assert verdict.verdict is VerdictWord.COMPLETE


def test_scans_that_end_at_once_are_a_backlog_however_fast_they_come(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them has ended when the writer hears of it."""
    # A busy machine takes longer than 2 s until all of them have ended.
    quick_s = 8.0
    monkeypatch.setattr(scan_task, "_QUICK_S", quick_s)
    Counted.running, Counted.most, Counted.holds_live = [], 0, True
    Counted.go_on.clear()
    scans = [RawScan(redis_url, number=n).prepare() for n in range(1, N_ENDED + 1)]
    root = made_root(tmp_path)
    # Those that are held are not to count as stalled.
    settings = WriterSettings.load(redis=redis_url, root=root, slow_s=60)
    service = WriterService(settings, launch=launch_thread(Counted))
    thread = threading.Thread(target=service.run, kwargs={"once": False})
    thread.start()
    try:
        wait_until(lambda: len(Counted.running) == module._MOST_AT_ONCE)
        for scan in scans:
            scan.send_group(0, 10)
            scan.end()
        time.sleep(quick_s + 0.5)
        assert len(Counted.running) == module._MOST_AT_ONCE
        Counted.go_on.set()
        client = scans[0].client
        wait_until(lambda: all(read_final_verdict(client, each.uid) for each in scans))
    finally:
        Counted.go_on.set()
        Counted.holds_live = False
        service.stop()
        thread.join(60)
    assert Counted.most <= module._MOST_AT_ONCE
