"""Image files become a scan on the bus, frame for frame."""

import bz2
import gzip
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabio
import h5py
import hdf5plugin  # noqa: F401 (registers the filters that frames need)
import numpy as np
import numpy.typing as npt
import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher.gateways.files import publish_files
from scanbus.schemas import Role
from scanbus.schemas.errors import BusUnavailableError, SourceError
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings
from scanbus.writer.service.service import WriterService
from tests.support.roots import made_root
from tests.support.writers import wait_until

pytestmark = pytest.mark.redis

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an image file; its suffixes say which kind, and how it is packed."""

    def write_one(
        name: str, data: npt.NDArray[Any], header: dict[str, str] | None = None
    ) -> Path:
        path = tmp_path / name
        kind = next(each for each in path.suffixes if each in KINDS)
        plain = tmp_path / (path.name.partition(".")[0] + kind)
        KINDS[kind](data, header or {}).write(str(plain))
        if path.suffix in PACKERS:
            path.write_bytes(PACKERS[path.suffix](plain.read_bytes()))
            plain.unlink()
        return path

    return write_one


def _edf(data: npt.NDArray[Any], header: dict[str, str]) -> Any:
    return fabio.edfimage.EdfImage(data=data, header=header)


def _cbf(data: npt.NDArray[Any], header: dict[str, str]) -> Any:
    return fabio.cbfimage.CbfImage(data=data, header=header)


def _tif(data: npt.NDArray[Any], header: dict[str, str]) -> Any:
    return fabio.tifimage.TifImage(data=data, header=header)


KINDS: dict[str, Callable[..., Any]] = {".edf": _edf, ".cbf": _cbf, ".tif": _tif}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
}


def frame(number: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    return (np.arange(60 * 50).reshape(60, 50) + number).astype(dtype)


def test_real_frames_arrive_pixel_for_pixel(redis_url: str, shared_data: Path) -> None:
    folder = shared_data / "thaumatin_grid"
    files = sorted(folder.glob("*.cbf.bz2"))[:3]
    told: list[tuple[str, int, int | None]] = []

    published = publish_files(
        redis_url, files, proposal="mx1", progress=lambda *each: told.append(each)
    )

    assert published.n_frames == 3
    assert told[-1] == ("frames", 3, 3)
    assert ("headers", 3, 3) in told
    assert published.identity.proposal == "mx1"
    assert published.identity.collection == "thaumatin_grid"
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(published.uid)
        assert scan.record.ended is not None
        assert scan.record.ended.end_reason == "SUCCESS"
        assert scan.channels["pilatus3_6m"].dtype == "int32"
        assert scan.is_over("pilatus3_6m")
        for number, file in enumerate(files):
            got = scan.point("pilatus3_6m", number)
            with fabio.open(str(file)) as image:
                np.testing.assert_array_equal(got, image.data)
            assert got.min() == -2
        assert scan.read("file_name") == [str(file) for file in files]
        assert scan.read("frame_date")[0] == "2019-09-11T13:20:28.989"
        np.testing.assert_allclose(scan.read("omega"), 89.9997)
        assert scan.channels["omega"].role is Role.COUNTER  # it stands still


def test_real_headers_become_metadata(redis_url: str, shared_data: Path) -> None:
    (file,) = (shared_data / "pilatus12m").glob("*.cbf.gz")
    published = publish_files(redis_url, [file])
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(published.uid)
        instrument = scan.record.metadata()["instrument"]
        assert instrument["beam"]["incident_wavelength"] == 2.7552
        detector = instrument["pilatus_12m"]
        assert detector["serial_number"] == "120-0100"
        assert detector["pixel_mask"]["array"]["codec"] == "bitshuffle-lz4"
        assert detector["pixel_mask"]["array"]["shape"] == [5071, 2463]
        assert scan.channels["omega"].role is Role.AXIS  # it turns by 0.05 deg
        assert scan.record.prepared is not None
        assert scan.record.prepared.positioners["omega"].value == -210.0


@pytest.mark.parametrize(
    "name",
    ["a.edf", "a.edf.gz", "a.edf.bz2", "a.cbf.gz", "a.cbf.bz2", "a.tif", "a.tif.gz"],
)
def test_every_kind_of_file_arrives_as_it_is(
    name: str, redis_url: str, write: Write
) -> None:
    data = frame(0, "int32" if ".cbf" in name else "uint16")
    published = publish_files(redis_url, [write(name, data)])
    with Subscriber(redis_url) as subscriber:
        got = subscriber.scan(published.uid).point("detector", 0)
    assert got.dtype == data.dtype
    np.testing.assert_array_equal(got, data)


def test_a_folder_is_sorted_as_people_count(
    redis_url: str, write: Write, tmp_path: Path
) -> None:
    for number in (10, 9, 1):
        write(f"image_{number}.edf", frame(number))
    (tmp_path / "readme.txt").write_text("not an image")
    published = publish_files(redis_url, [tmp_path], repeat=2)
    with Subscriber(redis_url) as subscriber:
        frames = subscriber.scan(published.uid).read("detector")
        assert [int(each[0, 0]) for each in frames] == [1, 9, 10, 1, 9, 10]


def test_files_that_are_named_stay_in_the_order_given(
    redis_url: str, write: Write
) -> None:
    files = [write(f"{name}.edf", frame(n)) for n, name in enumerate("zab")]
    published = publish_files(redis_url, files)
    with Subscriber(redis_url) as subscriber:
        names = subscriber.scan(published.uid).read("file_name")
    assert [Path(name).name for name in names] == ["z.edf", "a.edf", "b.edf"]


def test_a_file_with_many_frames_gives_them_all(redis_url: str, tmp_path: Path) -> None:
    image = fabio.edfimage.EdfImage(data=frame(0), header={"time_of_day": "1e9"})
    image.append_frame(data=frame(1), header={"time_of_day": "1000000001.5"})
    image.write(str(tmp_path / "many.edf"))
    published = publish_files(redis_url, [tmp_path / "many.edf"])
    assert published.n_frames == 2
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(published.uid)
        frames = scan.read("detector")
        names = scan.read("file_name")
        times = [time for each in scan.batches("detector") for time in each.times]
        metadata = scan.record.metadata()
    np.testing.assert_array_equal(frames, [frame(0), frame(1)])
    assert [name.rpartition("#")[2] for name in names] == ["0", "1"]
    assert times == [1e9, 1000000001.5]
    assert metadata["start_time"] == "2001-09-09T01:46:40+00:00"
    assert metadata["end_time"] == "2001-09-09T01:46:41.500000+00:00"


def test_motors_and_counters_of_an_edf_come_along(redis_url: str, write: Write) -> None:
    header = {"motor_mne": "th", "motor_pos": "1.5", "counter_mne": "i0 detector"}
    files = [
        write(f"{n}.edf", frame(n), {**header, "counter_pos": f"{100 + n} 7"})
        for n in range(3)
    ]
    published = publish_files(redis_url, files)
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(published.uid)
        assert scan.record.prepared is not None
        assert scan.record.prepared.positioners["th"].value == 1.5
        np.testing.assert_array_equal(scan.read("i0"), [100, 101, 102])
        # A counter that is called like the detector gives way.
        np.testing.assert_array_equal(scan.read("detector_2"), [7, 7, 7])


def _text(path: Path) -> None:
    path.write_text("hello, this is not an image\n")


def _cut_cbf(path: Path) -> None:
    _cbf(frame(0, "int32"), {}).write(str(path))
    path.write_bytes(path.read_bytes()[:1200])


def _damaged_cbf(path: Path) -> None:
    _cbf(frame(0, "int32"), {}).write(str(path))
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 0xFF
    path.write_bytes(octets)


def _cut_edf(path: Path) -> None:
    _edf(frame(0), {}).write(str(path))
    path.write_bytes(path.read_bytes()[:3000])


def _cut_gzip(path: Path) -> None:
    octets = gzip.compress(np.random.default_rng(0).bytes(9000))
    path.write_bytes(octets[:5000])


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text.cbf": (_text, "not a readable image"),
    "text.dat": (_text, "not a readable image"),
    "cut.cbf": (_cut_cbf, "truncated"),
    "damaged.cbf": (_damaged_cbf, "corrupt"),
    "cut.edf": (_cut_edf, "truncated"),
    "cut.tif.gz": (_cut_gzip, "truncated"),
    "empty.edf": (lambda path: path.touch(), "empty"),
    "empty.edf.gz": (lambda path: path.write_bytes(gzip.compress(b"")), "empty"),
    "hdf5.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "HDF5"),
    "missing.cbf": (lambda _: None, "no such file"),
    "folder": (Path.mkdir, "contains no image"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_first_file_is_a_sentence_and_no_scan(
    name: str, redis_url: str, tmp_path: Path
) -> None:
    make, sentence = BAD[name]
    make(tmp_path / name)
    with pytest.raises(SourceError, match=sentence) as caught:
        publish_files(redis_url, [tmp_path / name])
    assert caught.value.path == str(tmp_path / name)
    assert caught.value.exit_code == 1
    with Subscriber(redis_url) as subscriber:
        assert subscriber.scans() == []


def test_a_folder_or_file_that_may_not_be_read_is_a_sentence(
    redis_url: str, write: Write, tmp_path: Path
) -> None:
    file = write("a.edf", frame(0))
    file.chmod(0)
    try:
        file.read_bytes()
    except PermissionError:
        with pytest.raises(SourceError, match="Permission denied"):
            publish_files(redis_url, [file])
    else:
        pytest.skip("this user may read everything")


def test_no_path_is_a_sentence(redis_url: str) -> None:
    with pytest.raises(SourceError, match="no image was given"):
        publish_files(redis_url, [])


@pytest.mark.parametrize(
    ("later", "sentence"),
    [
        ("uint8", r"expected frames of \(60, 50\) uint16 .*got \(60, 50\) uint8"),
        ("shape", r"got \(40, 50\) uint16"),
    ],
)
def test_a_bad_later_file_ends_the_scan_as_failed(
    later: str, sentence: str, redis_url: str, write: Write
) -> None:
    files = [write(f"{n}.edf", frame(n)) for n in range(3)]
    bad = write("bad.edf", frame(0)[:40] if later == "shape" else frame(0, later))
    with pytest.raises(SourceError, match=sentence):
        publish_files(redis_url, [*files, bad])
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan("last")
        assert scan.record.ended is not None
        assert scan.record.ended.end_reason == "FAILURE"
        assert "bad.edf" in scan.record.ended.text
        assert scan.length("detector") == 3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [(_text, r"bad.edf.*not a readable image"), (_cut_edf, r"bad.edf.*truncated")],
)
def test_a_later_file_that_is_no_image_is_a_sentence_before_there_is_a_scan(
    make: Callable[[Path], None],
    sentence: str,
    redis_url: str,
    write: Write,
    tmp_path: Path,
) -> None:
    make(tmp_path / "bad.edf")
    with pytest.raises(SourceError, match=sentence):
        publish_files(redis_url, [write("0.edf", frame(0)), tmp_path / "bad.edf"])
    with Subscriber(redis_url) as subscriber:
        assert subscriber.scans() == []


def test_a_rate_is_kept(redis_url: str, write: Write) -> None:
    files = [write(f"{n}.edf", frame(n)) for n in range(6)]
    started_s = time.monotonic()
    published = publish_files(redis_url, files, rate_hz=20)
    assert time.monotonic() - started_s >= 5 / 20
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(published.uid)
        times = [taken for each in scan.batches("detector") for taken in each.times]
    # Their headers do not say when they were taken, and it was not now.
    assert np.isnan(times).tolist() == [True] * 6


def test_waiting_means_until_the_writer_has_judged(
    redis_url: str, write: Write, tmp_path: Path
) -> None:
    settings = WriterSettings(redis=redis_url, root=made_root(tmp_path / "out"))
    writer = WriterService(settings)
    thread = threading.Thread(target=writer.run, kwargs={"once": False})
    thread.start()
    try:
        with connect(redis_url, name="test") as client:
            wait_until(lambda: writers_alive(client))
        files = [write(f"{n}.edf", frame(n)) for n in range(3)]
        published = publish_files(redis_url, files, wait=True)
    finally:
        writer.stop()
        thread.join(30)
    with Subscriber(redis_url) as subscriber:
        verdict = subscriber.scan(published.uid).verdict
    assert verdict is not None
    assert verdict.verdict == "complete"
    with h5py.File(settings.root / verdict.master, "r") as master:
        assert master.attrs["default"] == "1.1"
        np.testing.assert_array_equal(master["1.1/plotselect/detector"][2], frame(2))
        assert Path(master["1.1/measurement/file_name"].asstr()[1]).name == "1.edf"


@pytest.mark.parametrize("wrong", [{"rate_hz": 0.0}, {"repeat": 0}])
def test_wrong_numbers_are_refused(wrong: dict[str, Any], redis_url: str) -> None:
    with pytest.raises(ValueError, match="positive"):
        publish_files(redis_url, ["a.edf"], **wrong)


def test_a_name_that_leads_elsewhere_is_refused(redis_url: str, write: Write) -> None:
    with pytest.raises(ValueError, match="proposal"):
        publish_files(redis_url, [write("a.edf", frame(0))], proposal="../up")
    with Subscriber(redis_url) as subscriber:
        assert subscriber.scans() == []


def test_no_redis_is_a_sentence(write: Write, tmp_path: Path) -> None:
    with pytest.raises(BusUnavailableError, match="does not answer"):
        publish_files(f"unix://{tmp_path}/none.sock", [write("a.edf", frame(0))])
