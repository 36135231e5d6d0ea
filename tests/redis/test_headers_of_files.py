"""Headers of every format become channels, axes, times and metadata."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fabio
import h5py
import numpy as np
import pytest
import redis

from scanbus.publisher.gateways.files import publish_files
from scanbus.publisher.gateways.files.images import open_image
from scanbus.schemas import Role
from scanbus.schemas.errors import ConfigurationError, SourceError
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer
from tests.support.headered_images import (
    TURNING,
    eiger_series,
    packed_cbf_bytes,
    pixels_of,
    tiff_bytes,
    written_by_fabio,
)
from tests.support.roots import made_root
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis


def written(url: str, root: Path) -> h5py.File:
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)
    return h5py.File(found_below(root, "scan0001.h5")[0])


def published(url: str, files: list[Path], **how: Any) -> Any:
    subscriber = Subscriber(url)
    return subscriber.scan(publish_files(url, files, **how).uid)


@pytest.mark.parametrize("suffix", TURNING)
def test_headers_of_a_rotation_become_angles_times_and_geometry(
    redis_url: str, tmp_path: Path, suffix: str
) -> None:
    make, angle = TURNING[suffix]
    files = [tmp_path / f"run_{number}.{suffix}" for number in range(3)]
    frames = [make(number, path) for number, path in enumerate(files)]
    scan = published(redis_url, files, time_zone="+02:00")
    (detector,) = [n for n, c in scan.channels.items() if c.role is Role.DETECTOR]
    np.testing.assert_array_equal(scan.read(detector), frames)
    assert scan.read(angle).tolist() == pytest.approx([10.0, 10.5, 11.0])
    assert scan.read(f"{angle}_end").tolist() == pytest.approx([10.5, 11.0, 11.5])
    assert scan.channels[angle].role is Role.AXIS
    assert scan.read("elapsed_time").tolist() == [0, 2, 4]
    metadata = scan.record.metadata()
    assert metadata["start_time"].startswith("2019-09-11T13:20:28")
    assert metadata["start_time"].endswith("+02:00")
    assert metadata["end_time"].startswith("2019-09-11T13:20:34")
    instrument = metadata["instrument"]
    assert instrument["beam"]["incident_wavelength"] == pytest.approx(0.98)
    fields = instrument[detector]
    assert (fields["count_time"], fields["count_time@units"]) == (2.0, "s")
    assert fields["distance"] == pytest.approx(0.25)
    if suffix != "sfrm":  # which does not have the size of pixels
        assert fields["x_pixel_size"] == pytest.approx(1e-4)
        assert fields["y_pixel_size"] == pytest.approx(1e-4)


def test_what_changes_is_a_channel_and_what_does_not_is_metadata(
    redis_url: str, tmp_path: Path
) -> None:
    """Also what no dialect knows, and in a file that a writer wrote."""
    files = [tmp_path / f"run_{number}.cbf" for number in range(3)]
    for number, path in enumerate(files):
        TURNING["cbf"][0](number, path)
    publish_files(redis_url, files)
    with written(redis_url, tmp_path / "root") as file:
        entry = file["1.1"]
        values = entry["measurement"]
        assert values["n_excluded_pixels"][()].tolist() == [600, 601, 602]
        assert values["image_path"].asstr()[1] == "/ramdisk/1"
        detector = entry["instrument/pilatus3_6m"]
        assert detector["distance"][()] == 0.25
        assert "distance" not in values
        assert "n_excluded_pixels" not in detector["header/keywords"]
        assert entry["instrument/omega/value"][()].tolist() == [10, 10.5, 11]
        assert entry["instrument/omega/end"].attrs["units"] == "deg"
        assert entry["instrument/positioners_end/omega"][()] == 11.5
        assert entry["start_time"].asstr()[()] == "2019-09-11T13:20:28.500000"
        assert entry["end_time"].asstr()[()] == "2019-09-11T13:20:34.500000"
        assert list(entry["plot2D"].attrs["axes"]) == ["omega", ".", "."]


def test_twenty_edf_files_with_a_moving_motor_have_an_axis(
    redis_url: str, tmp_path: Path
) -> None:
    files = [tmp_path / f"map_{number:02}.edf" for number in range(20)]
    for number, path in enumerate(files):
        header = {
            "motor_mne": "samx samy",
            "motor_pos": f"{number} 3.5",
            "counter_mne": "i0",
            "counter_pos": str(1000 - number),
            "count_time": "0.5" if number < 10 else "1.0",
            "optics": "pink" if number < 15 else "mono",
        }
        written_by_fabio("edfimage", header, pixels_of(number)).write(str(path))
    publish_files(redis_url, files)
    with written(redis_url, tmp_path / "root") as file:
        entry = file["1.1"]
        samx = entry["instrument/samx/value"]
        assert samx[()].tolist() == [*range(20)]
        assert entry["instrument/samx"].attrs["NX_class"] == "NXpositioner"
        assert list(entry["plot2D"].attrs["axes"]) == ["samx", ".", "."]
        assert list(entry["plot0D"].attrs["axes"]) == ["samx"]
        assert "samy" not in entry["measurement"]
        assert entry["instrument/positioners/samy"][()] == 3.5
        count_time = entry["instrument/detector/count_time"]
        assert (count_time[9], count_time[10]) == (0.5, 1.0)
        assert count_time.attrs["units"] == "s"
        optics = entry["measurement/optics"].asstr()
        assert (optics[0], optics[19]) == ("pink", "mono")


def test_a_mesh_of_edf_files_is_drawn_over_both_motors(
    redis_url: str, tmp_path: Path
) -> None:
    """There and back, while a third motor stands still."""
    files = [tmp_path / f"mesh_{number:02}.edf" for number in range(12)]
    for number, path in enumerate(files):
        row, column = divmod(number, 4)
        column = 3 - column if row % 2 else column
        header = {
            "motor_mne": "phi samx samy",
            "motor_pos": f"30 {column / 10} {row / 5}",
            "counter_mne": "i0",
            "counter_pos": str(100 * row + column),
        }
        written_by_fabio("edfimage", header, pixels_of(number)).write(str(path))
    publish_files(redis_url, files)
    with written(redis_url, tmp_path / "root") as file:
        plot = file["1.1/plot0D"]
        assert list(plot.attrs["axes"]) == ["samy", "samx"]
        assert plot["i0"][()].tolist() == [
            [100.0 * row + column for column in range(4)] for row in range(3)
        ]
        assert file["1.1/plotselect"].attrs["signal"] == "detector"


def test_what_stands_still_is_drawn_over_the_time(
    redis_url: str, tmp_path: Path
) -> None:
    files = [tmp_path / f"still_{number}.edf" for number in range(3)]
    for number, path in enumerate(files):
        header = {"time_of_day": str(1568200810 + number)}
        written_by_fabio("edfimage", header, pixels_of(number)).write(str(path))
    publish_files(redis_url, files)
    with written(redis_url, tmp_path / "root") as file:
        plot = file["1.1/plotselect"]
        assert list(plot.attrs["axes"]) == ["elapsed_time", ".", "."]
        assert plot["elapsed_time"][()].tolist() == [0, 1, 2]


def test_the_thaumatin_scan_was_taken_in_2019(
    redis_url: str, tmp_path: Path, shared_data: Path
) -> None:
    files = sorted((shared_data / "thaumatin_grid").glob("*.cbf.bz2"))[:3]
    scan = published(redis_url, files, time_zone="Europe/London")
    taken = [time for each in scan.batches("pilatus3_6m") for time in each.times]
    # 13:20:28.989, 29.029 and 29.049 in British Summer Time.
    assert taken == pytest.approx([1568204428.989, 1568204429.029, 1568204429.049])
    metadata = scan.record.metadata()
    assert metadata["start_time"] == "2019-09-11T13:20:28.989000+01:00"
    assert metadata["end_time"] == "2019-09-11T13:20:29.068000+01:00"


def test_times_without_a_zone_stay_so_and_are_told(
    redis_url: str, tmp_path: Path
) -> None:
    make, _ = TURNING["cbf"]
    files = [tmp_path / f"run_{number}.cbf" for number in range(2)]
    for number, path in enumerate(files):
        make(number, path)
    found = publish_files(redis_url, files)
    assert [note for note in found.notes if "--time-zone" in note]
    scan = Subscriber(redis_url).scan(found.uid)
    taken = [time for each in scan.batches("pilatus3_6m") for time in each.times]
    assert np.isnan(taken).all()
    assert scan.read("elapsed_time").tolist() == [0, 2]


def test_a_time_zone_that_nobody_knows_is_a_sentence(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Atlantis.*Europe/Paris"):
        publish_files(redis_url, ["a.edf"], time_zone="Atlantis")


@pytest.mark.parametrize("given", ["master", "data files"])
def test_an_eiger_series_keeps_what_its_master_says(
    redis_url: str, tmp_path: Path, given: str
) -> None:
    frames = np.stack([pixels_of(number) for number in range(5)]).astype("uint32")
    master = eiger_series(tmp_path, frames)
    parts = sorted(tmp_path.glob("*_data_*.h5"))
    scan = published(redis_url, [master] if given == "master" else parts)
    detector = "dectris_eiger_1m"
    np.testing.assert_array_equal(scan.read(detector), frames)
    assert scan.read("omega").tolist() == [10, 10.5, 11, 11.5, 12]
    assert scan.read("omega_end").tolist() == [10.5, 11, 11.5, 12, 12.5]
    taken = [time for each in scan.batches(detector) for time in each.times]
    assert np.diff(taken).tolist() == [2, 2, 2, 2]
    metadata = scan.record.metadata()
    assert metadata["start_time"] == "2019-09-11T13:20:28.500000+02:00"
    assert metadata["end_time"] == "2019-09-11T13:20:38.500000+02:00"
    fields = metadata["instrument"][detector]
    assert (fields["distance"], fields["distance@units"]) == (0.25, "m")
    assert fields["pixel_mask"]["array"]["shape"] == [64, 64]
    assert metadata["instrument"]["beam"]["incident_wavelength"] == 0.98


def test_a_nexus_file_of_others_keeps_its_motors_and_no_invented_times(
    redis_url: str, tmp_path: Path
) -> None:
    """With an exposure and no period: nobody says when its second frame began."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["start_time"] = "2019-09-11T13:20:28+02:00"
        entry["end_time"] = "2019-09-11T13:21:00+02:00"
        for name, nx_class, field, values in (
            ("samx", "NXpositioner", "value", [0.5, 1.0, 1.5]),
            ("i0", "NXdetector", "data", [7.0, 8.0, 9.0]),
            ("temperature", "NXsensor", "value", [300.0, 301.0, 302.0]),
            ("pilatus", "NXdetector", "data", np.ones((3, 8, 8), "u2")),
        ):
            group = entry.create_group(f"instrument/{name}")
            group.attrs["NX_class"] = nx_class
            group[field] = values
        entry["instrument/pilatus/count_time"] = 0.5
    scan = published(redis_url, [tmp_path / "scan.h5"])
    assert scan.channels["samx"].role is Role.AXIS
    assert scan.read("samx").tolist() == [0.5, 1.0, 1.5]
    assert scan.read("i0").tolist() == [7, 8, 9]
    assert scan.read("temperature").tolist() == [300, 301, 302]
    assert "elapsed_time" not in scan.channels
    (detector,) = [n for n, c in scan.channels.items() if c.role is Role.DETECTOR]
    times = [time for each in scan.batches(detector) for time in each.times]
    assert np.isfinite(times).tolist() == [True, False, False]
    assert scan.record.metadata()["end_time"] == "2019-09-11T13:21:00+02:00"


def test_a_master_whose_data_file_is_gone_is_a_sentence(
    redis_url: str, tmp_path: Path
) -> None:
    frames = np.stack([pixels_of(number) for number in range(4)]).astype("uint32")
    master = eiger_series(tmp_path, frames)
    (tmp_path / "run1_data_000002.h5").unlink()
    with pytest.raises(SourceError, match=r"run1_data_000002.h5, which is not there"):
        publish_files(redis_url, [master])
    assert Subscriber(redis_url).scans() == []


def test_an_hdf5_file_cannot_have_another_file_read(tmp_path: Path) -> None:
    """Neither as frames nor as fields: by raw storage, or a virtual dataset."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s3cr3t password!" * 16)
    path = tmp_path / "evil.h5"
    raw = [(str(secret), 0, 256)]
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        detector.create_dataset("gain", (256,), "u1", external=raw)
        detector.create_dataset("frames", (16, 16), "u1", external=raw)
        layout = h5py.VirtualLayout((2,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
        detector.create_virtual_dataset("count_time", layout)
    with pytest.raises(SourceError, match="no frame of its own"):
        next(open_image(path))
    with h5py.File(path, "r+") as file:
        file["entry/instrument/detector/data"] = np.ones((5, 8, 8), "u2")
    header = next(open_image(path)).header["hdf5"]
    assert header.entry == {}


def test_the_command_prints_json(redis_url: str, tmp_path: Path) -> None:
    TURNING["cbf"][0](0, tmp_path / "a.cbf")
    command = [sys.executable, "-m", "scanbus.cli", "publish", "files", "--json"]
    done = subprocess.run(
        [*command, "--redis", redis_url, str(tmp_path / "a.cbf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["frames"] == 1
    assert "--time-zone" in said["notes"][0]


def _rayonix(path: Path) -> None:
    path.write_bytes(packed_cbf_bytes(pixels_of(0)))


def _cbf_of_text(path: Path) -> None:
    """Write a CBF whose pixels are letters, as CBFlib does on request."""
    TURNING["cbf"][0](0, path)
    content = path.read_bytes().partition(b"\x0c\x1a\x04\xd5")[0]
    path.write_bytes(content.replace(b"BINARY\r", b"BASE64\r") + b"AAAA\r\n")


def _cbf_without_section(path: Path) -> None:
    """Write a CBF in whose damaged header fabio looks for the pixels for ever."""
    TURNING["cbf"][0](0, path)
    path.write_bytes(path.read_bytes().replace(b"-SECTION--", b"-SE6TION--"))


def _short_tiff(path: Path) -> None:
    path.write_bytes(tiff_bytes(pixels_of(0))[:-1000])


def _cut(suffix: str) -> Any:
    def write(path: Path) -> None:
        make, _ = TURNING[suffix]
        make(0, path)
        content = path.read_bytes()
        path.write_bytes(content[: -min(1500, len(content) // 20)])

    return write


BAD: dict[str, tuple[Any, str]] = {
    "rayonix.cbf": (_rayonix, "x-CBF_PACKED.*cif2cbf"),
    "text.cbf": (_cbf_of_text, "BASE64.*cif2cbf"),
    "endless.cbf": (_cbf_without_section, "truncated"),
    "short.tif": (_short_tiff, "truncated|not a readable image"),
    **{
        f"cut.{suffix}": (_cut(suffix), "truncated|not a readable image")
        for suffix in TURNING
        if suffix not in {"cbf", "tif"}  # which are shorter
    },
    "noise.img": (lambda p: p.write_bytes(bytes(range(256)) * 9), "not a readable"),
    "jpeg.jpg": (lambda p: p.write_bytes(b"\xff\xd8\xff\xdb" + bytes(99)), "readable"),
    "gone.spr": (lambda p: p.write_bytes(b"1 2\n3"), "not a readable image"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_image_that_cannot_be_read_is_a_sentence(
    redis_url: str, tmp_path: Path, name: str
) -> None:
    make, sentence = BAD[name]
    make(tmp_path / name)
    with pytest.raises(SourceError, match=sentence) as caught:
        publish_files(redis_url, [tmp_path / name])
    assert caught.value.path == str(tmp_path / name)


def test_a_truncated_edf_among_others_is_met_before_there_is_a_scan(
    redis_url: str, tmp_path: Path
) -> None:
    files = [tmp_path / f"run_{number}.edf" for number in range(3)]
    for number, path in enumerate(files):
        written_by_fabio("edfimage", {}, pixels_of(number)).write(str(path))
    files[2].write_bytes(files[2].read_bytes()[:-10])
    with pytest.raises(SourceError, match=r"run_2\.edf: the file is truncated"):
        publish_files(redis_url, files)
    with redis.Redis.from_url(redis_url) as client:
        assert not client.keys("scanbus:*")


def test_a_cbf_with_plain_pixels_is_read(redis_url: str, tmp_path: Path) -> None:
    frame = pixels_of(3)
    plain = packed_cbf_bytes(frame).replace(b'     conversions="x-CBF_PACKED"\r\n', b"")
    size = f"X-Binary-Size: {frame.size // 2}".encode()
    plain = plain.replace(size, f"X-Binary-Size: {frame.nbytes}".encode())
    head, mark, _ = plain.partition(b"\x0c\x1a\x04\xd5")
    (tmp_path / "a.cbf").write_bytes(head + mark + frame.astype("<i4").tobytes())
    scan = published(redis_url, [tmp_path / "a.cbf"])
    np.testing.assert_array_equal(scan.point("detector", 0), frame)


@pytest.mark.parametrize("image", ["numpyimage", "pnmimage", "limaimage", "edfimage"])
def test_other_formats_of_fabio_come_through(
    redis_url: str, tmp_path: Path, image: str
) -> None:
    frame = pixels_of(0).astype("uint8" if image == "pnmimage" else "uint16")
    suffix = fabio.fabioformats.factory(image).DEFAULT_EXTENSIONS[0]
    path = tmp_path / f"one.{suffix}"
    written_by_fabio(image, {}, frame).write(str(path))
    if suffix != "h5":
        packed = tmp_path / f"one.{suffix}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    scan = published(redis_url, [path])
    np.testing.assert_array_equal(scan.point("detector", 0), frame)
