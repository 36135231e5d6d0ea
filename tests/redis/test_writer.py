"""The writer on a real Redis: what it finds, writes, judges and survives."""

import urllib.request
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
from structlog.testing import capture_logs

from scanbus.bus.store import find_scan, read_cursor, read_position, reserve_quota
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.file_names import WORK_FOLDERS_GLOB
from scanbus.writer import WriterSettings, replay, run_writer
from scanbus.writer.check import check_files
from scanbus.writer.scan.scan_writer import ScanWriter
from tests.support.mixed_scan import (
    N_FRAMES,
    N_POINTS,
    fill,
    master_of,
    whole_scan,
    write_once,
)
from tests.support.raw_publisher import RawScan, frames
from tests.support.roots import made_root
from tests.support.trees import files_of
from tests.support.writers import final_verdict, wait_until, writer


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
    assert not list(tmp_path.glob(WORK_FOLDERS_GLOB))
    assert not list(tmp_path.glob(".scanbus-*"))


def test_only_final_names_remain(redis_url: str, tmp_path: Path) -> None:
    whole_scan(redis_url)
    write_once(redis_url, tmp_path)

    names = {Path(name).name for name in files_of(tmp_path)}

    assert names == {
        *(f"eiger_{index:04d}.h5" for index in range(7)),
        "scan0001.h5",
        "scan0001.sha256",
        "scan0001_values.h5",
        "sample_d1.h5",
        "hg123_sample.h5",
        "hg123_id00.h5",
    }


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

    assert write_once(redis_url, tmp_path) == VerdictWord.COMPLETE.exit_code

    after = {name: (tmp_path / name).stat().st_mtime_ns for name in files_of(tmp_path)}
    assert {n: t for n, t in after.items() if "scan0001/" in n} == {
        n: t for n, t in before.items() if "scan0001/" in n
    }
    assert find_scan(second.client, second.uid).identity.scan_number == 2
    assert find_scan(first.client, first.uid).identity.scan_number == 1


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
    settings = WriterSettings.load(
        redis=redis_url, root=made_root(tmp_path), retry_s=0.05
    )

    with capture_logs() as logged:
        assert run_writer(settings, once=True, make_writer=Unforeseen) == 3

    failed = [one for one in logged if one["event"] == "attempt_failed"]
    assert len(failed) >= 3
    assert ["exception" in one for one in failed[:3]] == [True, False, False]
    assert failed[2]["reason"] == "LookupError: nobody foresaw it"
