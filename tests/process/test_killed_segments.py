"""A writer that is killed within a flush, wherever, loses nothing it flushed before."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from scanbus.writer.check import check_files
from scanbus.writer.recovery.segment_recovery import read_temporary_segment, restore
from scanbus.writer.storage.shared_sections import recover_shared_segment
from tests.support.killed_segments import CASES, NAME, Case, kills, new_segment
from tests.support.preloaded import NO_COMPILER, can_preload
from tests.support.written_scans import UID, points_of, times_of

pytestmark = pytest.mark.skipif(not can_preload(), reason=NO_COMPILER)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("name", "is_torn"),
    [(name, False) for name in CASES if name != "shared values"]
    + [("small chunks", True), ("chunks written twice", True), ("late values", True)],
)
def test_a_kill_at_any_write_loses_no_flushed_point(
    tmp_path: Path, name: str, is_torn: bool
) -> None:
    case = CASES[name]()
    n_kills = n_flushed = 0
    for folder, flushed in kills(name, tmp_path, is_torn=is_torn):
        if flushed:
            assert_all_there(case, folder, flushed)
            n_flushed += 1
        n_kills += 1
        shutil.rmtree(folder)
    assert n_kills > n_flushed or case.first_kill
    assert n_flushed > 10


@pytest.mark.parametrize("is_torn", [False, True], ids=["whole", "torn"])
def test_a_kill_at_any_write_loses_no_flushed_point_of_a_shared_segment(
    tmp_path: Path, is_torn: bool
) -> None:
    n_flushed = 0
    for folder, flushed in kills("shared values", tmp_path, is_torn=is_torn):
        if flushed:
            (section,) = recover_shared_segment(folder / NAME, UID)
            assert section.account.corrupt == []
            # The records were compared with their checksums.
            assert sum(record.count for record in section.records) >= flushed
            n_flushed += 1
    assert n_flushed > 10


def assert_all_there(case: Case, folder: Path, flushed: int) -> None:
    """Salvage gets the points ``[0, flushed)`` as they were sent."""
    lane = case.lane
    temporary = read_temporary_segment(folder / NAME, UID, lane)
    path = folder / "new.h5"
    segment = new_segment(path, lane)
    restore(temporary, lane, segment)
    segment.close(temporary.stop)
    segment.verify()
    assert segment.account.corrupt == []
    assert all(start >= flushed for start, _ in segment.account.missing), folder
    assert temporary.stop >= flushed
    with h5py.File(path) as file:
        times = file["/entry_0000/scanbus/time"][:flushed]
        np.testing.assert_array_equal(times, times_of(0, flushed))
        if lane.is_late:
            numbers = file["/entry_0000/scanbus/point"][:flushed].tolist()
            assert numbers == [n * 3 for n in range(flushed)]
        group, channel = file["/entry_0000/measurement"], lane.channels[0]
        sent = points_of(channel, 0, flushed)
        if channel.is_variable:
            lengths = group[f"{channel.name}__length"][:flushed].tolist()
            assert lengths == list(map(len, sent))
            sent = np.concatenate(sent)
        names = {"data", channel.name, f"{channel.name}__flat"}
        (found,) = (group[name] for name in names & set(group))
        np.testing.assert_array_equal(found[: len(sent)], sent)
    assert check_files([path], everything=True).findings == ()
