"""What fsync refused once is not given to it again: the next attempt makes it anew."""

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import psutil
import pytest

from scanbus.bus.store import read_cursor
from scanbus.schemas import VerdictWord
from scanbus.schemas.file_names import WORK_FOLDER
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS_VARIABLE
from tests.support.raw_publisher import RawScan, frames, mixed_lanes
from tests.support.waiting import found_below
from tests.support.writers import WriterProcess, final_verdict, wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.faults]

# It stands still before the first fsync, which fails, and before the second.
TRAPS = ("verify.after=stop@1", "fsync.before=raise=EIO@1", "fsync.before=stop@2")


def test_after_a_failed_fsync_the_segment_is_made_again_as_another_file(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = tmp_path / "hits"
    monkeypatch.setenv(FAILPOINTS_VARIABLE, ";".join(TRAPS))
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(hits))
    monkeypatch.setenv("SCANBUS_RETRY_S", "0.1")
    root = tmp_path / "files"
    root.mkdir()
    (eiger,) = (lane for lane in mixed_lanes() if lane.name == "eiger")
    scan = RawScan(redis_url, lanes=(eiger,)).prepare()
    scan.send_frames(0, 8)
    scan.end()

    with writer(redis_url, root) as one:
        wait_until(lambda: stands_still(one, hits, 1))
        refused = segment_in(root)
        # As long as somebody has it open, its inode is given to no other file.
        with refused.open("rb"):
            inode = refused.stat().st_ino
            one.go_on()
            wait_until(lambda: stands_still(one, hits, 3))
            second = segment_in(root)
            assert second.parent != refused.parent
            assert second.stat().st_ino != inode
            assert not refused.exists()
        assert read_cursor(scan.client, scan.uid, "eiger") == 0
        assert not found_below(root, "scan0001/*.h5")
        one.go_on()
        verdict = final_verdict(redis_url, scan.uid)

    assert hits.read_text().count("fsync.before 1 raise") == 1
    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(root / verdict.master) as file:
        np.testing.assert_array_equal(file["1.1/measurement/eiger"][()], frames(0, 8))


def stands_still(one: WriterProcess, hits: Path, n_hits: int) -> bool:
    if not hits.exists() or len(hits.read_text().splitlines()) < n_hits:
        return False
    (worker,) = one.workers
    return worker.status() == psutil.STATUS_STOPPED


def segment_in(root: Path) -> Path:
    """Return the file of the segment that is being made, in whichever work folder."""
    (path,) = found_below(root, f"{WORK_FOLDER}/*/eiger_0000.h5")
    return path
