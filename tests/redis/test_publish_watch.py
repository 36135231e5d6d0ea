"""``scanbus publish watch`` as a process: killed, stopped, with files of every kind."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.bus.store import announcements, connect, find_scan, writers_alive
from scanbus.schemas import VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer
from tests.support.headered_images import TURNING, eiger_series
from tests.support.image_files import FORMATS, Pixels, edf_bytes
from tests.support.roots import made_root
from tests.support.waiting import wait_until
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis

TIMEOUT_S = 60
SHAPE = (16, 20)


def started(url: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    state = folder.with_name("state")
    command = [sys.executable, "-m", "scanbus.cli", "publish", "watch", str(folder)]
    return subprocess.Popen(
        [*command, "--detector", "ccd", "--state", str(state), *arguments],
        env={**os.environ, "SCANBUS_REDIS": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_watching(gateway: subprocess.Popen[str], folder: Path) -> bool:
    """Whether inotify tells a process of a folder, by what Linux says of it."""
    wanted = f"ino:{folder.stat().st_ino:x} "
    for each in Path(f"/proc/{gateway.pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            lines = each.read_text().splitlines()
            if any(line.startswith("inotify") and wanted in line for line in lines):
                return True
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "frames"
    made.mkdir()
    return made


@contextmanager
def live_writer(url: str, root: Path) -> Iterator[None]:
    """Have a writer that is known on the bus."""
    with writer(url, root), connect(url, name="test") as client:
        wait_until(lambda: bool(writers_alive(client)))
        yield


def frame_of(number: int) -> Pixels:
    return np.full(SHAPE, number, "<u2")


def scans_on(url: str) -> list[str]:
    with connect(url, name="test") as client:
        return [
            each.document.scan.uid for each in announcements(client) if each.document
        ]


def numbers_in(url: str, uid: str) -> list[int]:
    """Return the number in each frame of a scan; none if it has no frames yet."""
    with Subscriber(url) as subscriber:
        scan = subscriber.scan(uid)
        if "ccd" not in scan.channels:
            return []
        frames = scan.read("ccd")
        assert all((frame == frame[0, 0]).all() for frame in frames)
        return [int(frame[0, 0]) for frame in frames]


def names_in(url: str, uid: str) -> list[str]:
    with Subscriber(url) as subscriber:
        names = subscriber.scan(uid).read("ccd_file_name")
    return [Path(str(name)).name for name in names]


def written_slowly(path: Path, content: bytes, pause_s: float) -> None:
    """Write a file in three parts; half of them under another name first."""
    is_renamed = pause_s == 0
    target = path.with_name(f".{path.name}") if is_renamed else path
    with target.open("wb") as file:
        for part in (content[:700], content[700:1200], content[1200:]):
            file.write(part)
            file.flush()
            time.sleep(pause_s)
    target.rename(path)


@contextmanager
def detector(
    folder: Path, n_frames: int, period_s: float
) -> Iterator[threading.Thread]:
    """Write a series of files in a thread, each in parts."""

    def write() -> None:
        began = time.monotonic()
        for number in range(n_frames):
            content = edf_bytes(frame_of(number))
            pause_s = period_s / 4 if number % 2 else 0
            written_slowly(folder / f"run1_{number:05}.edf", content, pause_s)
            time.sleep(max(0.0, began + (number + 1) * period_s - time.monotonic()))

    thread = threading.Thread(target=write)
    thread.start()
    yield thread
    thread.join()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("keeps", ["spool", "no spool"])
def test_files_are_published_once_each_though_it_is_killed_twice(
    redis_url: str, folder: Path, tmp_path: Path, keeps: str
) -> None:
    options: tuple[str, ...] = ("--frames", "500")
    if keeps == "spool":
        options += ("--spool", str(tmp_path / "spool"))

    def n_frames() -> int:
        uids = scans_on(redis_url)
        return len(numbers_in(redis_url, uids[-1])) if uids else 0

    with detector(folder, 500, 0.02) as writing:
        for n_before_kill in (100, 250):
            gateway = started(redis_url, folder, *options)
            while n_frames() < n_before_kill:
                time.sleep(0.05)
            gateway.kill()
            gateway.communicate(timeout=TIMEOUT_S)
        gateway = started(redis_url, folder, "--once", *options)
        _, err = gateway.communicate(timeout=TIMEOUT_S)
        assert not writing.is_alive()
    assert gateway.returncode == ExitCode.COMPLETE, err
    (uid,) = scans_on(redis_url)
    written(redis_url, tmp_path / "root")
    assert final_verdict(redis_url, uid).verdict is VerdictWord.COMPLETE
    assert numbers_in(redis_url, uid) == list(range(500))
    assert names_in(redis_url, uid) == [f"run1_{n:05}.edf" for n in range(500)]


def written(url: str, root: Path) -> None:
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)


def finished(gateway: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.COMPLETE, err
    return out, err


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_of_every_format_become_frames(
    redis_url: str, folder: Path, tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("fabio")
    dtype = "int32" if suffix == ".cbf" else "uint16"
    for number in range(1, 4):
        content = FORMATS[suffix](frame_of(number).astype(dtype), tmp_path)
        (folder / f"a{number}{suffix}").write_bytes(content)
    finished(started(redis_url, folder, "--once", "--frames", "3"))
    (uid,) = scans_on(redis_url)
    assert numbers_in(redis_url, uid) == [1, 2, 3]
    assert names_in(redis_url, uid) == [f"a{n}{suffix}" for n in (1, 2, 3)]


@pytest.fixture(params=["with inotify", "without inotify"])
def environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have processes with and without the library that gives events."""
    if request.param == "with inotify":
        pytest.importorskip("inotify_simple")
        return
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "inotify_simple.py").write_text("raise ImportError('hidden')")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)


def test_a_half_written_file_is_not_taken(
    redis_url: str, folder: Path, environment: None
) -> None:
    """Neither one that was there before, nor one that grows now; no order is lost."""
    content = edf_bytes(frame_of(0))
    first = (folder / "b_0.edf").open("wb")
    first.write(content[:-1])
    first.flush()
    gateway = started(redis_url, folder, "--once", "--frames", "3", "--settle", "0.5")
    (folder / "b_2.edf").write_bytes(edf_bytes(frame_of(2)))
    with (folder / "b_1.edf").open("wb") as second:
        second.write(edf_bytes(frame_of(1))[:1100])
        second.flush()
        time.sleep(1.0)  # It looks settled by now, and cannot be read.
        assert not scans_on(redis_url)
        second.write(edf_bytes(frame_of(1))[1100:])
    first.write(content[-1:])
    first.close()
    finished(gateway)
    (uid,) = scans_on(redis_url)
    assert numbers_in(redis_url, uid) == [0, 1, 2]


def test_a_file_that_is_preallocated_is_taken_when_it_is_closed(
    redis_url: str, folder: Path
) -> None:
    """It could be read at any time; only its writer knows when it is whole."""
    pytest.importorskip("inotify_simple")
    gateway = started(redis_url, folder, "--once", "--frames", "1", "--settle", "0.3")
    wait_until(lambda: is_watching(gateway, folder))
    content = edf_bytes(frame_of(7))
    with (folder / "c_0.edf").open("wb") as file:
        file.write(content[:1024] + bytes(len(content) - 1024))
        file.flush()
        time.sleep(1.5)
        file.seek(1024)
        file.write(content[1024:])
    finished(gateway)
    assert numbers_in(redis_url, scans_on(redis_url)[0]) == [7]


def test_each_series_is_a_scan_and_no_file_is_published_again(
    redis_url: str, folder: Path
) -> None:
    (folder / "s1").mkdir()
    for number in range(3):
        (folder / f"s1/x_{number}.edf").write_bytes(edf_bytes(frame_of(number)))
        (folder / f"y_{number}.edf").write_bytes(edf_bytes(frame_of(number + 10)))
    gateway = started(redis_url, folder, "--idle", "0.5", "--settle", "0.3")
    wait_until(lambda: len(scans_on(redis_url)) == 2)
    with connect(redis_url, name="test") as client:
        wait_until(lambda: all(find_scan(client, u).ended for u in scans_on(redis_url)))
    time.sleep(2.5)  # It looks for the ends of scans now and then.
    gateway.kill()
    gateway.communicate(timeout=TIMEOUT_S)
    (folder / "y_3.edf").write_bytes(edf_bytes(frame_of(13)))
    finished(started(redis_url, folder, "--once", "--idle", "0.5", "--settle", "0.3"))
    found = [numbers_in(redis_url, uid) for uid in scans_on(redis_url)]
    assert sorted(found[:2]) == [[0, 1, 2], [10, 11, 12]]
    assert found[2:] == [[13]]


def test_what_is_no_image_is_refused_or_ignored_and_the_series_goes_on(
    redis_url: str, folder: Path
) -> None:
    for number in (0, 1, 3):
        (folder / f"w_{number}.edf").write_bytes(edf_bytes(frame_of(number)))
    (folder / "w_2.edf").write_bytes(b"nonsense")
    with h5py.File(folder / "w_master.h5", "w") as master:
        master["data"] = h5py.ExternalLink("elsewhere.h5", "data")
    gateway = started(redis_url, folder, "--once", "--idle", "2", "--settle", "0.3")
    out, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.PARTIAL
    assert "3 frames published, 1 missing, 0 repeated, 1 message refused" in out
    assert "w_2.edf" in err
    assert "w_master.h5" in err


def test_headers_become_channels(redis_url: str, folder: Path) -> None:
    for number in range(2):
        keywords = {
            "motor_mne": "th phi",
            "motor_pos": f"{number}.5 3",
            "counter_mne": "mon",
            "counter_pos": f"{number + 100}",
            "SampleDistance": 0.25,
            "time_of_day": f"17000000{number}0.5",
        }
        content = edf_bytes(frame_of(number), **keywords)
        (folder / f"h_{number}.edf").write_bytes(content)
    finished(started(redis_url, folder, "--once", "--frames", "2"))
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(scans_on(redis_url)[0])
        assert scan.read("ccd_th").tolist() == [0.5, 1.5]
        assert scan.read("ccd_mon").tolist() == [100, 101]


def test_headers_of_a_watched_folder_are_read_as_those_of_given_files(
    redis_url: str, folder: Path
) -> None:
    """End of each rotation, times in a zone, and what else changes."""
    for number in range(3):
        TURNING["cbf"][0](number, folder / f"r_{number}.cbf")
    options = ("--once", "--frames", "3", "--time-zone", "+02:00")
    finished(started(redis_url, folder, *options))
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(scans_on(redis_url)[0])
        assert scan.read("ccd_omega").tolist() == [10, 10.5, 11]
        assert scan.read("ccd_omega_end").tolist() == [10.5, 11, 11.5]
        assert scan.channels["ccd_omega_end"].units == "deg"
        changed = [str(each).splitlines() for each in scan.read("ccd_header_changes")]
        assert changed[0] == []
        assert changed[2] == ["Image_path = /ramdisk/2", "N_excluded_pixels = 602"]
        taken = [time for each in scan.batches("ccd") for time in each.times]
        metadata = scan.record.metadata()
    assert taken == [1568200828.5, 1568200830.5, 1568200832.5]
    assert metadata["start_time"] == "2019-09-11T13:20:28.500000+02:00"
    assert metadata["end_time"] == "2019-09-11T13:20:34.500000+02:00"


def test_data_files_of_an_eiger_have_the_metadata_of_the_master_beside_them(
    redis_url: str, folder: Path
) -> None:
    frames = np.stack([frame_of(number) for number in range(4)])
    eiger_series(folder, frames)
    finished(started(redis_url, folder, "--once", "--frames", "4"))
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(scans_on(redis_url)[0])
        assert scan.read("ccd_omega").tolist() == [10, 10.5, 11, 11.5]
        metadata = scan.record.metadata()
    assert metadata["start_time"] == "2019-09-11T13:20:28.500000+02:00"
    assert metadata["instrument"]["beam"]["incident_wavelength"] == 0.98


def test_files_without_numbers_are_numbered_as_they_come(
    redis_url: str, folder: Path
) -> None:
    for number, name in enumerate(("d", "b", "c", "a")):
        path = folder / f"{name}.edf"
        path.write_bytes(edf_bytes(frame_of(number)))
        os.utime(path, (10 + number, 10 + number))
    options = ("--once", "--by-arrival", "--frames", "4")
    finished(started(redis_url, folder, *options))
    (uid,) = scans_on(redis_url)
    assert numbers_in(redis_url, uid) == [0, 1, 2, 3]


def test_what_was_there_before_can_be_left_alone(redis_url: str, folder: Path) -> None:
    (folder / "old_0.edf").write_bytes(edf_bytes(frame_of(99)))
    options = ("--once", "--skip-existing", "--frames", "1", "--settle", "0.3")
    gateway = started(redis_url, folder, *options)
    wait_until(lambda: bool(list(folder.with_name("state").glob("*"))))
    time.sleep(1.0)
    (folder / "new_0.edf").write_bytes(edf_bytes(frame_of(1)))
    finished(gateway)
    assert [numbers_in(redis_url, u) for u in scans_on(redis_url)] == [[1]]


def test_a_second_watcher_of_a_folder_is_refused(redis_url: str, folder: Path) -> None:
    first = started(redis_url, folder)
    wait_until(lambda: bool(list(folder.with_name("state").glob("*"))))
    time.sleep(0.5)
    second = started(redis_url, folder)
    _, err = second.communicate(timeout=TIMEOUT_S)
    first.terminate()
    first.communicate(timeout=TIMEOUT_S)
    assert second.returncode == ExitCode.USAGE
    assert "another gateway receives from watch" in err


def test_a_folder_that_is_not_there_is_a_sentence(redis_url: str, folder: Path) -> None:
    gateway = started(redis_url, folder / "none")
    _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.USAGE
    assert err.splitlines()[-1].startswith("scanbus: setting folder:")


def test_a_file_that_is_being_written_again_is_kept_and_named(
    redis_url: str, folder: Path, tmp_path: Path
) -> None:
    for number in range(2):
        (folder / f"z_{number}.edf").write_bytes(edf_bytes(frame_of(number)))
    options = ("--idle", "0.5", "--settle", "0.3", "--remove")
    gateway = started(redis_url, folder, *options)
    wait_until(lambda: bool(scans_on(redis_url)))
    with connect(redis_url, name="test") as client:
        (uid,) = scans_on(redis_url)
        wait_until(lambda: bool(find_scan(client, uid).ended))
    with (folder / "z_1.edf").open("wb") as again:
        again.write(b"half")
        again.flush()
        with live_writer(redis_url, tmp_path / "root"):
            wait_until(lambda: not (folder / "z_0.edf").exists())
        gateway.terminate()
        _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert (folder / "z_1.edf").read_bytes() == b"half"
    assert "z_1.edf" in err
    assert "it was written again since it was published" in err


def test_a_lost_database_ends_the_run_and_no_file_is_published_twice(
    redis_url: str, folder: Path
) -> None:
    def written(first: int, stop: int) -> None:
        for number in range(first, stop):
            (folder / f"q_{number}.edf").write_bytes(edf_bytes(frame_of(number)))

    written(0, 3)
    gateway = started(redis_url, folder, "--settle", "0.3")
    wait_until(lambda: bool(scans_on(redis_url)))
    (uid,) = scans_on(redis_url)
    wait_until(lambda: len(numbers_in(redis_url, uid)) == 3)
    (database,) = folder.with_name("state").glob("*.sqlite")
    database.unlink()
    written(3, 5)
    _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.FAILED
    assert "start again" in err.splitlines()[-1]
    assert "Traceback" not in err
    finished(started(redis_url, folder, "--once", "--frames", "2", "--settle", "0.3"))
    found = [numbers_in(redis_url, each) for each in scans_on(redis_url)]
    assert found == [[0, 1, 2], [3, 4]]


def test_odd_names_dates_and_frames_that_were_never_written(
    redis_url: str, folder: Path
) -> None:
    """Each costs only itself."""
    for number in range(2):
        name = os.fsdecode(b"caf\xe9_%d.edf" % number)
        content = edf_bytes(frame_of(number), date="0001-13-01T00:00:00+02:00")
        (folder / name).write_bytes(content)
        os.utime(folder / name, (1.5e10, 1.5e10))
    finished(started(redis_url, folder, "--once", "--frames", "2", "--settle", "0.3"))
    assert names_in(redis_url, scans_on(redis_url)[0]) == [
        f"caf\\xe9_{number}.edf" for number in range(2)
    ]
    with h5py.File(folder / "p_0.h5", "w") as file:
        data = file.create_dataset("d", (5, *SHAPE), "uint16", chunks=(1, *SHAPE))
        for number in (0, 1, 3):
            data[number] = number
    gateway = started(redis_url, folder, "--once", "--idle", "3", "--settle", "0.3")
    _, err = gateway.communicate(timeout=TIMEOUT_S)
    assert gateway.returncode == ExitCode.PARTIAL
    assert "2 of its frames were never written" in err
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(scans_on(redis_url)[-1])
        assert scan.read("ccd_frame_number")[[0, 1, 3]].tolist() == [0, 1, 3]
