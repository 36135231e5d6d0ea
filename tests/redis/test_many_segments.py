"""Scans of very many segments: readers with few descriptors, joins, deaths."""

import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.store import find_scan, read_cursor
from scanbus.schemas import LaneDescription, Verdict, VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.file_names import REPLACED_RECORDS_GLOB, scan_master_path
from scanbus.writer import check_files, rebuild, replay, salvage
from scanbus.writer.model.sources import MAX_SOURCES, files_per_lane
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS
from scanbus.writer.storage.manifest import manifest_of
from scanbus.writer.storage.replaced_files import find_replaced, remove_replaced
from tests.support.long import long_but
from tests.support.open_files import read_with_few_descriptors
from tests.support.raw_publisher import RawScan, mixed_lanes
from tests.support.writers import final_verdict, wait_until, writer

DATA = "/1.1/instrument/eiger/image"
PER_SEGMENT = 2
JOINS = [name for name in FAILPOINTS if name.startswith("join_")]
SHORT = {"join_link.before", "join_link.after"}


def small_segments() -> tuple[LaneDescription, ...]:
    (frames,) = [lane for lane in mixed_lanes() if lane.name == "eiger"]
    update = {"points_per_segment": PER_SEGMENT, "points_per_chunk": 1}
    return (frames.model_copy(update=update),)


def publish(url: str, n_segments: int, *, number: int = 1, end: bool = True) -> RawScan:
    scan = RawScan(url, lanes=small_segments(), number=number).prepare()
    for first in range(n_segments * PER_SEGMENT):
        scan.send_frames(first, first + 1)
    if end:
        scan.end()
    return scan


def config(folder: Path, **settings: float | list[str]) -> tuple[str, str]:
    path = folder / "scanbus.toml"
    wanted = {"least_free_bytes": 0, "low_water_bytes": 0, "retry_s": 0.2, **settings}
    path.write_text("".join(f"{name} = {value}\n" for name, value in wanted.items()))
    return "--config", str(path)


def master_of(root: Path, scan: RawScan) -> Path:
    return root / scan_master_path(scan.identity)


def sources_of(master: Path) -> list[str]:
    with h5py.File(master, locking=False) as file:
        if DATA not in file:
            return []  # Of a running scan, before its first segment.
        return [one.file_name for one in file[DATA].virtual_sources()]


def write_once(url: str, root: Path, *options: str) -> int:
    with writer(url, root, "--once", *options) as process:
        return process.wait()


def assert_three_are_read_right(
    url: str, folder: Path, *, n_segments: int, n_descriptors: int
) -> None:
    scan = publish(url, n_segments)
    with writer(url, folder / "1", "--once", *config(folder)) as process:
        assert process.wait(240) == 0
    # Writing three takes three times as long; links are relative.
    for copy in ("2", "3"):
        shutil.copytree(folder / "1", folder / copy)

    masters = [master_of(folder / one, scan) for one in ("1", "2", "3")]
    n_points = n_segments * PER_SEGMENT
    said = read_with_few_descriptors(n_descriptors, DATA, n_points, *masters)
    assert said == "equal"
    report = check_files(masters[:1], everything=True)
    assert report.findings == ()
    assert report.n_chunks_checked == n_points
    assert report.n_vds_sources <= files_per_lane(1)


def test_three_scans_are_read_with_fewer_descriptors_than_segments(
    redis_url: str, tmp_path: Path
) -> None:
    assert_three_are_read_right(redis_url, tmp_path, n_segments=150, n_descriptors=400)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_three_scans_of_many_segments_are_read_with_few_descriptors(
    redis_url: str, tmp_path: Path
) -> None:
    assert_three_are_read_right(
        redis_url, tmp_path, n_segments=1100, n_descriptors=1024
    )


# Joins from the fifth segment on.
FEW: dict[str, float] = {"wanted_sources": 4, "master_s": 0.05, "lease_s": 1}


def values_of(master: Path) -> np.ndarray:
    with h5py.File(master) as file:
        data = file[DATA][...]
    assert (data == data[:, :1, :1]).all()
    first: np.ndarray = data[:, 0, 0]
    return first


def names_in(root: Path, scan: RawScan) -> list[str]:
    folder = master_of(root, scan).parent
    return sorted(path.name for path in folder.glob("eiger_*"))


def assert_complete(root: Path, scan: RawScan, verdict: Verdict, n: int) -> None:
    assert verdict.verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(values_of(master_of(root, scan)), np.arange(n))
    report = check_files([master_of(root, scan)], everything=True)
    assert report.findings == ()
    assert report.n_chunks_checked == n


NAMED = ("link.after", "fsync_folder.after", "join_link.after", "scan_file.after")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("where", NAMED)
def test_a_writer_that_wakes_up_adds_nothing_to_the_manifest_of_a_finished_scan(
    redis_url: str, tmp_path: Path, where: str
) -> None:
    """It stood still after a file got its name, and before its line."""
    scan, root = publish(redis_url, 23), tmp_path / "root"
    options = config(tmp_path, **FEW)
    with writer(redis_url, root, *options, failpoints=f"{where}=stop@1") as paused:
        wait_until(lambda: any(each.status() == "stopped" for each in paused.workers))
        paused.pause()
        with writer(redis_url, root, *options):
            final_verdict(redis_url, scan.uid)
        manifest = manifest_of(master_of(root, scan).parent)
        assert manifest is not None
        before = manifest.read_bytes()
        paused.go_on()
        assert paused.leave() == 0
    assert manifest.read_bytes() == before
    assert check_files([manifest]).findings == ()


@pytest.fixture(scope="module")
def n_segments() -> int:
    return 23


def test_joined_segments_hold_the_same_and_a_replay_has_the_same_files(
    redis_url: str, tmp_path: Path, n_segments: int
) -> None:
    scan = publish(redis_url, n_segments)
    options = config(tmp_path, **FEW, grace_s=0)
    assert write_once(redis_url, tmp_path / "live", *options) == 0

    again = replay(redis_url, scan.uid, tmp_path / "again")

    verdict = find_scan(scan.client, scan.uid).verdict
    assert verdict is not None
    assert_complete(tmp_path / "live", scan, verdict, n_segments * PER_SEGMENT)
    assert_complete(tmp_path / "again", scan, again, n_segments * PER_SEGMENT)
    assert again.channels == verdict.channels
    names = names_in(tmp_path / "live", scan)
    assert len(names) <= files_per_lane(1, 4)
    assert sources_of(master_of(tmp_path / "live", scan)) == names


@pytest.mark.parametrize("failpoint", long_but(SHORT, JOINS))
def test_a_writer_killed_while_it_joins_has_a_successor_that_loses_nothing(
    redis_url: str,
    tmp_path: Path,
    n_segments: int,
    failpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits = tmp_path / "hits"
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(hits))
    scan = publish(redis_url, n_segments, end=False)
    # So short that a running scan removes what it has replaced.
    options = config(tmp_path, **FEW, grace_s=0.05)
    root, trap = tmp_path / "live", f"{failpoint}=kill@2"
    with ExitStack() as stack:
        process = stack.enter_context(
            writer(redis_url, root, *options, failpoints=trap)
        )
        wait_until(lambda: hits.exists() and f"{failpoint} 2 kill" in hits.read_text())
        # The worker is dead; half of the times, the service is as well.
        if failpoint.endswith("before"):
            process.kill()
            process = stack.enter_context(writer(redis_url, root, *options))
        scan.end()
        verdict = final_verdict(redis_url, scan.uid)

    assert_complete(tmp_path / "live", scan, verdict, n_segments * PER_SEGMENT)


@pytest.mark.parametrize("failpoint", long_but(SHORT, JOINS))
def test_a_full_disk_delays_a_join_and_not_the_scan(
    redis_url: str,
    tmp_path: Path,
    n_segments: int,
    failpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits = tmp_path / "hits"
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(hits))
    scan = publish(redis_url, n_segments, end=False)
    options = config(tmp_path, **FEW, grace_s=0.05)
    with writer(
        redis_url,
        tmp_path / "live",
        *options,
        failpoints=f"{failpoint}=raise=ENOSPC@1",
    ) as process:
        wait_until(lambda: hits.exists() and f"{failpoint} 1 raise" in hits.read_text())
        scan.end()
        verdict = final_verdict(redis_url, scan.uid)
        process.leave()

    assert_complete(tmp_path / "live", scan, verdict, n_segments * PER_SEGMENT)
    assert "join_delayed" in process.said
    assert "scan_paused" not in process.said
    assert len(sources_of(master_of(tmp_path / "live", scan))) <= 4


def test_a_growing_master_names_no_file_that_goes_within_the_grace_period(
    redis_url: str, tmp_path: Path
) -> None:
    grace_s = 0.7
    scan = RawScan(redis_url, lanes=small_segments()).prepare()
    master = master_of(tmp_path / "live", scan)
    last_named: dict[str, float] = {}
    n_points = n_gone = 0
    deadline = time.monotonic() + 80
    with writer(
        redis_url, tmp_path / "live", *config(tmp_path, **FEW, grace_s=grace_s)
    ):
        while n_gone < 10 and time.monotonic() < deadline:
            scan.send_frames(n_points, n_points + 1)
            n_points += 1
            time.sleep(0.03)
            if not master.exists():
                continue
            named_at = time.monotonic()
            named = sources_of(master)
            last_named |= dict.fromkeys(named, named_at)
            assert len(named) <= MAX_SOURCES
            there = set(names_in(tmp_path / "live", scan))
            for name in last_named.keys() - there:
                assert time.monotonic() - last_named.pop(name) >= grace_s
                n_gone += 1
        scan.end()
        verdict = final_verdict(redis_url, scan.uid)
    assert n_gone >= 10
    assert_complete(tmp_path / "live", scan, verdict, n_points)


def test_any_later_writer_removes_what_a_finished_scan_has_replaced(
    redis_url: str, tmp_path: Path, n_segments: int
) -> None:
    root = tmp_path / "live"
    scan = publish(redis_url, n_segments)
    assert write_once(redis_url, root, *config(tmp_path, **FEW, grace_s=60)) == 0
    folder = master_of(root, scan).parent
    assert len(find_replaced(folder)) > 10

    with writer(redis_url, root, *config(tmp_path, **FEW, grace_s=0.1)):
        wait_until(lambda: not find_replaced(folder))
        wait_until(lambda: not list(root.glob(REPLACED_RECORDS_GLOB)))

    assert names_in(root, scan) == sources_of(master_of(root, scan))
    assert check_files([master_of(root, scan)], everything=True).findings == ()


def test_joined_segments_are_salvaged_and_rebuilt_with_and_without_their_parts(
    redis_url: str, tmp_path: Path, n_segments: int
) -> None:
    root = tmp_path / "live"
    scan = publish(redis_url, n_segments, end=False)
    n_points = n_segments * PER_SEGMENT
    with writer(redis_url, root, *config(tmp_path, **FEW, grace_s=60)) as process:
        wait_until(lambda: read_cursor(scan.client, scan.uid, "eiger") == n_points)
        wait_until(lambda: find_replaced(master_of(root, scan).parent))
        process.kill()
    scan.client.flushall()

    (salvaged,) = salvage(root, force=True).scans

    assert salvaged.verdict.channels["eiger"].written == n_points
    master = master_of(root, scan)
    for n_parts_there in (1, 0):
        np.testing.assert_array_equal(values_of(master), np.arange(n_points))
        assert check_files([master], everything=True).findings == ()
        assert bool(find_replaced(master.parent)) == bool(n_parts_there)
        remove_replaced(master.parent, scan.uid)
        master.unlink()
        assert rebuild(root).exit_code is ExitCode.COMPLETE
