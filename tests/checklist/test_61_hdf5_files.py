"""Items 61 to 71: files as files."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
import redis

from scanbus.publisher import Publisher, Scan
from scanbus.writer import rebuild
from scanbus.writer.recovery.segment_recovery import read_temporary_segment, restore
from scanbus.writer.storage.frame_segment import FrameSegment
from tests.checklist.items import item
from tests.checklist.judges import ask, program
from tests.checklist.problems import problems
from tests.checklist.sample import FOLDERS, Sample
from tests.conftest import RedisFactory
from tests.support.waiting import found_below
from tests.support.writers import wait_until, writer
from tests.support.written_scans import UID, frame_lane, points_of

DATA = "entry_0000/measurement/data"
N_KILLS = 50


@item(61, "h5py")
def test_61_the_superblock_is_version_0(sample: Sample) -> None:
    assert problems(sample, 61) == []
    assert {path.read_bytes()[8] for path in sample.files} == {0}


@item(62, "h5dump 1.10")
def test_62_an_old_library_reads_all(sample: Sample) -> None:
    command = [program("h5dump"), "-H", "-p"]
    for path in sample.files:
        done = subprocess.run([*command, str(path)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@item(63, "h5py")
def test_63_file_space_is_not_paged(sample: Sample) -> None:
    for path in sample.files:
        with h5py.File(path) as file:
            strategy = file.id.get_create_plist().get_file_space_strategy()[0]
            assert strategy != h5py.h5f.FSPACE_STRATEGY_PAGE


def growing(scan: Scan) -> np.ndarray:
    """Declare large frames and return one: few of them fill a segment."""
    scan.detector(
        "eiger", shape=(512, 512), dtype="uint32", codec="none", points_per_chunk=1
    )
    return np.arange(2**18, dtype=np.uint32).reshape(512, 512)


@item(64, "h5py")
def test_64_temporary_files_are_flushed(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server, root = redis_factory(), tmp_path / "data"
    with writer(server.url, root), Publisher(server.url) as publisher:
        with publisher.scan(**FOLDERS) as scan:
            frame = growing(scan)
            scan.send("eiger", np.stack([frame, frame + 1]))
            scan.flush()
            wait_until(lambda: _frames_in_temporary_files(root) == 2)


def _frames_in_temporary_files(root: Path) -> int:
    for path in found_below(root, "eiger_0000.h5"):
        try:
            with h5py.File(path, locking=False) as file:
                return len(file[DATA])
        except (OSError, KeyError):
            continue
    return 0


KILLED = """
import os, signal, sys, time
from pathlib import Path
import random
from tests.support.written_scans import chunk_entry, frame_lane
from scanbus.writer.storage.frame_segment import FrameSegment

lane = frame_lane(per_segment=4000, per_chunk=1)
chance = random.Random(13)
for number in range(int(sys.argv[2])):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        path = Path(sys.argv[1]) / f"{number}.h5"
        segment = FrameSegment(path, "0123456789abcdef", lane, 0)
        for point in range(4000):
            segment.put(chunk_entry(lane, point, 1))
            if point % 8 == 7:
                segment.flush()
                os.write(writing, b"%8d" % (point + 1))
        os._exit(0)
    os.read(reading, 8)  # The first flush.
    time.sleep(chance.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writing)
    flushed = 8
    while said := os.read(reading, 8):
        flushed = int(said)
    os.close(reading)
    print(number, flushed, flush=True)
"""


@item(65, "h5py")
def test_65_a_kill_damages_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(N_KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == N_KILLS
    for number, flushed in lines:
        # A file that HDF5 was about to change has its journal; see decision 0041.
        _assert_salvaged(tmp_path / f"{number}.h5", int(flushed))


def _assert_salvaged(path: Path, n_flushed: int) -> None:
    """Assert that salvage gets all flushed frames of a file, as they were sent."""
    lane = frame_lane(per_segment=4000, per_chunk=1)
    copy = path.with_name(f"salvaged_{path.name}")
    segment = FrameSegment(copy, UID, lane, 0)
    temporary = read_temporary_segment(path, UID, lane)
    restore(temporary, lane, segment)
    segment.close(temporary.stop)
    with h5py.File(copy) as file:
        frames = file[DATA][:n_flushed]
    np.testing.assert_array_equal(frames, points_of(lane.channels[0], 0, n_flushed))


@item(66, "h5clear")
def test_66_closed_files_have_no_flag_of_a_writer(
    sample: Sample, tmp_path: Path
) -> None:
    for path in sample.files:
        copy = Path(shutil.copy(path, tmp_path / path.name))
        before = copy.read_bytes()
        command = [program("h5clear"), "-s", str(copy)]
        subprocess.run(command, capture_output=True, check=False)
        assert copy.read_bytes() == before
        with h5py.File(copy, "r+", locking=True):
            pass


READER = """
import h5py, sys
with h5py.File(sys.argv[1], locking=True) as file:
    print("open", flush=True)
    sys.stdin.readline()
    print(next(iter(file)))
"""


@item(67, "h5py")
def test_67_locks_of_readers_stop_no_writer(sample: Sample, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample.root, tmp_path / "data"))
    master = root / sample.rich.relative_to(sample.root)
    command = [sys.executable, "-c", READER, str(master)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        assert not rebuild(root).skipped
        assert reader.communicate("go on\n")[0] == "1.1\n"
    with h5py.File(master, locking=True) as file:
        assert "1.1" in file


@item(68, "silx")
def test_68_silx_opens_a_growing_scan(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server, root = redis_factory(), tmp_path / "data"
    with writer(server.url, root), Publisher(server.url) as publisher:
        with publisher.scan(quota_bytes=2**23, **FOLDERS) as scan:
            frame = growing(scan)
            masters: list[Path] = []
            while not masters:
                scan.send("eiger", frame)
                masters = [*root.glob("**/scan0001.h5")]
            answer = ask(
                "silx",
                """
                from silx.io.h5py_utils import File
                with File(sys.argv[1]) as file:
                    frames = file["1.1/measurement/eiger"]
                    answer = [len(frames), int(frames[len(frames) - 1].sum())]
                """,
                masters[0],
            )
    assert answer[0] > 0
    assert answer[1] == frame.sum(dtype=np.uint64)


@item(69, "h5py")
def test_69_data_files_never_change(sample: Sample, tmp_path: Path) -> None:
    assert problems(sample, 69) == []
    root = Path(shutil.copytree(sample.root, tmp_path / "data"))
    parts = [
        path
        for path in found_below(root, "scan*/*.h5")
        if path.stem != path.parent.name
    ]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in parts}
    master = root / sample.rich.relative_to(sample.root)
    inode = master.stat().st_ino
    rebuild(root)
    assert {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in parts
    } == before
    assert master.stat().st_ino != inode


@item(70, "stat")
def test_70_mode_and_owner_are_those_of_the_process(sample: Sample) -> None:
    mask = os.umask(0)
    os.umask(mask)
    for path in sample.files:
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o666 & ~mask
        assert found.st_uid == os.getuid()


@item(71, "redis")
def test_71_no_scan_is_written_onto_a_full_disk(
    redis_factory: RedisFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANBUS_LEAST_FREE_BYTES", str(10**15))
    server, root = redis_factory(), tmp_path / "data"
    with writer(server.url, root):
        with Publisher(server.url, close_timeout_s=0.1) as publisher:
            with publisher.scan(**FOLDERS) as scan:
                scan.channel("th")
                scan.send("th", 1.0)
        said = wait_until(lambda: _paused(server.url, scan.uid))
        assert "no space" in said
        assert not found_below(root, "scan0001_values.h5")


def _paused(url: str, uid: str) -> str:
    """Return why no writer writes the scan now; empty if none says so."""
    with redis.Redis.from_url(url) as client:
        for key in client.keys("scanbus:writer:*"):
            said = json.loads(client.get(key) or b"{}")
            if uid in said.get("paused", {}):
                return str(said["paused"][uid])
        for text in client.hgetall("scanbus:writers").values():
            said = json.loads(text)
            if uid in said.get("paused", {}):
                return str(said["paused"][uid])
    return ""
