"""Late points come into the files, whoever finishes the scan."""

import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.store import append_event, connect, find_scan
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import EndReason, ScanEnded, Verdict, VerdictWord
from scanbus.schemas.errors import NoLongerError
from scanbus.writer import rebuild, replay
from scanbus.writer.check import check_files
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS, FAILPOINTS_VARIABLE
from tests.conftest import RedisFactory
from tests.support.long import long_but
from tests.support.mixed_scan import master_of, write_once
from tests.support.raw_publisher import RawScan, frames
from tests.support.salvaged import only_scan, temporary_rows
from tests.support.trees import differences
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis

FLAT = "label__flat"
# Steps that this scan has no need of.
UNUSED = ("trim", "renew", "renumber", "join")
# The last segments are those of late points.
ONE_PER_SEGMENT = ("close", "verify", "fsync", "link")
N_SEGMENTS = 4


def scan_with_late_points(url: str, **options: object) -> RawScan:
    """Send a scan in which points of two detectors came late, and no end."""
    scan = RawScan(url, **options).prepare()  # type: ignore[arg-type]
    scan.send_frames(0, 4)
    scan.gap("eiger", 4)
    scan.send_group(0, 10)
    scan.gap("g", 1)
    scan.late("eiger", 5, frames(5, 6))
    scan.late("eiger", 4, frames(4, 5))
    scan.late("label", 10, ["came late"])
    return scan


def verdict_on(scan: RawScan) -> Verdict:
    found = find_scan(scan.client, scan.uid).final_verdict
    assert found is not None
    return found


def check_late_points(root: Path, scan: RawScan) -> None:
    """Check verdict, master and files of the scan."""
    verdict = verdict_on(scan)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.channels["eiger"].late == ((4, 6),)
    assert verdict.channels["label"].late == ((10, 11),)
    check_files_of_late_points(root)


def check_files_of_late_points(root: Path) -> None:
    master = master_of(root)
    with h5py.File(master) as file:
        late = file["1.1/scanbus/late"]
        assert set(late) == {"eiger_0000", "label_0000"}
        np.testing.assert_array_equal(late["eiger_0000/scanbus/point"][()], [5, 4])
        for row, point in enumerate((5, 4)):
            np.testing.assert_array_equal(
                late["eiger_0000/measurement/data"][row], frames(point, point + 1)[0]
            )
    assert check_files([master], everything=True).ok


@pytest.fixture(scope="module")
def hits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often an undisturbed writer passes each failpoint; filled by a test."""
    return {}


def count_hits(url: str, folder: Path) -> dict[str, int]:
    scan_with_late_points(url).end()
    log = folder / "hits"
    settings = {FAILPOINTS_VARIABLE: "", FAILPOINT_LOG_VARIABLE: str(log)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        with writer(url, folder / "counted", "--once") as undisturbed:
            undisturbed.wait()
    with connect(url, name="test") as client:
        client.flushall()
    lines = (line.split() for line in log.read_text().splitlines())
    return {name: int(count) for name, count, _ in lines}


SHORT = {"link.after", "scan_file.after", "master.before", "verdict.before"}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("failpoint", long_but(SHORT, FAILPOINTS))
def test_a_writer_killed_at_any_failpoint_leaves_late_points_to_its_successor(
    redis_url: str,
    tmp_path: Path,
    hits: dict[str, int],
    failpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not hits:
        hits.update(count_hits(redis_url, tmp_path))
    scan = scan_with_late_points(redis_url)
    scan.end()
    step = failpoint.partition(".")[0]
    # A worker process does not report how often it passed a failpoint.
    hit = hits.get(failpoint, N_SEGMENTS if step in ONE_PER_SEGMENT else 1)
    log = tmp_path / "log"
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(log))
    monkeypatch.setenv(FAILPOINTS_VARIABLE, f"{failpoint}=kill@{hit}")
    with writer(redis_url, tmp_path / "live", "--lease-s", "1", "--once") as killed:
        killed.wait()
    monkeypatch.delenv(FAILPOINTS_VARIABLE)
    if not step.startswith(UNUSED):
        assert f"{failpoint} {hit} kill" in log.read_text()
    write_once(redis_url, tmp_path / "live")

    check_late_points(tmp_path / "live", scan)
    replay(redis_url, scan.uid, tmp_path / "again")
    assert differences(tmp_path / "live", tmp_path / "again") == []


@pytest.mark.parametrize("seals", [(), ("late.eiger",), ("late.eiger", "late.label")])
def test_a_closed_scan_has_the_late_points_of_its_dead_publisher(
    redis_url: str, tmp_path: Path, seals: tuple[str, ...]
) -> None:
    scan = scan_with_late_points(redis_url, heartbeat_s=0.3)
    if seals:
        scan.seal(*seals)
    assert write_once(redis_url, tmp_path) == VerdictWord.PARTIAL.exit_code

    close_scan(redis_url, scan.uid)

    ended = find_scan(scan.client, scan.uid).ended
    assert ended is not None
    assert ended.late == {"eiger": 2, "label": 1}
    write_once(redis_url, tmp_path)
    check_late_points(tmp_path, scan)


def test_late_points_that_only_a_killed_writer_had_are_salvaged(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server = redis_factory()
    scan = scan_with_late_points(server.url)
    scan.seal("g", "hits", "eiger")
    ended = ScanEnded(
        time=time.time(), end_reason=EndReason.SUCCESS, late={"eiger": 3, "label": 2}
    )
    append_event(scan.client, scan.uid, ended)
    with writer(server.url, tmp_path) as one:
        wait_until(lambda: temporary_rows(tmp_path, "late.eiger_0000.h5") == 2)
        wait_until(lambda: temporary_rows(tmp_path, "late.label_0000.h5", FLAT) > 0)
        one.kill()
    scan.close()
    server.kill()

    verdict = only_scan(tmp_path)

    assert verdict.channels["eiger"].late == ((4, 6),)
    assert verdict.channels["label"].late == ((10, 11),)
    check_files_of_late_points(tmp_path)
    before = master_of(tmp_path).read_bytes()
    master_of(tmp_path).unlink()
    rebuild(tmp_path)
    assert len(master_of(tmp_path).read_bytes()) == len(before)
    check_files_of_late_points(tmp_path)


def test_a_lost_arrival_does_not_shift_the_numbers_of_the_others(
    redis_url: str, tmp_path: Path
) -> None:
    scan = scan_with_late_points(redis_url)
    for channel, point in (("eiger", 7), ("label", 9)):
        scan.lose(f"late.{channel}", 1)
        value = frames(7, 8) if channel == "eiger" else ["last"]
        scan.late(channel, point, value)
    scan.end()

    write_once(redis_url, tmp_path)

    verdict = verdict_on(scan)
    assert verdict.channels["eiger"].late == ((4, 6), (7, 8))
    assert verdict.channels["label"].late == ((9, 11),)
    master = master_of(tmp_path)
    with h5py.File(master) as file:
        late = file["1.1/scanbus/late"]
        assert list(late["eiger_0000/scanbus/point"]) == [5, 4, -1, 7]
        assert list(late["label_0000/scanbus/point"]) == [10, -1, 9]
        assert list(late["label_0000/measurement/label__length"]) == [9, 0, 4]
        np.testing.assert_array_equal(
            late["eiger_0000/measurement/data"][3], frames(7, 8)[0]
        )
    assert check_files([master], everything=True).ok


def test_a_replay_without_the_late_points_is_refused(
    redis_url: str, tmp_path: Path
) -> None:
    scan = scan_with_late_points(redis_url)
    scan.end()
    write_once(redis_url, tmp_path / "live")
    scan.trim("late.eiger", 1)

    with pytest.raises(NoLongerError, match=r"late\.eiger"):
        replay(redis_url, scan.uid, tmp_path / "again")


@pytest.fixture
def written(redis_url: str, tmp_path: Path) -> Path:
    """The master of a scan with late points."""
    scan_with_late_points(redis_url).end()
    write_once(redis_url, tmp_path)
    return master_of(tmp_path)


def findings(master: Path) -> str:
    report = check_files([master], everything=True)
    return "\n".join(
        f"{one.file} {one.dataset} {one.problem}" for one in report.findings
    )


def test_check_finds_late_files_that_the_master_does_not_link(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file["1.1/scanbus/late/label_0000"]
    assert "late.label_0000.h5, with late points, is not linked" in findings(written)


def test_check_finds_late_points_that_the_ledger_does_not_name(written: Path) -> None:
    with h5py.File(written.parent / "late.eiger_0000.h5", "r+") as file:
        file["/entry_0000/scanbus/point"][0] = 6
    assert "eiger: the late points of its files are not the ledger's" in findings(
        written
    )


def test_check_finds_a_late_file_that_is_gone(written: Path) -> None:
    (written.parent / "late.eiger_0000.h5").unlink()
    assert "late.eiger_0000.h5, which is not there" in findings(written)
    assert "eiger: the late points of its files are not the ledger's" in findings(
        written
    )


def test_check_finds_damaged_late_points(written: Path) -> None:
    path = written.parent / "late.eiger_0000.h5"
    with h5py.File(path) as file:
        offset = file["/entry_0000/measurement/data"].id.get_chunk_info(1).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 20] ^= 1
    path.write_bytes(data)
    assert "1 chunk is not what came over the bus" in findings(written)
