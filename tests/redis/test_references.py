"""Frames by reference: files that a detector writes itself, mapped and checked."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.bus.protocol import lane_key
from scanbus.bus.store import connect
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import (
    ConfigurationError,
    ExternalFileError,
    VerificationError,
)
from scanbus.schemas.frame_references import frame_url
from scanbus.subscriber import Subscriber
from scanbus.writer import check_files, convert, rebuild, replay, salvage
from tests.conftest import RedisFactory
from tests.support.published import unjudged_scan
from tests.support.referenced_files import (
    LIMA_PATH,
    SHAPE,
    frames,
    lima_file,
    lima_scan,
    odin_file,
    read,
    single_scan,
    written,
)
from tests.support.salvaged import temporary_points
from tests.support.writers import wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

NOTE = "eiger: by reference, not checksummed"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_master_reads_every_frame_of_a_lima_like_series(
    redis_url: str, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(5)]
    scan = lima_scan(redis_url, files, 10)
    master, verdict = written(redis_url, root, scan)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.notes == (NOTE,)
    np.testing.assert_array_equal(read(master), frames(0, 50))
    with h5py.File(master) as file:
        detector = file["1.1/instrument/eiger"]
        assert detector["image"].attrs["interpretation"] == "image"
        url = detector["image__url"].asstr()[11]
        assert url == f"silx://{files[1]}?path={LIMA_PATH}&slice=1"
        assert [*file["1.1/scanbus/notes"].asstr()] == [NOTE]
    report = check_files([master], external_roots=[disk])
    assert report.ok, report.findings
    assert any("not checksummed" in note for note in report.notes)


def test_a_master_reads_every_frame_of_an_odin_like_series(
    redis_url: str, root: Path, disk: Path
) -> None:
    n_writers, total = 4, 41
    every = frames(0, total)
    files = [odin_file(disk, one, every[one::n_writers]) for one in range(n_writers)]
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        for number in range(total):
            file = files[number % n_writers]
            scan.reference("eiger", file, "/data", first=number // n_writers)
    master, verdict = written(redis_url, root, scan)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    np.testing.assert_array_equal(read(master), every)
    with h5py.File(master) as file:
        assert len(file["1.1/measurement/eiger"].virtual_sources()) == n_writers
    assert check_files([master], external_roots=[disk]).ok


def test_a_missing_file_is_named_and_read_once_it_is_there(
    redis_url: str, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(3)]
    files[1].unlink()
    scan = lima_scan(redis_url, files, 10)
    master, verdict = written(redis_url, root, scan)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.reason == f"eiger: {files[1]} is not there (points 10 to 19)"
    assert (read(master)[10:20] == 9).all()
    (finding,) = check_files([master], external_roots=[disk]).findings
    assert finding.points == ((10, 20),)
    assert str(files[1]) in finding.problem
    lima_file(disk, 1, frames(10, 10))
    np.testing.assert_array_equal(read(master), frames(0, 30))
    assert check_files([master], external_roots=[disk]).ok


def test_a_file_that_appears_late_is_waited_for(
    redis_url: str, root: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANBUS_REFERENCE_WAIT_S", "30")
    late = disk / "eiger_0000.h5"
    scan = lima_scan(redis_url, [late], 10)
    timer = threading.Timer(2.0, lima_file, (disk, 0, frames(0, 10)))
    timer.start()
    master, verdict = written(redis_url, root, scan)
    timer.join()
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    np.testing.assert_array_equal(read(master), frames(0, 10))


def test_a_file_that_vanishes_later_is_named_by_check(
    redis_url: str, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(2)]
    master, verdict = written(redis_url, root, lima_scan(redis_url, files, 10))
    assert verdict.verdict is VerdictWord.COMPLETE
    files[0].unlink()
    (finding,) = check_files([master], external_roots=[disk]).findings
    assert finding.problem == f"{files[0]} is not there"
    assert finding.points == ((0, 10),)


def test_frames_are_converted_from_files_that_were_looked_at_only(
    redis_url: str, root: Path, disk: Path, tmp_path: Path
) -> None:
    """HDF5 reads fill values in place of a file that is gone."""
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(2)]
    master, _ = written(redis_url, root, lima_scan(redis_url, files, 10))
    one = tmp_path / "one.h5"
    for roots in ([], [root]):
        with pytest.raises(ConfigurationError, match="not below one of"):
            convert(master, one, external_roots=roots)
    convert(master, one, external_roots=[disk])
    files[0].unlink()
    np.testing.assert_array_equal(read(one), frames(0, 20))
    with pytest.raises(VerificationError, match="is not there"):
        convert(master, tmp_path / "two.h5", external_roots=[disk])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("short", "has 7 of 10 frames (points 17 to 19)"),
        ("type", "holds float32, declared uint16 (points 10 to 19)"),
        ("shape", "has shape (10, 3, 8), declared (n, 6, 8) (points 10 to 19)"),
        ("text", "cannot be opened as HDF5"),
        ("path", f"has no {LIMA_PATH}"),
    ],
)
def test_a_file_that_does_not_fit_is_named_and_the_others_are_read(
    *, damage: str, sentence: str, redis_url: str, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(3)]
    if damage == "short":
        lima_file(disk, 1, frames(10, 7))
    elif damage == "text":
        files[1].write_text("no HDF5")
    else:
        with h5py.File(files[1], "w") as file:
            if damage != "path":
                shape = (10, 3, 8) if damage == "shape" else (10, *SHAPE)
                dtype = "float32" if damage == "type" else "uint16"
                file.create_dataset(LIMA_PATH, shape, dtype)
    master, verdict = written(redis_url, root, lima_scan(redis_url, files, 10))
    assert verdict.verdict is VerdictWord.PARTIAL
    assert str(files[1]) in verdict.reason
    assert sentence in verdict.reason
    found = read(master)
    np.testing.assert_array_equal(found[:10], frames(0, 10))
    np.testing.assert_array_equal(found[20:], frames(20, 10))
    if damage == "short":
        np.testing.assert_array_equal(found[10:17], frames(10, 7))
        assert (found[17:20] == 9).all()


def test_files_of_one_frame_need_no_axis_that_counts_it(
    redis_url: str, root: Path, disk: Path
) -> None:
    files = [disk / f"{number}.h5" for number in range(3)]
    for number, path in enumerate(files):
        with h5py.File(path, "w") as file:
            file["image"] = frames(number, 1)[0]
    scan = single_scan(redis_url, files, "/image")
    master, verdict = written(redis_url, root, scan)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    np.testing.assert_array_equal(read(master), frames(0, 3))
    assert check_files([master], external_roots=[disk]).ok


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_that_the_detector_still_has_open_is_read(
    libver: str, redis_url: str, root: Path, disk: Path
) -> None:
    path = disk / "open.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("data", data=frames(0, 10), maxshape=(None, *SHAPE))
        if libver == "latest":
            file.swmr_mode = True
        file.flush()
        scan = single_scan(redis_url, [path], "/data", 10)
        _, verdict = written(redis_url, root, scan)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason


@pytest.mark.parametrize("is_there", [True, False])
def test_a_virtual_dataset_is_used_if_all_behind_it_may_be(
    *, is_there: bool, redis_url: str, root: Path, disk: Path
) -> None:
    layout = h5py.VirtualLayout((20, *SHAPE), "uint16")
    for index in range(2):
        odin_file(disk, index, frames(10 * index, 10))
        name = f"run_{index:06d}.h5"
        source = h5py.VirtualSource(name, "data", (10, *SHAPE))
        layout[10 * index : 10 * index + 10] = source
    with h5py.File(disk / "vds.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("data", layout)
    if not is_there:
        (disk / "run_000001.h5").unlink()
    scan = single_scan(redis_url, [disk / "vds.h5"], "/data", 20)
    master, verdict = written(redis_url, root, scan)
    if is_there:
        assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
        np.testing.assert_array_equal(read(master), frames(0, 20))
    else:
        assert "run_000001.h5 is not there" in verdict.reason


def test_files_of_other_formats_are_listed_by_url(
    redis_url: str, root: Path, disk: Path
) -> None:
    images = [disk / f"image_{number:05d}.cbf" for number in range(4)]
    for image in images[:3]:
        image.write_bytes(b"###CBF: VERSION 1.5")
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        for image in images:
            scan.reference("eiger", image)
    master, verdict = written(redis_url, root, scan)
    assert verdict.reason == f"eiger: {images[3]} is not there (points 3)"
    assert "eiger: files other than HDF5 are listed by URL" in verdict.notes
    with h5py.File(master) as file:
        urls = [*file["1.1/measurement/eiger"].asstr()]
    assert urls == [f"fabio://{image}?slice=0" for image in images]


@pytest.mark.parametrize(
    ("file", "path", "sentence"),
    [
        ("/d/a.h5", "", "/d/a.h5 is an HDF5 file: give the path of the dataset"),
        ("/d/a.NXS", "", "/d/a.NXS is an HDF5 file: give the path of the dataset"),
        ("/d/a.cbf", "/data", "/d/a.cbf is no HDF5 file, and has no dataset '/data'"),
    ],
)
def test_a_reference_that_cannot_be_read_is_refused_at_the_call(
    redis_url: str, file: str, path: str, sentence: str
) -> None:
    url = frame_url(file, path, 0)
    with Publisher(redis_url, close_timeout_s=0.1) as publisher:
        with publisher.scan() as scan:
            scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
            with pytest.raises(ValueError, match=sentence):
                scan.reference("eiger", file, path)
            with pytest.raises(ValueError, match=sentence):
                scan.send("eiger", [url])
            assert scan.lengths == {"eiger": 0}


def test_listed_files_that_vanish_or_shrink_are_named_by_check(
    redis_url: str, root: Path, disk: Path
) -> None:
    """Of formats that no master maps, and of HDF5 files beside them."""
    n_bytes = frames(0, 2).nbytes
    raw = bytes(n_bytes)
    content = {"a.cbf": b"###CBF", "a.edf": b"{", "a.tif": b"II", "a.raw": raw}
    images = [disk / name for name in content]
    for image, found in zip(images, content.values(), strict=True):
        image.write_bytes(found)
    mapped = lima_file(disk, 0, frames(0, 5))
    with Publisher(redis_url, close_timeout_s=0.1) as publisher:
        with publisher.scan(proposal="hg123", scan_number=1) as scan:
            scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
            for image in images:
                scan.reference("eiger", image, count=2 if image.suffix == ".raw" else 1)
            scan.reference("eiger", mapped, LIMA_PATH, count=5)
    master, verdict = written(redis_url, root, scan)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    report = check_files([master], external_roots=[disk])
    assert report.ok, report.findings
    images[0].unlink()
    images[1].unlink()
    images[2].write_bytes(b"")
    images[3].write_bytes(bytes(n_bytes - 1))
    lima_file(disk, 0, frames(0, 3))
    report = check_files([master], external_roots=[disk])
    assert [(each.problem, each.points) for each in report.findings] == [
        (f"{images[0]} is not there", ((0, 1),)),
        (f"{images[1]} is not there", ((1, 2),)),
        (f"{images[2]} is empty", ((2, 3),)),
        (
            f"{images[3]} has {n_bytes - 1} bytes; its frames take {n_bytes}",
            ((3, 5),),
        ),
        (f"{mapped} has 3 of 5 frames", ((8, 10),)),
    ]
    report = check_files([master])
    assert report.ok
    assert any("5 files of" in note and "not opened" in note for note in report.notes)


def test_check_names_frames_that_the_master_does_not_map(
    redis_url: str, root: Path, disk: Path
) -> None:
    """A file that was too short at the end is mapped as far as it goes."""
    scan = lima_scan(redis_url, [lima_file(disk, 0, frames(0, 7))], 10)
    master, verdict = written(redis_url, root, scan)
    assert "has 7 of 10 frames (points 7 to 9)" in verdict.reason
    (finding,) = check_files([master], external_roots=[disk]).findings
    assert finding.problem.endswith("has 7 of 10 frames")
    assert finding.points == ((7, 10),)


def test_more_files_than_a_master_maps_are_listed_by_url(
    redis_url: str, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(index, 1)) for index in range(501)]
    master, verdict = written(redis_url, root, lima_scan(redis_url, files, 1))
    assert verdict.verdict is VerdictWord.COMPLETE
    assert any("501 files" in note for note in verdict.notes)
    with h5py.File(master) as file:
        assert not file["1.1/measurement/eiger"].is_virtual
        assert len(file["1.1/measurement/eiger"]) == 501


def test_masters_are_rebuilt_with_the_frames_if_their_roots_are_named(
    redis_url: str, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(2)]
    master, _ = written(redis_url, root, lima_scan(redis_url, files, 10))
    (skipped,) = rebuild(root).skipped
    assert "external roots" in skipped.reason
    np.testing.assert_array_equal(read(master), frames(0, 20))
    master.unlink()
    assert not rebuild(root, external_roots=[disk]).skipped
    np.testing.assert_array_equal(read(master), frames(0, 20))


def test_subscribers_read_frames_below_their_external_roots_only(
    redis_url: str, disk: Path, tmp_path: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(3)]
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        scan.external_detector("outside", shape=SHAPE, dtype="uint16")
        for index, path in enumerate(files):
            scan.reference("eiger", path, LIMA_PATH, count=10, time=float(index))
        scan.skip("eiger", 2)
        outside = lima_file(tmp_path, 7, frames(0, 1))
        scan.reference("outside", outside, LIMA_PATH)
    with Subscriber(redis_url, external_roots=[disk]) as subscriber:
        reader = subscriber.scan(scan.uid)
        assert reader.length("eiger") == 32
        np.testing.assert_array_equal(reader.frames("eiger", 5, 25), frames(5, 20))
        assert (reader.frames("eiger", 29, 32)[1:] == 65535).all()
        with pytest.raises(ExternalFileError, match="not below one of the ext"):
            reader.frames("outside")
        batches = [*reader.stream("eiger")]
        streamed = np.concatenate([reader.frames_of(batch) for batch in batches])
        np.testing.assert_array_equal(streamed[:30], frames(0, 30))
        times = np.concatenate([batch.times for batch in batches])
        np.testing.assert_array_equal(times[:30], np.repeat([0.0, 1.0, 2.0], 10))
        files[2].unlink()
        with pytest.raises(ExternalFileError, match="is not there") as caught:
            reader.frames("eiger", 19, 21)
        assert caught.value.is_absent
    with Subscriber(redis_url) as subscriber:
        assert subscriber.scan(scan.uid).read("outside")[0].startswith("silx://")
        with pytest.raises(ExternalFileError, match="external_roots"):
            subscriber.scan(scan.uid).frames("eiger", 0, 1)


def test_entries_carry_file_path_first_frame_and_count(
    redis_url: str, disk: Path
) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        scan.reference("eiger", disk / "a.h5", "/data", first=3, count=500)
    with connect(redis_url, name="test") as client:
        entries = client.xrange(lane_key(scan.uid, "eiger"))
    payloads = [fields[fields.index(b"p") + 1] for _, fields in entries[:-1]]
    runs = [json.loads(payload) for payload in payloads]
    assert {(run["file"], run["path"]) for (run,) in runs} == {
        (str(disk / "a.h5"), "/data")
    }
    assert runs[0][0]["first"] == 3
    assert sum(run["count"] for (run,) in runs) == 500
    assert all(len(payload) < 200 for payload in payloads)


def test_a_replay_and_a_resumed_spool_keep_references(
    redis_url: str, root: Path, disk: Path, tmp_path: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(2)]
    spool = tmp_path / "spool"
    with unjudged_scan(redis_url, spool=spool, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        for path in files:
            scan.reference("eiger", path, LIMA_PATH, count=10)
    master, verdict = written(redis_url, root, scan)
    assert verdict.verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(read(master), frames(0, 20))
    again = tmp_path / "again"
    replayed = replay(redis_url, scan.uid, again, external_roots=[disk])
    assert replayed.verdict is VerdictWord.COMPLETE, replayed.reason
    np.testing.assert_array_equal(read(again / replayed.master), frames(0, 20))


def test_what_a_killed_writer_had_is_salvaged(
    redis_factory: RedisFactory, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(2)]
    server = redis_factory()
    publisher = Publisher(server.url, close_timeout_s=0.1)
    with publisher.scan(proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        for path in files:
            scan.reference("eiger", path, LIMA_PATH, count=10)
        scan.flush()
        with writer(server.url, root) as process:
            wait_until(lambda: temporary_points(root, "eiger") == 20, 30)
            process.kill()
        server.stop()
    publisher.close()
    files[1].unlink()
    (salvaged,) = salvage(root, force=True, external_roots=[disk]).scans
    assert f"eiger: {files[1]} is not there (points 10 to 19)" in (
        salvaged.verdict.reason
    )
    assert salvaged.verdict.notes == (NOTE,)
    found = read(root / salvaged.verdict.master)
    np.testing.assert_array_equal(found[:10], frames(0, 10))


def test_gaps_and_late_references_are_kept(
    redis_url: str, root: Path, disk: Path
) -> None:
    files = [lima_file(disk, index, frames(10 * index, 10)) for index in range(2)]
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        scan.reference("eiger", files[0], LIMA_PATH, count=10)
        scan.skip("eiger", 10)
        scan.reference("eiger", files[1], LIMA_PATH, count=10)
    master, verdict = written(redis_url, root, scan)
    assert verdict.channels["eiger"].missing == ((10, 20),)
    found = read(master)
    np.testing.assert_array_equal(found[:10], frames(0, 10))
    np.testing.assert_array_equal(found[20:], frames(10, 10))
    assert (found[10:20] == 65535).all()
    assert check_files([master], everything=True, external_roots=[disk]).ok


@pytest.mark.parametrize("name", ["50%b", "50%", "%%d"])
def test_percent_signs_in_real_names_are_no_patterns(
    name: str, redis_url: str, root: Path, disk: Path
) -> None:
    (disk / name).mkdir()
    (disk / "fast").symlink_to(disk / name)
    files = [lima_file(disk / "fast", 0, frames(0, 10))]
    master, verdict = written(redis_url, root, lima_scan(redis_url, files, 10))
    assert verdict.verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(read(master), frames(0, 10))
    report = check_files([master], external_roots=[disk])
    assert report.ok, report.findings
