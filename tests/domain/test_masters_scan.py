"""Scan masters on the disk, read with h5py, silx, nexusformat and an old h5dump."""

from __future__ import annotations

import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
from silx.io.convert import write_to_h5
from silx.io.nxdata import parse as nxdata

from scanbus.schemas import Storage
from scanbus.schemas.errors import NameTakenError, RootUnusableError
from scanbus.writer.masters.write import replace_file, write_scan_master
from scanbus.writer.model.nexus_tree import Dataset, Group, Source, VirtualDataset
from scanbus.writer.model.scan_contents import ScanContents, SegmentFile
from scanbus.writer.storage.tree_writer import write_tree
from tests.support.checklist import check_file
from tests.support.scan_folders import lanes, make_scan, values_of
from tests.unit.test_layout_metadata import array

MEASURED = {"mca_icr": "mca_trigger_count_rate"}


def test_every_channel_reads_back_through_the_master(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path)
    path = write_scan_master(folder, contents)
    with h5py.File(path, "r") as file:
        for lane in lanes():
            for channel in lane.channels:
                node = file["1.1/measurement"][MEASURED.get(channel.name, channel.name)]
                found = node.asstr()[()] if channel.is_string else node[()]
                np.testing.assert_array_equal(found, values_of(channel))
                if not channel.is_string:
                    assert node.dtype == channel.numpy_dtype
    assert check_file(path) == []


def test_free_text_survives_and_words_of_nexus_are_ascii(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path)
    contents.record.title = "Å\0β"
    with h5py.File(write_scan_master(folder, contents), "r") as file:
        entry = file["1.1"]
        assert entry["title"].asstr()[()] == "Å\ufffdβ"
        assert entry["instrument/name"].asstr()[()] == "ID00 Streuung Å"
        kind = entry.attrs.get_id("NX_class").dtype
        assert h5py.check_string_dtype(kind) == ("ascii", None)


def test_silx_draws_the_default_plot_and_the_frames(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path)
    with h5py.File(write_scan_master(folder, contents), "r") as file:
        default: Any = nxdata.get_default(file)
        assert default.is_curve
        assert default.axes_dataset_names == ["th"]
        frames = nxdata.NXdata(file["1.1/plot_eiger"])
        assert frames.is_valid
        assert frames.is_image or frames.is_stack


def test_who_walks_the_file_alone_finds_every_small_value(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path)
    path = write_scan_master(folder, contents)
    converted = tmp_path / "converted.h5"
    write_to_h5(str(path), str(converted))  # type: ignore[no-untyped-call]
    moved = path.rename(tmp_path / "alone.h5")
    found: dict[str, Any] = {}
    with h5py.File(moved, "r") as file, h5py.File(converted, "r") as other:
        file.visititems(found.__setitem__)
        for lane in lanes():
            for channel in lane.channels:
                if lane.storage is Storage.FILES:
                    continue
                wanted = values_of(channel)
                name = MEASURED.get(channel.name, channel.name)
                node = file["1.1/measurement"][name]
                assert node in found.values()
                for each in (node, other["1.1/measurement"][name]):
                    values = each.asstr()[()] if channel.is_string else each[()]
                    np.testing.assert_array_equal(values, wanted)


def test_nexusformat_opens_the_master(tmp_path: Path) -> None:
    nexus = pytest.importorskip("nexusformat.nexus")
    folder, contents = make_scan(tmp_path)
    path = write_scan_master(folder, contents)
    root = nexus.nxload(str(path))
    entry = root["1.1"]
    assert entry.nxclass == "NXentry"
    assert str(entry["sample/name"]) == "Lysozym"
    assert entry["measurement/diode"].nxvalue[3] == 21
    # Not the frames: it takes each source of a virtual dataset for one point.
    assert entry["measurement/eiger"].dtype == np.uint16


def test_the_folder_can_be_moved(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path / "here")
    write_scan_master(folder, contents)
    moved = tmp_path / "there"
    shutil.move(folder, moved)
    shutil.rmtree(tmp_path / "here")
    assert check_file(moved / "scan0001.h5") == []
    with h5py.File(moved / "scan0001.h5", "r") as file:
        assert file["1.1/measurement/eiger"][3, 0, 0] == 21
        assert file["1.1/measurement/diode"][3] == 21


def test_a_missing_segment_reads_as_fill_value_and_is_named(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path)
    path = write_scan_master(folder, contents)
    (folder / "eiger_0001.h5").unlink()
    with h5py.File(path, "r") as file:
        frames = file["1.1/measurement/eiger"]
        assert (frames[10:20] == 65535).all()
        assert frames[9, 0, 0] == 63
    assert any("eiger_0001.h5" in problem for problem in check_file(path))


def test_only_counted_points_are_mapped(tmp_path: Path) -> None:
    """A source shorter than mapped makes every read fail, so none ever is."""
    folder, contents = make_scan(tmp_path)
    segments = {**contents.segments, "eiger": contents.segments["eiger"][:2]}
    contents.record.verdict = None
    path = write_scan_master(folder, replace(contents, segments=segments))
    with h5py.File(path, "r") as file:
        assert file["1.1/measurement/eiger"].shape == (20, 6, 8)
        assert file["1.1/measurement/eiger"][19, 0, 0] == 133
    assert check_file(path) == []

    wrong = (*segments["eiger"], SegmentFile("eiger_0002.h5", 20, 30))
    path = write_scan_master(
        folder, replace(contents, segments={**segments, "eiger": wrong})
    )
    assert any(problem.startswith("53") for problem in check_file(path))


def test_a_scan_without_points_has_a_master_without_channels(
    tmp_path: Path,
) -> None:
    folder, contents = make_scan(tmp_path)
    contents.record.verdict = None
    path = write_scan_master(folder, ScanContents(contents.record))
    with h5py.File(path, "r") as file:
        assert list(file["1.1/measurement"]) == []
        assert "default" not in file["1.1"].attrs
    assert check_file(path) == []


def test_hostile_metadata_leave_a_good_master(tmp_path: Path) -> None:
    mask = np.arange(300 * 200, dtype="u4").reshape(300, 200)
    told: dict[str, Any] = {
        "instrument": {
            "eiger": {"pixel_mask": array(mask, "bitshuffle-lz4"), "image": 1},
            "name": {"a": 1},
        },
        "measurement": {"diode": 3},
        "sample": {
            "broken": array(np.zeros(3), codec="lz4"),
            "flag": True,
            "@x": [0.5] * 9000,
            "list": ["ä", "b"],
        },
        "plotselect": {"@NX_class": "NXdata"},
        "many": {f"@a{number}": "x" * 50 for number in range(200)},
        "user": {"name": "somebody"},
    }
    folder, contents = make_scan(tmp_path, metadata=told)
    path = write_scan_master(folder, contents)
    with h5py.File(path, "r") as file:
        stored = file["1.1/instrument/eiger/pixel_mask"]
        np.testing.assert_array_equal(stored[()], mask)
        assert stored.compression == "gzip"
        assert file["1.1/sample/flag"][()].dtype == bool
        assert file["1.1/sample/list"].asstr()[0] == "ä"
        assert len(file["1.1/many"].attrs) == 201
        assert file["1.1/sample/_x"].attrs["original_name"] == "@x"
        displaced = file["1.1/scanbus/metadata/instrument"]
        assert (displaced["eiger/image"][()], displaced["name/a"][()]) == (1, 1)
        assert len(file["1.1/scanbus/problems"]) == 6
    assert check_file(path) == []


def test_the_same_contents_give_the_same_bytes_but_for_the_time(
    tmp_path: Path,
) -> None:
    folder, contents = make_scan(tmp_path)
    first = write_scan_master(folder, contents).read_bytes()
    second = write_scan_master(folder, contents).read_bytes()
    differing = np.flatnonzero(
        np.frombuffer(first, "u1") != np.frombuffer(second, "u1")
    )
    with h5py.File(folder / "scan0001.h5", "r") as file:
        written = str(file.attrs["file_time"])
    assert len(first) == len(second)
    assert len(differing) <= 3 * len(written)


def test_a_thousand_sources_are_mapped_at_once(tmp_path: Path) -> None:
    sources = tuple(
        Source(f"d_{number:04d}.h5", "/d", 100 * number, 100 * number + 100)
        for number in range(1000)
    )
    node = VirtualDataset((100_000, 2162, 2068), np.dtype("u4"), 2**32 - 1, sources)
    started = time.perf_counter()
    replace_file(tmp_path / "m.h5", Group("NXroot", {}, {"d": node}))
    assert time.perf_counter() - started < 5
    with h5py.File(tmp_path / "m.h5", "r") as file:
        assert len(file["d"].virtual_sources()) == 1000
        assert file["d"][99_999, 0, 0] == 2**32 - 1


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "complex64"])
def test_every_type_has_a_fill_value(tmp_path: Path, dtype: str) -> None:
    channel = lanes()[1].channels[0].model_copy(update={"dtype": dtype})
    missing = channel.missing_value
    assert not isinstance(missing, str)
    node = VirtualDataset((2, 3), channel.numpy_dtype, missing, ())
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_tree(file, Group("NXroot", {}, {"d": node}))
        assert file["d"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(file["d"][()], np.full((2, 3), missing, dtype))


def test_another_file_of_that_name_is_never_replaced(tmp_path: Path) -> None:
    folder, contents = make_scan(tmp_path)
    path = write_scan_master(folder, contents)
    foreign = contents.record.identity.model_copy(update={"uid": "anotheruid"})
    contents.record.announced = foreign
    with pytest.raises(NameTakenError, match="uid00000001"):
        write_scan_master(folder, contents)
    path.write_text("notes")
    with pytest.raises(NameTakenError, match="other than a scan master"):
        write_scan_master(folder, contents)
    assert path.read_text() == "notes"


def test_a_full_disk_leaves_the_old_master(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    replace_file(path, Group("NXroot", {}, {"a": Dataset(1)}))
    large = Dataset(np.random.default_rng(1).random(100_000))
    with largest_file(2**16), pytest.raises(RootUnusableError, match=r"m\.h5"):
        replace_file(path, Group("NXroot", {}, {"a": large}))
    with h5py.File(path, "r") as file:
        assert file["a"][()] == 1
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Have the system refuse files above a size, as it does when the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RootUnusableError, match="gone"):
        replace_file(tmp_path / "gone" / "m.h5", Group("NXroot"))


def test_the_fixture_covers_both_kinds_of_storage() -> None:
    assert {lane.storage for lane in lanes()} == set(Storage)
