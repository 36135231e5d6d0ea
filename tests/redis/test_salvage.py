"""Redis, publisher and writer are gone: what the files hold becomes a partial scan."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.store import append_event, connect, read_cursor, writers_alive
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import EndReason, ScanEnded, ScanUpdated, Verdict, VerdictWord
from scanbus.writer import rebuild, salvage
from scanbus.writer.check import check_files
from scanbus.writer.steps import FAILPOINTS_VARIABLE
from scanbus.writer.storage.event_journal import EVENTS_FILE
from scanbus.writer.storage.work_folder import WORK_FOLDER
from tests.conftest import RedisFactory
from tests.support.raw_publisher import RawScan, frames, mixed_lanes
from tests.support.trees import differences, files_of
from tests.support.writers import WriterProcess, final_verdict, wait_until, writer

# One whole segment of each lane and a good part of the next ones.
N_POINTS, N_FRAMES, N_HITS = 1250, 50, 40
FILL = np.iinfo(np.uint16).max


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


def partly_sent(url: str) -> RawScan:
    """A scan of which not all was sent yet."""
    scan = RawScan(url).prepare()
    update = ScanUpdated(time=time.time(), metadata={"sample": {"name": "lysozyme"}})
    append_event(scan.client, scan.uid, update)
    for first in range(0, N_POINTS, 250):
        scan.send_group(first, first + 250)
    for number in range(N_HITS):
        scan.send("hits", {"hits": [np.arange(number % 7, dtype=float)]})
    for first in range(0, N_FRAMES, 2):
        scan.send_frames(first, first + 2)
    return scan


def work_folders(root: Path) -> list[Path]:
    # Not rglob: it stumbles over the folder with which a writer tries the root.
    return sorted(root.glob(f"hg123/id00/*/*/*/*/{WORK_FOLDER}/*"))


def rows_in(path: Path, dataset: str) -> int:
    """Rows of a file that another process may be writing; 0 if it cannot be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return len(file[f"/entry_0000/measurement/{dataset}"])
    except (OSError, KeyError, RuntimeError):
        return 0


def temporary_rows(root: Path, name: str, dataset: str = "data") -> int:
    return max([rows_in(f / name, dataset) for f in work_folders(root)], default=0)


def wait_for_flush(scan: RawScan, root: Path, n_frames: int = N_FRAMES) -> None:
    """Return when the temporary segments hold all that was sent."""
    wait_until(lambda: temporary_rows(root, "eiger_0002.h5") == n_frames - 40)
    wait_until(lambda: temporary_rows(root, "g_0001.h5", "th") == N_POINTS - 1000)
    wait_until(lambda: read_cursor(scan.client, scan.uid, "g") == 1000)


def killed_writer(server: PrivateRedis, root: Path) -> RawScan:
    """Kill a writer in the middle of a scan, and then Redis."""
    scan = partly_sent(server.url)
    with writer(server.url, root) as one:
        wait_for_flush(scan, root)
        one.kill()
    scan.close()
    server.kill()
    return scan


def make_silent(root: Path) -> None:
    """Have all work folders look as if nobody wrote there for two minutes."""
    then = time.time() - 120
    for path in root.rglob(f"{WORK_FOLDER}/**/*"):
        os.utime(path, (then, then))


def only_scan(root: Path, *names: str, force: bool = True) -> Verdict:
    report = salvage(root, names, force=force)
    assert report.skipped == ()
    (scan,) = report.scans
    assert report.exit_code == VerdictWord.PARTIAL.exit_code
    return scan.verdict


def written(verdict: Verdict, channel: str) -> list[int]:
    """The points that a verdict names as written."""
    ledger = verdict.channels[channel]
    lost = {p for start, stop in ledger.missing for p in range(start, stop)}
    points = [p for p in range(ledger.expected) if p not in lost]
    assert len(points) == ledger.written
    return points


def assert_as_sent(root: Path, verdict: Verdict) -> None:
    """What is named as written equals what was sent; the rest is the fill value."""
    with h5py.File(root / verdict.master) as file:
        data: Any = file["1.1/measurement"]
        points = written(verdict, "eiger")
        found = data["eiger"][()]
        np.testing.assert_array_equal(found[points], frames(0, N_FRAMES)[points])
        lost = np.delete(found, points, axis=0)
        assert (lost == FILL).all()
        points = written(verdict, "th")
        np.testing.assert_array_equal(data["th"][()][points], np.array(points) * 0.5)
        np.testing.assert_array_equal(data["c1"][()][points], np.array(points) * 10)
        labels = data["label"].asstr()[()]
        assert [labels[p] for p in points] == [f"point {p}" for p in points]
        for point in written(verdict, "hits"):
            row = data["hits"][point]
            assert row[~np.isnan(row)].tolist() == list(range(point % 7))


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

    masters = [tmp_path / verdict.master, *tmp_path.rglob("sample_d1.h5")]
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
        wait_until(lambda: _is_closed(tmp_path, "eiger_0002.h5"))
        wait_until(lambda: _is_closed(tmp_path, "g_0001.h5"))
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
    # The first one takes long to close; two more are full by then, and never flushed.
    monkeypatch.setenv(FAILPOINTS_VARIABLE, "close.before=delay=3@1")
    monkeypatch.setenv("SCANBUS_FLUSH_S", "60")
    (group,) = (lane for lane in mixed_lanes() if lane.name == "g")
    scan = RawScan(server.url, lanes=(group,)).prepare()
    for first in range(0, 3500, 250):
        scan.send_group(first, first + 250)
    made = "g_0003.h5"
    with writer(server.url, tmp_path) as one:
        wait_until(lambda: any((f / made).is_file() for f in work_folders(tmp_path)))
        scan.close()
        server.kill()
        wait_until(lambda: _is_closed(tmp_path, made))
        one.leave()

    verdict = only_scan(tmp_path)

    assert written(verdict, "th") == list(range(3500))
    assert check_files([tmp_path / verdict.master], everything=True).ok


def _is_closed(root: Path, name: str) -> bool:
    for folder in work_folders(root):
        try:
            with h5py.File(folder / name, "r", locking=False) as file:
                return "account" in file["/entry_0000/scanbus"]
        except (OSError, KeyError, RuntimeError):
            continue
    return False


def test_a_redis_that_comes_back_empty_does_not_take_the_last_copy_along(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = partly_sent(server.url)
    with writer(server.url, tmp_path, "--lease-s", "1") as one:
        wait_for_flush(scan, tmp_path)
        scan.close()
        server.kill()
        wait_until(lambda: _is_closed(tmp_path, "g_0001.h5"))
        server.restart()
        with connect(server.url, name="test") as client:
            wait_until(lambda: writers_alive(client))
            time.sleep(3)  # Some attempts at a scan of which nobody says anything now.
        assert one.leave() == 0

    assert_as_sent(tmp_path, only_scan(tmp_path))


def test_holes_in_a_chunk_are_named_and_not_taken_for_points(
    server: PrivateRedis, tmp_path: Path
) -> None:
    scan = partly_sent(server.url)
    scan.gap("eiger", 2)
    scan.send_frames(52, 53)
    scan.lose("eiger", 1)
    scan.send_frames(54, 56)
    scan.gap("g", 10)
    with writer(server.url, tmp_path) as one:
        wait_until(lambda: temporary_rows(tmp_path, "eiger_0002.h5") == 16)
        wait_until(lambda: temporary_rows(tmp_path, "g_0001.h5", "th") == 260)
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
        events = next(tmp_path.rglob(EVENTS_FILE))
        wait_until(lambda: b"USER_ABORT" in events.read_bytes())
        one.kill()
    scan.close()
    server.kill()

    verdict = only_scan(tmp_path)

    assert verdict.end_reason == "USER_ABORT"
    assert verdict.verdict is VerdictWord.PARTIAL
    assert "is gone" not in verdict.reason


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
        events = next(tmp_path.rglob(EVENTS_FILE))
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


def test_a_salvage_that_was_killed_is_done_again(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """As if it had been killed after the first segment got its final name."""
    killed_writer(server, tmp_path / "once")
    shutil.copytree(tmp_path / "once", tmp_path / "again")
    only_scan(tmp_path / "once")
    made = next((tmp_path / "once").rglob("scan0001/eiger_0002.h5"))
    folder = next((tmp_path / "again").rglob("scan0001"))
    shutil.copy(made, folder / made.name)

    verdict = only_scan(tmp_path / "again")

    assert_as_sent(tmp_path / "again", verdict)
    for root in (tmp_path / "once", tmp_path / "again"):
        shutil.rmtree(next(root.rglob(WORK_FOLDER)))
    assert differences(tmp_path / "once", tmp_path / "again") == []


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
    folder = next(tmp_path.rglob("scan0001"))
    (folder / "scan0001_values.h5").write_bytes(b"somebody else's")
    before = files_of(tmp_path)

    (skipped,) = salvage(tmp_path, force=True).skipped

    assert "nothing was overwritten" in skipped.reason
    assert files_of(tmp_path) == before


def test_without_the_events_nobody_knows_what_the_scan_was(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)
    next(tmp_path.rglob(EVENTS_FILE)).unlink()
    report = salvage(tmp_path, force=True)
    assert EVENTS_FILE in report.skipped[0].reason
    assert report.exit_code == 3


def test_a_temporary_segment_that_cannot_be_read_is_said(
    server: PrivateRedis, tmp_path: Path
) -> None:
    killed_writer(server, tmp_path)
    next(tmp_path.rglob(f"{WORK_FOLDER}/*/eiger_0002.h5")).write_bytes(b"\0" * 4096)

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
    assert not list(tmp_path.rglob(WORK_FOLDER))


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

    folder = next(tmp_path.rglob("scan0001"))
    assert main(["salvage", *root, str(folder), "nosuchscan", "--force"]) == 3
    printed = capsys.readouterr()
    assert "partial salvaged: " in printed.out
    assert "nosuchscan: no work folder" in printed.err

    assert main(["salvage", *root, scan.uid, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["scans"] == []
