"""Replay: the files once more, and nothing else is touched."""

from pathlib import Path

import hdf5plugin  # noqa: F401  (registers the filters)
import pytest

from scanbus.bus.store import Evictor, find_scan, read_cursor
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import NameTakenError, NoLongerError, UnknownScanError
from scanbus.writer import replay
from tests.support.mixed_scan import master_of, whole_scan, write_once
from tests.support.raw_publisher import RawScan
from tests.support.trees import differences
from tests.support.waiting import found_below


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


@pytest.mark.parametrize("first", [0, 8])
def test_replay_refuses_points_that_redis_lost_after_they_were_in_files(
    redis_url: str, tmp_path: Path, first: int
) -> None:
    scan = RawScan(redis_url).prepare()
    if first:
        scan.send_frames(0, first)
    # What a publisher sends in the place of durable points that Redis has lost.
    scan.gap("eiger", 8, is_durable=True)
    scan.send_frames(first + 8, first + 12)
    scan.end()

    with pytest.raises(NoLongerError, match=f"eiger: point {first} is no longer"):
        replay(redis_url, scan.uid, tmp_path)

    assert not found_below(tmp_path, "scan0001*.h5")


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
