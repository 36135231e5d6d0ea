"""The writer on a real Redis: what it finds, writes, judges and survives."""

import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
from structlog.testing import capture_logs

from scanbus.bus.store import (
    Evictor,
    acquire_lease,
    append_event,
    find_scan,
    read_cursor,
    read_position,
    renew_lease,
    reserve_quota,
)
from scanbus.cli import main
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import EndReason, ScanEnded, Verdict, VerdictWord
from scanbus.schemas.errors import (
    NameTakenError,
    NoLongerError,
    ScanStateError,
    UnknownScanError,
)
from scanbus.writer import WriterSettings, replay, run_writer
from scanbus.writer.check import check_files
from scanbus.writer.scan.scan_writer import ScanWriter
from tests.support.raw_publisher import RawScan, frames
from tests.support.trees import differences, files_of
from tests.support.writers import final_verdict, wait_until, writer

N_POINTS, N_FRAMES = 2500, 130


def fill(scan: RawScan, start: float = 0.0, stop: float = 1.0) -> RawScan:
    """Send a share of all points of a mixed scan."""
    for first in range(int(start * N_POINTS), int(stop * N_POINTS), 250):
        scan.send_group(first, first + 250)
    n_hits = scan.reached["hits"]
    for number in range(n_hits, n_hits + int((stop - start) * 100)):
        scan.send("hits", {"hits": [np.arange(number % 7, dtype=float)]})
    for first in range(scan.reached["eiger"], int(stop * N_FRAMES) // 2 * 2, 2):
        scan.send_frames(first, first + 2)
    return scan


def durable(scan: RawScan, point: int) -> bool:
    return read_cursor(scan.client, scan.uid, "eiger") >= point


def whole_scan(url: str, **options: object) -> RawScan:
    scan = fill(RawScan(url, **options).prepare())  # type: ignore[arg-type]
    scan.end()
    return scan


def write_once(url: str, root: Path) -> int:
    return run_writer(WriterSettings.load(redis=url, root=root), once=True)


def master_of(root: Path, number: int = 1) -> Path:
    return next(root.rglob(f"scan{number:04d}.h5"))


def test_a_scan_published_while_no_writer_ran_is_written(
    redis_url: str, tmp_path: Path
) -> None:
    scan = whole_scan(redis_url)

    assert write_once(redis_url, tmp_path) == 0

    with h5py.File(master_of(tmp_path)) as file:
        measurement = file["1.1/measurement"]
        np.testing.assert_array_equal(measurement["th"][()], np.arange(N_POINTS) * 0.5)
        assert measurement["label"].asstr()[7] == "point 7"
        np.testing.assert_array_equal(measurement["eiger"][()], frames(0, N_FRAMES))
    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.provisional) == (VerdictWord.COMPLETE, False)
    assert verdict.channels["eiger"].written == N_FRAMES
    assert (tmp_path / verdict.master) == master_of(tmp_path)


def test_after_the_verdict_everything_is_acknowledged_and_the_quota_is_free(
    redis_url: str, tmp_path: Path
) -> None:
    scan = whole_scan(redis_url)
    reserve_quota(scan.client, scan.uid, 1000, 10_000)

    write_once(redis_url, tmp_path)

    assert read_cursor(scan.client, scan.uid, "g") == N_POINTS
    assert read_cursor(scan.client, scan.uid, "eiger") == N_FRAMES
    reserve_quota(scan.client, "another0", 10_000, 10_000)
    assert read_position(scan.client) != "0-0"
    assert not list(tmp_path.rglob(".scanbus*"))


def test_only_final_names_remain(redis_url: str, tmp_path: Path) -> None:
    whole_scan(redis_url)
    write_once(redis_url, tmp_path)

    names = {Path(name).name for name in files_of(tmp_path)}

    assert names == {
        *(f"eiger_{index:04d}.h5" for index in range(7)),
        "scan0001.h5",
        "scan0001_values.h5",
        "sample_d1.h5",
        "hg123_sample.h5",
        "hg123_id00.h5",
    }


def test_replay_gives_the_same_files_and_touches_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    scan = whole_scan(redis_url)
    write_once(redis_url, tmp_path / "live")
    before = find_scan(scan.client, scan.uid).last_id

    verdict = replay(redis_url, scan.uid[:8], tmp_path / "again")

    assert verdict.verdict is VerdictWord.COMPLETE
    assert differences(tmp_path / "live", tmp_path / "again") == []
    assert find_scan(scan.client, scan.uid).last_id == before


def test_replay_before_any_writer_acknowledges_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    scan = whole_scan(redis_url)

    replay(redis_url, scan.uid, tmp_path / "again")

    assert read_cursor(scan.client, scan.uid, "eiger") == 0
    assert write_once(redis_url, tmp_path / "live") == 0
    assert differences(tmp_path / "live", tmp_path / "again") == []


def test_replay_overwrites_nothing(redis_url: str, tmp_path: Path) -> None:
    scan = whole_scan(redis_url)
    replay(redis_url, scan.uid, tmp_path)
    stamp = master_of(tmp_path).stat().st_mtime_ns

    with pytest.raises(NameTakenError, match=r"nothing was overwritten"):
        replay(redis_url, scan.uid, tmp_path)

    assert master_of(tmp_path).stat().st_mtime_ns == stamp


def test_replay_of_a_trimmed_scan_names_the_file_that_has_it(
    redis_url: str, tmp_path: Path
) -> None:
    scan = whole_scan(redis_url)
    write_once(redis_url, tmp_path / "live")
    Evictor().free(scan.client, 0)

    with pytest.raises(NoLongerError, match=r"scan0001\.h5"):
        replay(redis_url, scan.uid, tmp_path / "again")


def test_replay_of_a_scan_whose_first_points_never_came_is_no_trimmed_one(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    scan.lose("eiger", 4)
    for first in range(4, 24, 4):
        scan.send_frames(first, first + 4)
    scan.end()
    write_once(redis_url, tmp_path / "live")

    verdict = replay(redis_url, scan.uid, tmp_path / "again")

    assert verdict.channels["eiger"].missing == ((0, 4),)
    assert differences(tmp_path / "live", tmp_path / "again") == []


def test_replay_of_an_unknown_scan_is_refused(redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownScanError):
        replay(redis_url, "nosuchscan", tmp_path)


def test_two_scans_at_the_same_time_come_out_right(
    redis_url: str, tmp_path: Path
) -> None:
    first = RawScan(redis_url, number=1).prepare()
    second = RawScan(redis_url, number=2).prepare()
    with writer(redis_url, tmp_path):
        for stop in (0.3, 0.6, 1.0):
            for scan in (first, second):
                fill(scan, scan.reached["g"] / N_POINTS, stop)
        first.end()
        second.end()
        words = [final_verdict(redis_url, scan.uid) for scan in (first, second)]

    assert [one.verdict for one in words] == [VerdictWord.COMPLETE] * 2
    for number in (1, 2):
        with h5py.File(master_of(tmp_path, number)) as file:
            data = file[f"{number}.1/measurement/eiger"]
            np.testing.assert_array_equal(data[()], frames(0, N_FRAMES))


def test_a_killed_writer_and_its_successor_give_the_files_of_an_undisturbed_run(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    for stop in (0.3, 0.6, 0.9):
        with writer(redis_url, tmp_path / "live", "--lease-s", "1") as one:
            fill(scan, scan.reached["g"] / N_POINTS, stop)
            reached = scan.reached["eiger"] // 20 * 20
            wait_until(partial(durable, scan, reached))
            one.kill()
    fill(scan, 0.9, 1.0)
    scan.end()
    with writer(redis_url, tmp_path / "live", "--lease-s", "1", "--once") as last:
        assert last.wait() == 0

    replay(redis_url, scan.uid, tmp_path / "again")
    assert differences(tmp_path / "live", tmp_path / "again") == []


def test_a_paused_writer_that_wakes_up_damages_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, tmp_path / "live", "--lease-s", "1") as paused:
        fill(scan, 0.0, 0.5)
        wait_until(lambda: read_cursor(scan.client, scan.uid, "eiger") >= 40)
        paused.pause()
        fill(scan, 0.5, 1.0)
        scan.end()
        with writer(redis_url, tmp_path / "live", "--lease-s", "1"):
            verdict = final_verdict(redis_url, scan.uid)
        paused.go_on()
        assert paused.leave() == 0

    assert verdict.verdict is VerdictWord.COMPLETE
    replay(redis_url, scan.uid, tmp_path / "again")
    assert differences(tmp_path / "live", tmp_path / "again") == []


def test_a_publisher_that_is_gone_leaves_a_provisional_partial_scan(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url, heartbeat_s=0.5).prepare(), 0.0, 0.5)

    assert write_once(redis_url, tmp_path) == VerdictWord.PARTIAL.exit_code

    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    assert verdict.provisional
    assert "publisher is gone" in verdict.reason
    assert read_position(scan.client) == "0-0"


def test_an_interrupted_scan_that_returns_is_completed(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url, heartbeat_s=0.5).prepare(), 0.0, 0.5)
    write_once(redis_url, tmp_path)
    fill(scan, 0.5, 1.0)
    scan.end()

    assert write_once(redis_url, tmp_path) == 0

    replay(redis_url, scan.uid, tmp_path / "again")
    assert find_scan(scan.client, scan.uid).verdict.verdict == "complete"  # type: ignore[union-attr]


def test_an_operator_closes_a_scan_whose_publisher_is_gone(
    redis_url: str, tmp_path: Path
) -> None:
    scan = fill(RawScan(redis_url, heartbeat_s=0.5).prepare(), 0.0, 0.5)
    reserve_quota(scan.client, scan.uid, 2**30, 2**31)
    write_once(redis_url, tmp_path)
    # Interrupted, it reserves only what it holds: others have room again.
    reserve_quota(scan.client, "another0", 2**30, 2**30 + 2**25)

    assert main(["close", scan.uid, "--redis", redis_url, "--text", "it died"]) == 0
    assert main(["close", scan.uid, "--redis", redis_url]) == 1

    assert write_once(redis_url, tmp_path) == 0
    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.provisional) == ("complete", False)
    assert verdict.end_reason == "FAILURE"
    assert verdict.channels["th"].expected == N_POINTS // 2


def test_a_scan_that_ended_and_of_which_redis_lost_a_seal_can_be_closed(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url, heartbeat_s=0.5).prepare()
    scan.send_frames(0, 4)
    scan.seal("g", "hits")
    ended = ScanEnded(time=time.time(), end_reason=EndReason.SUCCESS)
    append_event(scan.client, scan.uid, ended)
    with writer(redis_url, tmp_path):
        wait_until(lambda: find_scan(scan.client, scan.uid).verdict)

        close_scan(redis_url, scan.uid)

        verdict = final_verdict(redis_url, scan.uid)
    assert (verdict.verdict, verdict.end_reason) == ("complete", "SUCCESS")
    with pytest.raises(ScanStateError, match="has ended already"):
        close_scan(redis_url, scan.uid)


def test_only_the_publisher_ends_a_scan_while_it_lives(redis_url: str) -> None:
    scan = RawScan(redis_url).prepare()

    with pytest.raises(ScanStateError, match="alive"):
        close_scan(redis_url, scan.uid)


def test_lost_damaged_and_declared_missing_points_are_named(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    scan.send_group(0, 100)
    scan.send(
        "g",
        {"th": np.zeros(10), "c1": np.zeros(10, np.int32), "label": ["x"] * 10},
        damaged=True,
    )
    scan.send_frames(0, 4)
    scan.lose("eiger", 4)
    scan.send_frames(8, 12)
    scan.gap("eiger", 4)
    scan.end()

    assert write_once(redis_url, tmp_path) == VerdictWord.PARTIAL.exit_code

    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    ledger = verdict.channels["eiger"]
    assert (ledger.expected, ledger.written) == (16, 8)
    assert ledger.missing == ((4, 8), (12, 16))
    assert verdict.channels["th"].corrupt == ((100, 110),)
    assert verdict.channels["th"].missing == ((100, 110),)
    with h5py.File(master_of(tmp_path)) as file:
        data = file["1.1/measurement/eiger"]
        assert (data[5] == np.iinfo(np.uint16).max).all()
        assert (data[13] == np.iinfo(np.uint16).max).all()
        np.testing.assert_array_equal(data[8:12], frames(8, 12))


def test_whatever_was_sent_for_a_gap_is_not_in_the_file(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    numbers = np.arange(10)
    angles, counts = numbers * 0.5, (numbers * 10).astype(np.int32)
    texts = [f"point {number}" for number in numbers]
    points: dict[str, Any] = {"th": angles, "c1": counts, "label": texts}
    scan.send("g", points, gaps={"th": ((2, 4),), "label": ((0, 1), (9, 10))})
    scan.end()

    assert write_once(redis_url, tmp_path) == VerdictWord.PARTIAL.exit_code

    with h5py.File(master_of(tmp_path)) as file:
        measurement = file["1.1/measurement"]
        th = measurement["th"][()]
        assert np.isnan(th[2:4]).all()
        np.testing.assert_array_equal(np.delete(th, [2, 3]), np.delete(angles, [2, 3]))
        np.testing.assert_array_equal(measurement["c1"][()], counts)
        assert list(measurement["label"].asstr()[()]) == ["", *texts[1:9], ""]
    assert check_files([master_of(tmp_path)], everything=True).ok


def test_points_that_came_too_late_stand_in_a_file_of_their_own(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    scan.send_frames(0, 4)
    scan.gap("eiger", 4)
    scan.send_group(0, 10)
    scan.gap("g", 1)
    scan.late("eiger", 5, frames(5, 6))
    scan.late("eiger", 4, frames(4, 5))
    scan.late("label", 10, ["came late"])
    scan.end()

    assert write_once(redis_url, tmp_path) == VerdictWord.PARTIAL.exit_code

    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    assert verdict.channels["eiger"].late == ((4, 6),)
    assert verdict.channels["eiger"].missing == ((4, 8),)
    with h5py.File(master_of(tmp_path)) as file:
        late = file["1.1/scanbus/late/eiger_0000"]
        np.testing.assert_array_equal(late["scanbus/point"][()], [5, 4])
        np.testing.assert_array_equal(late["measurement/data"][0], frames(5, 6)[0])
        assert set(file["1.1/scanbus/late"]) == {"eiger_0000", "label_0000"}
    replay(redis_url, scan.uid, tmp_path / "again")
    assert read_cursor(scan.client, scan.uid, "late.eiger") == 2


def test_a_file_of_another_scan_is_never_overwritten(
    redis_url: str, tmp_path: Path
) -> None:
    first = whole_scan(redis_url)
    write_once(redis_url, tmp_path)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files_of(tmp_path)}
    second = whole_scan(redis_url, title="the same number again")

    assert write_once(redis_url, tmp_path) == VerdictWord.FAILED.exit_code

    after = {name: (tmp_path / name).stat().st_mtime_ns for name in files_of(tmp_path)}
    assert {n: t for n, t in after.items() if "scan0001/" in n} == {
        n: t for n, t in before.items() if "scan0001/" in n
    }
    assert find_scan(second.client, second.uid).verdict is None
    assert first.uid != second.uid


def test_a_second_writer_waits_for_the_lease(redis_url: str, tmp_path: Path) -> None:
    scan = whole_scan(redis_url)
    lease = acquire_lease(scan.client, scan.uid, "somebody", 700)
    assert lease is not None

    assert write_once(redis_url, tmp_path) == 0
    assert not renew_lease(scan.client, lease, 1000)


def test_a_bad_announcement_does_not_stop_the_others(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url)
    scan.client.xadd("scanbus:scans", {"doc": b"{nonsense"})
    scan.client.xadd("scanbus:scans", {"doc": b'{"protocol": 99}'})
    fill(scan.prepare()).end()

    assert write_once(redis_url, tmp_path) == VerdictWord.FAILED.exit_code
    assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE


def test_the_verdict_is_the_same_in_master_bus_metrics_and_exit_code(
    redis_url: str, tmp_path: Path
) -> None:
    scan = _scan_with_a_hole(redis_url)
    with writer(redis_url, tmp_path, "--config", str(_metrics_config(tmp_path))) as one:
        verdict = final_verdict(redis_url, scan.uid)
        wait_until(lambda: 'scanbus_scans_total{verdict="partial"} 1.0' in _metrics())
        found = _metrics()
        assert one.leave() == 0

    assert verdict.verdict is VerdictWord.PARTIAL
    assert 'scanbus_points_total{fate="missing"} 2.0' in found
    assert 'scanbus_points_total{fate="written"} 6.0' in found
    with h5py.File(master_of(tmp_path)) as file:
        own = file["1.1/scanbus"]
        assert own["verdict"].asstr()[()] == "partial"
        assert own["reason"].asstr()[()] == verdict.reason
        np.testing.assert_array_equal(own["ledger/missing/eiger"][()], [[4, 6]])
    assert replay(redis_url, scan.uid, tmp_path / "again") == verdict
    # The exit code is that of a process which was told to leave by itself.
    scan.client.flushall()
    same = _scan_with_a_hole(redis_url)
    with writer(redis_url, tmp_path / "once", "--once") as one:
        assert one.wait() == 2
    assert final_verdict(redis_url, same.uid).reason == verdict.reason


def _scan_with_a_hole(url: str) -> RawScan:
    scan = RawScan(url).prepare()
    scan.send_frames(0, 4)
    scan.lose("eiger", 2)
    scan.send_frames(6, 8)
    scan.end()
    return scan


METRICS_PORT = 19_464


def _metrics_config(folder: Path) -> Path:
    path = folder / "scanbus.toml"
    path.write_text(f"metrics_port = {METRICS_PORT}\n")
    return path


def _metrics() -> str:
    address = f"http://127.0.0.1:{METRICS_PORT}/metrics"
    with urllib.request.urlopen(address, timeout=5) as reply:
        text: str = reply.read().decode()
    return text


def test_a_folder_that_leads_out_of_the_root_is_not_written_to(
    redis_url: str, tmp_path: Path
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "hg123").symlink_to(outside)
    whole_scan(redis_url)

    with writer(redis_url, root) as one:
        wait_until(lambda: True, 2)
        wait_until(_problem_is_said(redis_url))
        assert one.leave() == 0

    assert list(outside.iterdir()) == []


def _problem_is_said(url: str):  # type: ignore[no-untyped-def]
    from scanbus.bus.store import connect, writers_alive

    client = connect(url, name="test")
    return lambda: any(info["problems"] for info in writers_alive(client).values())


class Unforeseen(ScanWriter):
    def run(self) -> Verdict:
        raise LookupError("nobody foresaw it")


def test_an_unforeseen_error_is_shown_with_its_traceback_once(
    redis_url: str, tmp_path: Path
) -> None:
    whole_scan(redis_url)
    settings = WriterSettings.load(redis=redis_url, root=tmp_path, retry_s=0.05)

    with capture_logs() as logged:
        assert run_writer(settings, once=True, make_writer=Unforeseen) == 3

    failed = [one for one in logged if one["event"] == "attempt_failed"]
    assert len(failed) >= 3
    assert [bool(one["exc_info"]) for one in failed[:3]] == [True, False, False]
    assert failed[2]["reason"] == "LookupError: nobody foresaw it"
