"""What a salvage leaves alone: work that moves, names of others, finished scans."""

from __future__ import annotations

import time
from pathlib import Path

import hdf5plugin  # noqa: F401  (registers the filters)
import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import VerdictWord
from scanbus.schemas.file_names import WORK_FOLDER
from scanbus.writer import salvage
from scanbus.writer.storage.event_journal import EVENTS_FILE
from tests.conftest import RedisFactory
from tests.support.salvaged import (
    N_FRAMES,
    assert_as_sent,
    is_closed,
    killed_writer,
    make_silent,
    only_scan,
    partly_sent,
    wait_for_flush,
    work_folders,
)
from tests.support.trees import files_of
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.usefixtures("one_master")


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


def test_a_redis_that_comes_back_empty_does_not_take_the_last_copy_along(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = partly_sent(server.url)
    with writer(server.url, tmp_path, "--lease-s", "1") as one:
        wait_for_flush(scan, tmp_path)
        scan.close()
        server.kill()
        wait_until(lambda: is_closed(tmp_path, "values-0001.segment"))
        server.restart()
        with connect(server.url, name="test") as client:
            wait_until(lambda: writers_alive(client))
            time.sleep(3)  # Some attempts at a scan of which nobody says anything now.
        assert one.leave() == 0

    assert_as_sent(tmp_path, only_scan(tmp_path))


def test_a_work_folder_in_which_something_moves_is_left_alone(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = killed_writer(server, tmp_path)
    before = files_of(tmp_path)

    report = salvage(tmp_path)

    assert report.scans == ()
    assert report.skipped[0].scan == scan.uid
    assert "--force" in report.skipped[0].reason
    assert report.exit_code == 3
    assert files_of(tmp_path) == before
    make_silent(tmp_path)
    assert_as_sent(tmp_path, only_scan(tmp_path, force=False))


def test_a_writer_that_waits_for_points_shows_that_it_is_there(
    redis_url: str, tmp_path: Path
) -> None:
    scan = partly_sent(redis_url)
    with writer(redis_url, tmp_path):
        wait_for_flush(scan, tmp_path)
        make_silent(tmp_path)
        events = found_below(tmp_path, EVENTS_FILE)[0]
        wait_until(lambda: time.time() - events.stat().st_mtime < 60)
        assert "--force" in salvage(tmp_path).skipped[0].reason
        scan.end()
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE


def test_the_originals_are_kept_under_another_name(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = killed_writer(server, tmp_path)
    (before,) = work_folders(tmp_path)
    held = {path.name: path.read_bytes() for path in before.iterdir()}

    only_scan(tmp_path)

    (after,) = work_folders(tmp_path)
    assert after.name == f"salvaged-{before.name}"
    assert {path.name: path.read_bytes() for path in after.iterdir()} == held
    again = salvage(tmp_path, [scan.uid], force=True)
    assert again.scans == ()
    assert "no work folder" in again.skipped[0].reason


def test_a_paused_writer_that_wakes_up_damages_nothing(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = partly_sent(server.url)
    with writer(server.url, tmp_path) as one:
        wait_for_flush(scan, tmp_path)
        one.pause()
        for first in range(N_FRAMES, 60, 2):
            scan.send_frames(first, first + 2)
        verdict = only_scan(tmp_path)
        before = {
            name: (tmp_path / name).stat().st_mtime_ns
            for name in files_of(tmp_path)
            if f"/{WORK_FOLDER}/" not in name
        }
        one.go_on()
        time.sleep(1.0)
        one.leave()

    after = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    assert {n: t for n, t in after.items() if "_values" in n or "eiger" in n} == {
        n: t for n, t in before.items() if "_values" in n or "eiger" in n
    }
    assert_as_sent(tmp_path, verdict)


def test_when_redis_was_not_lost_after_all_the_verdict_stands(
    redis_url: str, tmp_path: Path
) -> None:
    scan = partly_sent(redis_url)
    with writer(redis_url, tmp_path, "--lease-s", "1") as one:
        wait_for_flush(scan, tmp_path)
        one.kill()
    verdict = only_scan(tmp_path)
    scan.end()

    with writer(redis_url, tmp_path, "--lease-s", "1", "--once") as second:
        assert second.wait() == VerdictWord.PARTIAL.exit_code

    assert final_verdict(redis_url, scan.uid) == verdict
    assert_as_sent(tmp_path, verdict)


def test_a_finished_scan_is_left_to_the_rebuild(redis_url: str, tmp_path: Path) -> None:
    scan = partly_sent(redis_url)
    with writer(redis_url, tmp_path) as one:
        wait_for_flush(scan, tmp_path)
        left = work_folders(tmp_path)[0]
        held = {path.name: path.read_bytes() for path in left.iterdir()}
        scan.end()
        final_verdict(redis_url, scan.uid)
        assert one.leave() == 0
    left.mkdir(parents=True)
    for name, content in held.items():
        (left / name).write_bytes(content)

    (skipped,) = salvage(tmp_path, force=True).skipped

    assert "master rebuild" in skipped.reason
    assert not skipped.is_damaged


def test_names_that_another_scan_has_are_not_taken(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)
    folder = found_below(tmp_path, "scan0001")[0]
    (folder / "scan0001_values.h5").write_bytes(b"somebody else's")
    before = files_of(tmp_path)

    (skipped,) = salvage(tmp_path, force=True).skipped

    assert "nothing was overwritten" in skipped.reason
    assert files_of(tmp_path) == before
