"""A scan or dataset as one file: nothing lost, no link, readable without filters."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 (registers the filters of the source)
import numpy as np
import pytest

from scanbus.schemas.errors import (
    ConfigurationError,
    RootUnusableError,
    VerificationError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import Packing, check_files, convert
from scanbus.writer.repack import conversion
from scanbus.writer.repack.copy_tree import blocks_of
from scanbus.writer.repack.packing import CODECS
from scanbus.writer.storage.temporary_files import new_temporary
from tests.support.written_scans import WrittenScan, write_scan


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> WrittenScan:
    return write_scan(tmp_path_factory.mktemp("scan"), lost=[(4, 8)])


def links_in(group: h5py.Group) -> Iterator[str]:
    """Yield what is no hard link to an object with values of its own."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield f"{group.name}/{name}"
        elif isinstance(group[name], h5py.Dataset) and group[name].is_virtual:
            yield f"{group.name}/{name} is virtual"


def all_groups(file: h5py.File) -> list[h5py.Group]:
    found = [file]
    file.visititems(
        lambda _, each: found.append(each) if isinstance(each, h5py.Group) else None
    )
    return found


def values_of(path: Path, name: str) -> Any:
    with h5py.File(path) as file:
        return file[name][()]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("pages", [False, True])
def test_a_scan_becomes_one_file_without_links(
    scan: WrittenScan, tmp_path: Path, codec: str, pages: bool
) -> None:
    made = tmp_path / "one.h5"
    result = convert(scan.master, made, Packing(codec, pages=pages))
    assert result.dangling == ()
    assert result.entries == ("1.1",)
    with h5py.File(made) as file:
        assert [link for group in all_groups(file) for link in links_in(group)] == []
        strategy = file.id.get_create_plist().get_file_space_strategy()[0]
        assert (strategy == h5py.h5f.FSPACE_STRATEGY_PAGE) == pages
        frames = file["1.1/measurement/eiger"]
        # One object with two names, as in the source.
        assert frames == file["1.1/instrument/eiger/image"]
        assert (frames.compression == "gzip") == (codec == "gzip")
    for name in ("eiger", "th", "counts", "label", "peaks", "mca", "phase", "shutter"):
        place = f"1.1/measurement/{name}"
        np.testing.assert_array_equal(
            values_of(made, place), values_of(scan.master, place)
        )


def test_it_needs_no_other_file_and_no_filter(
    scan: WrittenScan, tmp_path: Path
) -> None:
    """In a process without hdf5plugin, with the source gone."""
    root = tmp_path / "root"
    shutil.copytree(scan.root, root)
    master = root / scan.master.relative_to(scan.root)
    convert(master, tmp_path / "one.h5")
    expected = values_of(master, "1.1/measurement/eiger")
    shutil.rmtree(root)
    code = (
        "import h5py, sys\n"
        "file = h5py.File(sys.argv[1])\n"
        "frames = file['1.1/measurement/eiger'][()]\n"
        "print(int(frames.sum()), 'hdf5plugin' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "one.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(int(expected.sum())), "False"]


@pytest.mark.parametrize("given", ["dataset", "folder", "scan folder", "proposal"])
def test_masters_and_folders_are_converted(
    scan: WrittenScan, tmp_path: Path, given: str
) -> None:
    paths = {
        "dataset": scan.dataset,
        "folder": scan.dataset.parent,
        "scan folder": scan.folder,
        "proposal": scan.proposal,
    }
    result = convert(paths[given], tmp_path / "one.h5")
    (entry,) = result.entries
    expected = values_of(scan.master, "1.1/measurement/eiger")
    found = values_of(tmp_path / "one.h5", f"{entry}/measurement/eiger")
    np.testing.assert_array_equal(found, expected)


def test_many_scans_are_written_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 keeps what it has of a file in memory until it is closed."""
    monkeypatch.setattr(conversion, "_NAMES_AT_ONCE", 1)
    for number in (1, 2, 3):
        one = write_scan(tmp_path, number=number, uid=f"{number:016x}", salt=number)
    result = convert(one.dataset, tmp_path / "all.h5", Packing(pages=True))
    assert result.entries == ("1.1", "2.1", "3.1")
    for entry in result.entries:
        name = f"{entry}/measurement/eiger"
        expected = values_of(one.dataset, name)
        np.testing.assert_array_equal(values_of(tmp_path / "all.h5", name), expected)
    with h5py.File(tmp_path / "all.h5") as file:
        assert file.attrs["default"] == "3.1"
        assert file.attrs["file_name"] == "all.h5"


def test_chunks_are_as_asked_for(scan: WrittenScan, tmp_path: Path) -> None:
    convert(scan.master, tmp_path / "one.h5", Packing(chunk=(5, 3, 8)))
    with h5py.File(tmp_path / "one.h5") as file:
        assert file["1.1/measurement/eiger"].chunks == (5, 3, 8)
        assert file["1.1/measurement/th"].chunks is None  # too small for a filter
    packing = Packing(chunk=(5, 300, 8))
    assert packing.options((30, 600, 800), 2)["chunks"] == (5, 300, 8)
    assert packing.options((3, 200, 4), 2)["chunks"] == (3, 200, 4)


def test_it_says_how_it_was_made_and_a_check_asks_for_no_other_file(
    scan: WrittenScan, tmp_path: Path
) -> None:
    made = tmp_path / "one.h5"
    convert(scan.master, made)
    with h5py.File(made) as file:
        process = file["1.1/scanbus_convert"]
        assert process.attrs["NX_class"] == "NXprocess"
        said = json.loads(process["configuration"].asstr()[()])
        assert said["codec"] == "gzip"
        assert file.attrs["converted_from"] == "scan0001.h5"
        assert file["1.1/scanbus/verdict"].asstr()[()] == "partial"
    assert check_files([made], everything=True).findings == ()


def test_types_of_strings_and_attributes_stay(
    scan: WrittenScan, tmp_path: Path
) -> None:
    made = tmp_path / "one.h5"
    convert(scan.master, made)
    with h5py.File(made) as copy, h5py.File(scan.master) as source:
        for name in ("title", "start_time", "measurement/label"):
            kinds = [
                h5py.check_string_dtype(file[f"1.1/{name}"].dtype)
                for file in (copy, source)
            ]
            assert kinds[0] == kinds[1]
        for path in ("1.1", "1.1/instrument/eiger/image", "1.1/plotselect"):
            ours, theirs = copy[path].attrs, source[path].attrs
            assert sorted(ours) == sorted(theirs)
            for name in ours:
                kinds = [each.get_id(name).dtype for each in (ours, theirs)]
                assert h5py.check_string_dtype(kinds[0]) == h5py.check_string_dtype(
                    kinds[1]
                )


def test_members_and_attributes_keep_their_order(
    scan: WrittenScan, tmp_path: Path
) -> None:
    """Readers take the first detector, the first plot, the first axis."""
    made = tmp_path / "one.h5"
    convert(scan.master, made)
    with h5py.File(made) as copy, h5py.File(scan.master) as source:
        for path in ("1.1", "1.1/instrument", "1.1/measurement", "1.1/plotselect"):
            names = [name for name in copy[path] if name != "scanbus_convert"]
            assert names == list(source[path])
            assert list(copy[path].attrs) == list(source[path].attrs)


def test_parts_are_whole_chunks_that_fit_into_memory(tmp_path: Path) -> None:
    """Also where one point of five axes, or one chunk over all frames, is large."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for shape, chunks in (
            ((2, 3, 4, 3000, 3000), (1, 1, 1, 3000, 3000)),
            ((1000, 2000, 300), (64, 128, 128)),
            ((10, 10), None),
            ((), None),
        ):
            made = file.create_dataset(str(shape), shape, "uint16", chunks=chunks)
            count = 0
            for block in blocks_of(made):
                sizes = [each.stop - each.start for each in block]
                assert 2 * math.prod(sizes) <= 2**25
                starts = [each.start for each in block]
                assert not any(
                    a % b for a, b in zip(starts, chunks or shape, strict=True)
                )
                count += math.prod(sizes)
            assert count == made.size


def test_a_copy_can_be_converted_and_lists_of_any_length_are_compared(
    scan: WrittenScan, tmp_path: Path
) -> None:
    convert(scan.master, tmp_path / "one.h5")
    kind = h5py.vlen_dtype(np.int32)
    with h5py.File(tmp_path / "one.h5", "a") as file:
        lists = file.create_dataset("1.1/lists", (2,), kind)
        lists[0], lists[1] = np.arange(5000), np.arange(2)
    convert(tmp_path / "one.h5", tmp_path / "two.h5", Packing("bitshuffle-zstd"))
    found = values_of(tmp_path / "two.h5", "1.1/lists")
    np.testing.assert_array_equal(found[0], np.arange(5000))
    with h5py.File(tmp_path / "one.h5", "a") as file:
        file["1.1/reference"] = file["1.1"].ref
    with pytest.raises(VerificationError, match="references"):
        convert(tmp_path / "one.h5", tmp_path / "three.h5")


def test_one_changed_bit_of_the_source_is_refused(
    scan: WrittenScan, tmp_path: Path
) -> None:
    """Most filters unpack a damaged chunk without an error."""
    root = tmp_path / "root"
    shutil.copytree(scan.root, root)
    changed = root / scan.segment(1).relative_to(scan.root)
    with h5py.File(changed) as file:
        place = file["entry_0000/measurement/data"].id.get_chunk_info(0).byte_offset
    octets = bytearray(changed.read_bytes())
    octets[place + 20] ^= 1
    changed.write_bytes(octets)
    with pytest.raises(VerificationError, match="not what came over the bus"):
        convert(root / scan.master.relative_to(scan.root), tmp_path / "one.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_what_a_killed_process_left_is_removed(
    scan: WrittenScan, tmp_path: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = new_temporary(tmp_path / "one.h5")
    left.touch()
    pid = f"-{os.getpid()}."
    left = left.rename(left.with_name(left.name.replace(pid, f"-{process.pid}.")))
    ours = new_temporary(tmp_path / "other.h5")
    ours.touch()
    convert(scan.master, tmp_path / "one.h5")
    assert {path.name for path in tmp_path.iterdir()} == {"one.h5", ours.name}


def _maps_itself(entry: h5py.Group) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(".", f"/1.1/{other}", (3,))
        entry.create_virtual_dataset(name, layout)


def _refers(entry: h5py.Group) -> None:
    entry["title"].attrs["to"] = entry.ref


def _lists_references(entry: h5py.Group) -> None:
    kind = np.dtype([("to", h5py.ref_dtype), ("n", "i4")])
    entry["title"].attrs.create("to", np.array([(entry.ref, 1)], kind))


def _has_bytes_of_others(entry: h5py.Group) -> None:
    entry.create_dataset("a", (4,), "u1", external=[("/etc/hostname", 0, 4)])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_maps_itself, "maps what it is mapped into"),
        (_refers, "title@to has references"),
        (_lists_references, "title@to has references"),
        (_has_bytes_of_others, "bytes of another file, /etc/hostname"),
    ],
)
def test_a_source_that_cannot_be_one_file_is_refused(
    scan: WrittenScan,
    tmp_path: Path,
    change: Callable[[h5py.Group], None],
    sentence: str,
) -> None:
    """HDF5 ends the process where a virtual dataset maps itself."""
    root = tmp_path / "root"
    shutil.copytree(scan.root, root)
    master = root / scan.master.relative_to(scan.root)
    with h5py.File(master, "r+") as file:
        change(file["1.1"])
    with pytest.raises(VerificationError, match=sentence):
        convert(master, tmp_path / "one.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_groups_named_like_those_of_scanbus_are_copied(
    scan: WrittenScan, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(scan.root, root)
    master = root / scan.master.relative_to(scan.root)
    names = ("1.1/myscanbus/sources", "1.1/old/scanbus/sources")
    with h5py.File(master, "r+") as file:
        for name in names:
            file[name] = "mine"
        assert "1.1/scanbus/sources" in file
    convert(master, tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        assert [file[name].asstr()[()] for name in names] == ["mine", "mine"]
        assert "1.1/scanbus/sources" not in file


def test_a_source_with_a_missing_part_is_refused(
    scan: WrittenScan, tmp_path: Path
) -> None:
    """HDF5 would read fill values in its place, without an error."""
    root = tmp_path / "root"
    shutil.copytree(scan.root, root)
    gone = root / scan.segment(1).relative_to(scan.root)
    gone.unlink()
    with pytest.raises(VerificationError, match=gone.name):
        convert(root / scan.master.relative_to(scan.root), tmp_path / "one.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_nothing_is_replaced_and_nothing_half_made_stays(
    scan: WrittenScan, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.h5"
    taken.write_text("mine")
    with pytest.raises(ConfigurationError, match="nothing is replaced"):
        convert(scan.master, taken)
    assert taken.read_text() == "mine"
    with pytest.raises(ConfigurationError, match="no folder"):
        convert(scan.master, tmp_path / "none" / "one.h5")
    with pytest.raises(ConfigurationError, match="no such file"):
        convert(tmp_path / "gone.h5", tmp_path / "one.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.h5"]


def test_a_full_disk_is_a_sentence(scan: WrittenScan) -> None:
    """In a file system that takes no file of this size."""
    with pytest.raises(RootUnusableError):
        convert(scan.master, Path("/proc/one.h5"))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"codec": "rar"}, "one of none, gzip"),
        ({"level": 0}, "1 to 9"),
        ({"chunk": (0, 1)}, "from 1 on"),
    ],
)
def test_an_impossible_packing_is_a_sentence(
    wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Packing(**wrong)


def test_the_command_says_what_it_made(scan: WrittenScan, tmp_path: Path) -> None:
    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scanbus.cli", "convert", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    target = str(tmp_path / "one.h5")
    done = said(str(scan.master), target, "--codec", "none", "--json")
    assert done.returncode == ExitCode.COMPLETE, done.stderr
    assert json.loads(done.stdout)["entries"] == ["1.1"]
    again = said(str(scan.master), target)
    assert again.returncode == ExitCode.USAGE
    assert "nothing is replaced" in again.stderr
    assert said(str(scan.master), "x.h5", "--chunk", "a").returncode == ExitCode.USAGE
