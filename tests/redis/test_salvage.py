"""Redis, publisher and writer are gone: what the files hold becomes a partial scan."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.store import append_event
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import EndReason, ScanEnded, VerdictWord
from scanbus.schemas.file_names import WORK_FOLDER, WORK_FOLDERS_GLOB
from scanbus.writer import rebuild, salvage
from scanbus.writer.check import check_files
from scanbus.writer.steps import FAILPOINTS_VARIABLE
from scanbus.writer.storage.event_journal import EVENTS_FILE
from tests.conftest import RedisFactory
from tests.support.raw_publisher import RawScan, frames, mixed_lanes
from tests.support.salvaged import (
    N_FRAMES,
    N_HITS,
    N_POINTS,
    assert_as_sent,
    is_closed,
    killed_writer,
    only_scan,
    partly_sent,
    rows_in,
    send_rest,
    temporary_points,
    temporary_rows,
    wait_for_flush,
    work_folders,
    written,
)
from tests.support.trees import differences, files_of
from tests.support.waiting import found_below
from tests.support.writers import WriterProcess, wait_until, writer

pytestmark = pytest.mark.usefixtures("one_master")


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


def test_a_killed_writer_and_a_lost_redis_leave_a_partial_scan(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)

    verdict = only_scan(tmp_path)

    assert verdict.verdict is VerdictWord.PARTIAL
    assert not verdict.provisional
    assert verdict.reason.startswith("salvaged: ")
    assert verdict.end_reason == ""
    # The last chunk was not full: its two frames stand nowhere but on the bus.
    assert verdict.channels["eiger"].missing == ((48, 50),)
    assert verdict.channels["eiger"].written == 48
    assert verdict.channels["th"].written == N_POINTS
    assert verdict.channels["hits"].written == N_HITS
    assert_as_sent(tmp_path, verdict)


def test_what_was_salvaged_stands_the_check_and_the_rebuild(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)
    verdict = only_scan(tmp_path)

    masters = [tmp_path / verdict.master, *found_below(tmp_path, "sample_d1.h5")]
    report = check_files(masters, everything=True)
    assert report.findings == ()
    assert any("salvaged: " in note for note in report.notes)

    names = files_of(tmp_path)
    for path in masters:
        path.unlink()
    assert rebuild(tmp_path).skipped == ()
    assert files_of(tmp_path) == names
    assert check_files(masters, everything=True).findings == ()


def test_metadata_and_title_come_from_what_the_writer_kept(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)
    verdict = only_scan(tmp_path)
    with h5py.File(tmp_path / verdict.master) as file:
        assert file["1.1/title"].asstr()[()] == "raw scan"
        assert file["1.1/sample/name"].asstr()[()] == "lysozyme"
        assert file["1.1/writer/status"].asstr()[()] == "FAILED"


def test_a_writer_that_lost_redis_keeps_every_point_that_it_had(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = partly_sent(server.url)
    with writer(server.url, tmp_path) as one:
        wait_for_flush(scan, tmp_path)
        scan.close()
        server.kill()
        wait_until(lambda: is_closed(tmp_path, "eiger_0002.h5"))
        wait_until(lambda: is_closed(tmp_path, "values-0001.segment"))
        one.leave()
        assert (next(iter(work_folders(tmp_path))) / EVENTS_FILE).is_file()

    verdict = only_scan(tmp_path)

    assert [len(written(verdict, name)) for name in ("eiger", "th", "hits")] == [
        N_FRAMES,
        N_POINTS,
        N_HITS,
    ]
    assert_as_sent(tmp_path, verdict)
    assert check_files([tmp_path / verdict.master], everything=True).ok


def test_segments_that_wait_to_be_published_are_kept_too(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first one takes long to close; two more are full by then.
    monkeypatch.setenv(FAILPOINTS_VARIABLE, "close.before=delay=3@1")
    monkeypatch.setenv("SCANBUS_FLUSH_S", "60")
    (group,) = (lane for lane in mixed_lanes() if lane.name == "g")
    scan = RawScan(server.url, lanes=(group,)).prepare()
    made = "values-0003.segment"
    with writer(server.url, tmp_path) as one:
        for first in range(0, 3000, 250):
            scan.send_group(first, first + 250)
            if first % 1000 == 750:
                _wait_for_points(tmp_path, first + 250)
        scan.send_group(3000, 3500)
        wait_until(lambda: any((f / made).is_file() for f in work_folders(tmp_path)))
        scan.close()
        server.kill()
        wait_until(lambda: is_closed(tmp_path, made))
        one.leave()

    verdict = only_scan(tmp_path)

    assert written(verdict, "th") == list(range(3500))
    assert check_files([tmp_path / verdict.master], everything=True).ok


def _wait_for_points(root: Path, stop: int) -> None:
    wait_until(lambda: temporary_points(root, "g") == stop)


def test_holes_in_a_chunk_are_named_and_not_taken_for_points(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = partly_sent(server.url)
    scan.gap("eiger", 2)
    scan.send_frames(52, 53)
    scan.lose("eiger", 1)
    scan.send_frames(54, 56)
    with writer(server.url, tmp_path) as one:
        send_rest(scan)
        scan.gap("g", 10)
        wait_until(lambda: temporary_rows(tmp_path, "eiger_0002.h5") == 16)
        wait_until(lambda: temporary_points(tmp_path, "g") == 1260)
        one.kill()
    scan.close()
    server.kill()

    verdict = only_scan(tmp_path)

    assert verdict.channels["eiger"].missing == ((50, 52), (53, 54))
    assert verdict.channels["th"].missing == ((1250, 1260),)
    with h5py.File(tmp_path / verdict.master) as file:
        found = file["1.1/measurement/eiger"][()]
    points = written(verdict, "eiger")
    np.testing.assert_array_equal(found[points], frames(0, 56)[points])
    assert check_files([tmp_path / verdict.master], everything=True).findings == ()


def test_an_end_that_was_said_is_in_the_verdict(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = partly_sent(server.url)
    with writer(server.url, tmp_path) as one:
        wait_for_flush(scan, tmp_path)
        ended = ScanEnded(time=time.time(), end_reason=EndReason.USER_ABORT)
        append_event(scan.client, scan.uid, ended)
        events = found_below(tmp_path, EVENTS_FILE)[0]
        wait_until(lambda: b"USER_ABORT" in events.read_bytes())
        one.kill()
    scan.close()
    server.kill()

    verdict = only_scan(tmp_path)

    assert verdict.end_reason == "USER_ABORT"
    assert verdict.verdict is VerdictWord.PARTIAL
    assert "is gone" not in verdict.reason


def test_a_salvage_that_was_killed_is_done_again(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """As if it had been killed after the first segment got its final name."""
    killed_writer(server, tmp_path / "once")
    shutil.copytree(tmp_path / "once", tmp_path / "again")
    only_scan(tmp_path / "once")
    made = found_below(tmp_path / "once", "scan0001/eiger_0002.h5")[0]
    folder = found_below(tmp_path / "again", "scan0001")[0]
    shutil.copy(made, folder / made.name)

    verdict = only_scan(tmp_path / "again")

    assert_as_sent(tmp_path / "again", verdict)
    for root in (tmp_path / "once", tmp_path / "again"):
        shutil.rmtree(next(root.glob(WORK_FOLDERS_GLOB)))
    assert differences(tmp_path / "once", tmp_path / "again") == []


def test_without_the_events_nobody_knows_what_the_scan_was(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)
    found_below(tmp_path, EVENTS_FILE)[0].unlink()
    report = salvage(tmp_path, force=True)
    assert EVENTS_FILE in report.skipped[0].reason
    assert report.exit_code == 3


def test_a_temporary_segment_that_cannot_be_read_is_said(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)
    made = found_below(tmp_path, f"{WORK_FOLDER}/*/eiger_0002.h5")[0]
    made.write_bytes(b"\0" * 4096)
    made.with_suffix(".journal").unlink()

    (scan,) = salvage(tmp_path, force=True).scans

    assert any("eiger_0002.h5" in sentence for sentence in scan.unusable)
    assert scan.verdict.channels["eiger"].expected == 40
    assert_as_sent(tmp_path, scan.verdict)


def test_folders_of_predecessors_do_not_pile_up(redis_url: str, tmp_path: Path) -> None:
    scan = partly_sent(redis_url)
    for _ in range(4):
        with writer(redis_url, tmp_path, "--lease-s", "1") as one:
            seen = len(work_folders(tmp_path))
            _wait_for_own_segment(one, tmp_path, seen)
            one.kill()

    folders = work_folders(tmp_path)
    assert len(folders) == 3
    assert all((one / EVENTS_FILE).is_file() for one in folders)
    scan.end()
    with writer(redis_url, tmp_path, "--lease-s", "1", "--once") as last:
        assert last.wait() == 0
    assert not list(tmp_path.glob(WORK_FOLDERS_GLOB))


def _wait_for_own_segment(one: WriterProcess, root: Path, n_before: int) -> None:
    def is_at_work() -> bool:
        own = [f for f in work_folders(root) if not f.name.startswith("stale-")]
        stale = [f for f in work_folders(root) if f.name.startswith("stale-")]
        return (
            len(stale) == min(n_before, 2)
            and bool(own)
            and rows_in(own[0] / "eiger_0002.h5", "data") > 0
        )

    wait_until(is_at_work)


def test_the_command_prints_the_verdict(
    server: PrivateRedis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = killed_writer(server, tmp_path)
    root = ["--root", str(tmp_path)]

    assert main(["salvage", *root]) == 3
    assert "--force" in capsys.readouterr().err

    folder = found_below(tmp_path, "scan0001")[0]
    assert main(["salvage", *root, str(folder), "nosuchscan", "--force"]) == 3
    printed = capsys.readouterr()
    assert "partial salvaged: " in printed.out
    assert "nosuchscan: no work folder" in printed.err

    assert main(["salvage", *root, scan.uid, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["scans"] == []
