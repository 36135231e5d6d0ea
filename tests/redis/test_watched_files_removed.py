"""What becomes of watched files after the verdict: removed, linked, or kept."""

import os
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.schemas.exit_codes import ExitCode
from tests.redis.test_publish_watch import (
    SHAPE,
    TIMEOUT_S,
    finished,
    frame_of,
    live_writer,
    numbers_in,
    scans_on,
    started,
)
from tests.support.image_files import edf_bytes
from tests.support.waiting import found_below, wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "frames"
    made.mkdir()
    return made


def test_files_are_removed_and_linked_after_a_complete_verdict(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    names = [f"z_{number}.edf" for number in range(4)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(edf_bytes(frame_of(number)))
    (folder / "notes.txt").write_text("of somebody else")
    linked = tmp_path / "linked"
    options = ("--once", "--frames", "4", "--remove", "--link-into", str(linked))
    with live_writer(redis_url, tmp_path / "root"):
        _, err = finished(started(redis_url, folder, *options))
    assert "files_kept" not in err
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in linked.iterdir()) == names
    master = found_below(tmp_path / "root", "scan0001.h5")[0]
    with h5py.File(master) as file:
        frames = file["1.1/measurement/ccd"][()]
    assert frames[:, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("is_alike", [False, True])
def test_a_file_is_not_removed_whose_link_would_replace_another(
    redis_url: str, folder: Path, tmp_path: Path, *, is_alike: bool
) -> None:
    for number in range(2):
        (folder / f"z_{number}.edf").write_bytes(edf_bytes(frame_of(number)))
    linked = tmp_path / "linked"
    linked.mkdir()
    content = edf_bytes(frame_of(7)) if is_alike else b"of another scan"
    (linked / "z_1.edf").write_bytes(content)
    for path in (folder / "z_1.edf", linked / "z_1.edf"):
        os.utime(path, (1.7e9, 1.7e9))
    options = ("--once", "--frames", "2", "--remove", "--link-into", str(linked))
    with live_writer(redis_url, tmp_path / "root"):
        _, err = finished(started(redis_url, folder, *options))
    assert [path.name for path in folder.iterdir()] == ["z_1.edf"]
    assert (linked / "z_1.edf").read_bytes() == content
    assert "is another file" in err


def test_a_file_that_is_written_again_is_not_removed(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    """Its first content is in the scan, and its second one nowhere else."""
    options = ("--once", "--idle", "3", "--settle", "0.3", "--remove")
    with live_writer(redis_url, tmp_path / "root"):
        gateway = started(redis_url, folder, *options)
        for number in range(2):
            (folder / f"z_{number}.edf").write_bytes(edf_bytes(frame_of(number)))
        wait_until(lambda: bool(scans_on(redis_url)))
        uid = scans_on(redis_url)[0]
        wait_until(lambda: len(numbers_in(redis_url, uid)) == 2)
        (folder / "z_1.edf").write_bytes(edf_bytes(frame_of(9)))
        (folder / "z_01.edf").write_bytes(edf_bytes(frame_of(8)))
        gateway.communicate(timeout=TIMEOUT_S)
    assert numbers_in(redis_url, uid) == [0, 1]
    assert sorted(path.name for path in folder.iterdir()) == ["z_01.edf", "z_1.edf"]
    assert (folder / "z_1.edf").read_bytes() == edf_bytes(frame_of(9))


def test_a_file_whose_number_was_refused_is_not_removed(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    for number in (0, 1, 5_000_000):
        (folder / f"z_{number}.edf").write_bytes(edf_bytes(frame_of(number % 9)))
    options = ("--once", "--idle", "1", "--settle", "0.3", "--remove")
    with live_writer(redis_url, tmp_path / "root"):
        gateway = started(redis_url, folder, *options)
        gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.PARTIAL
    assert [path.name for path in folder.iterdir()] == ["z_5000000.edf"]


def test_files_of_one_number_stay_as_the_first_one_may_have_been_refused(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    for number in (0, 2):
        (folder / f"z_{number}.edf").write_bytes(edf_bytes(frame_of(number)))
    wide = np.ones((SHAPE[0], 2 * SHAPE[1]), "<u2")
    # Of one number, the first path comes first: a scan has the frame of the second.
    (folder / "z_01.edf").write_bytes(edf_bytes(wide))
    (folder / "z_1.edf").write_bytes(edf_bytes(frame_of(1)))
    options = ("--once", "--idle", "1", "--settle", "0.3", "--remove")
    with live_writer(redis_url, tmp_path / "root"):
        gateway = started(redis_url, folder, *options)
        _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert '"verdict": "complete"' in err
    assert sorted(path.name for path in folder.iterdir()) == ["z_01.edf", "z_1.edf"]


def test_a_last_file_stays_of_which_a_frame_was_refused(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    """The scan is complete without that frame, as it was its last one."""
    good, bad = (
        edf_bytes(np.ones(shape, "<u2")) for shape in (SHAPE, (SHAPE[0], 2 * SHAPE[1]))
    )
    (folder / "z_0.edf").write_bytes(good + good)
    (folder / "z_1.edf").write_bytes(good + bad)
    options = ("--once", "--idle", "1", "--settle", "0.3", "--remove")
    with live_writer(redis_url, tmp_path / "root"):
        gateway = started(redis_url, folder, *options)
        _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert '"verdict": "complete"' in err
    assert [path.name for path in folder.iterdir()] == ["z_1.edf"]
    assert "not all of their frames are in the scan" in err


def test_a_short_last_file_is_removed(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    for number, n_frames in enumerate((3, 2)):
        content = n_frames * edf_bytes(frame_of(number))
        (folder / f"z_{number}.edf").write_bytes(content)
    options = ("--once", "--idle", "1", "--settle", "0.3", "--remove")
    with live_writer(redis_url, tmp_path / "root"):
        finished(started(redis_url, folder, *options))
    assert not list(folder.iterdir())


def test_files_cannot_be_linked_into_the_folder_itself(
    redis_url: str, folder: Path
) -> None:
    gateway = started(redis_url, folder, "--link-into", str(folder / "done"))
    _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.USAGE
    assert err.splitlines()[-1].startswith("scanbus: setting link_into:")


def test_files_stay_if_the_verdict_is_not_complete(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    for number in (0, 2):
        (folder / f"z_{number}.edf").write_bytes(edf_bytes(frame_of(number)))
    options = ("--once", "--idle", "0.5", "--settle", "0.3", "--remove")
    with live_writer(redis_url, tmp_path / "root"):
        gateway = started(redis_url, folder, *options)
        gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.PARTIAL
    assert len(list(folder.iterdir())) == 2


def test_files_of_a_writer_below_the_folder_are_not_published_and_stay(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    """Else each scan would be another one, and its frames would be removed."""
    root = folder / "root"
    (folder / "z_0.edf").write_bytes(edf_bytes(frame_of(0)))
    options = ("--idle", "0.5", "--settle", "0.3", "--remove")
    with live_writer(redis_url, root):
        gateway = started(redis_url, folder, *options)
        wait_until(lambda: not (folder / "z_0.edf").exists())
        # What is older than this file has its turn before it.
        (folder / "y_0.edf").write_bytes(edf_bytes(frame_of(1)))
        wait_until(lambda: not (folder / "y_0.edf").exists())
        gateway.terminate()
        gateway.communicate(timeout=TIMEOUT_S)
    assert [numbers_in(redis_url, uid) for uid in scans_on(redis_url)] == [[0], [1]]
    assert len(found_below(root, "ccd_0000.h5")) == 2
