"""What `check_files` finds in damaged files: each damage, and the points it hits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanbus.bus.protocol import checksum_of
from scanbus.cli import main
from scanbus.schemas import PointRange
from scanbus.writer.check import CheckReport, check_files
from scanbus.writer.storage.chunked_dataset import stored_chunks
from tests.support.written_scans import (
    UID,
    WrittenScan,
    entry_of,
    frame_lane,
    points_of,
    value_lane,
    write_scan,
    write_segments,
)

DATA = "/entry_0000/measurement/data"
OWN = "/entry_0000/scanbus"


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> WrittenScan:
    return write_scan(tmp_path_factory.mktemp("pattern"))


@pytest.fixture
def scan(pattern: WrittenScan, tmp_path: Path) -> WrittenScan:
    """A scan of its own for every test."""
    shutil.copytree(pattern.root, tmp_path / "root")
    return replace(pattern, root=tmp_path / "root")


def flip(path: Path, place: int, bit: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ bit]))


def chunk_place(path: Path, index: int, dataset: str = DATA) -> tuple[int, int]:
    with h5py.File(path, "r") as file:
        chunk = list(stored_chunks(file[dataset]))[index]
    return chunk.offset, chunk.nbytes


def problems(report: CheckReport) -> str:
    return "\n".join(
        f"{one.file} {one.dataset}: {one.problem}" for one in report.findings
    )


def hit(report: CheckReport) -> set[tuple[PointRange, ...]]:
    return {one.points for one in report.findings}


# -------------------------------------------------------------------- chunks


@given(data=st.data())
@settings(max_examples=30)
def test_a_flipped_bit_of_a_frame_is_found_and_named(
    pattern: WrittenScan, data: st.DataObject
) -> None:
    path = pattern.segment(1)
    index = data.draw(st.integers(0, 2))
    offset, nbytes = chunk_place(path, index)
    place = offset + data.draw(st.integers(0, nbytes - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    flip(path, place, bit)
    try:
        report = check_files([pattern.master])
    finally:
        flip(path, place, bit)
    assert report.exit_code == 2
    (finding,) = report.findings
    assert finding.file == str(path)
    assert finding.dataset == DATA
    assert "not what came over the bus" in finding.problem
    assert finding.points == ((12 + 4 * index, 16 + 4 * index),)


def test_the_command_names_the_frames_that_are_hit(
    scan: WrittenScan, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in (0, 2):
        flip(scan.segment(1), chunk_place(scan.segment(1), index)[0])

    assert main(["check", "--all", str(scan.master)]) == 2

    line = "2 chunks are not what came over the bus (points 12-15, 20-23)"
    assert f"{scan.segment(1)}::{DATA}: {line}\n" in capsys.readouterr().out


def test_a_chunk_that_is_not_there_is_found(scan: WrittenScan) -> None:
    with h5py.File(scan.segment(1), "r+") as file:
        table = file[OWN]["chunk_checksum"]
        data = file[DATA]
        attributes = dict(data.attrs)
        kept = data[:8]
        plist = data.id.get_create_plist()
        shape, kind = data.shape, data.id.get_type()
        del file[DATA]
        space = h5py.h5s.create_simple(shape, shape)
        made = h5py.h5d.create(file.id, DATA.encode(), kind, space, plist)
        remade = h5py.Dataset(made)
        remade[:8] = kept
        remade.attrs.update(attributes)
        assert table[2]
    report = check_files([scan.master])
    assert ((20, 24),) in hit(report)
    assert "chunks that came over the bus are not in the file" in problems(report)


def test_a_chunk_without_checksum_is_found(scan: WrittenScan) -> None:
    with h5py.File(scan.segment(0), "r+") as file:
        file[OWN]["chunk_checksum"][1] = 0
    report = check_files([scan.segment(0)])
    assert hit(report) == {((4, 8),)}
    assert "chunks without a checksum" in problems(report)
    assert "points without data that are not missing" in problems(report)


def test_an_account_that_claims_too_much_is_found(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, [frame_lane()], lost=[(4, 8)])
    with h5py.File(scan.segment(0), "r+") as file:
        text = file[OWN]["account"].asstr()[()].replace("[[4, 8]]", "[[0, 8]]")
        file[OWN]["account"][()] = text
    report = check_files([scan.master])
    assert "said to be missing have data" in problems(report)
    assert "missing, but not by the ledger" in problems(report)
    assert hit(report) == {((0, 4),)}


def test_what_came_damaged_from_the_source_does_not_unpack(tmp_path: Path) -> None:
    lane = frame_lane("bitshuffle-lz4")
    points = [points_of(lane.channels[0], 0, 4)]
    entry = entry_of(lane, 0, points, codecs=["bitshuffle-lz4"])
    rotten = entry_of(lane, 4, points, codecs=["bitshuffle-lz4"])
    # The sizes that it declares are looked at when it comes; the rest only here.
    payload = bytes(rotten.payload[:16]) + b"\xff" * (len(rotten.payload) - 16)
    rotten = replace(rotten, payload=payload, checksum=checksum_of(payload))
    write_segments(tmp_path, UID, lane, [entry, rotten], n_points=8)
    (path,) = tmp_path.glob("*.h5")
    report = check_files([path], everything=True)
    assert "do not unpack" in problems(report)
    assert hit(report) == {((4, 8),)}


# ------------------------------------------------------------------- sources


def test_a_segment_that_is_gone_is_found(scan: WrittenScan) -> None:
    scan.segment(1).unlink()
    report = check_files([scan.proposal])
    assert report.exit_code == 2
    assert hit(report) == {((12, 24),)}
    assert "fill values are read instead" in problems(report)


@pytest.mark.parametrize("length", [0, 100, -200])
def test_a_truncated_segment_is_found(scan: WrittenScan, length: int) -> None:
    size = scan.segment(2).stat().st_size
    os.truncate(scan.segment(2), length if length >= 0 else size + length)
    report = check_files([scan.master])
    assert report.exit_code == 2
    assert hit(report) == {((24, 30),), ()}
    assert "cannot be opened" in problems(report)


def test_a_segment_of_another_scan_is_found(scan: WrittenScan, tmp_path: Path) -> None:
    other = write_scan(tmp_path / "other", uid="anotherscan2")
    shutil.copy(other.segment(1), scan.segment(1))
    report = check_files([scan.master])
    assert hit(report) == {((12, 24),)}
    assert f"belongs to scan anotherscan2, not {UID}" in problems(report)


def test_segments_that_changed_places_are_found(scan: WrittenScan) -> None:
    shutil.copy(scan.segment(0), scan.segment(1))
    report = check_files([scan.master])
    assert ((12, 24),) in hit(report)
    assert "holds points 0 to 11, but stands at 12 to 23" in problems(report)


def test_a_segment_that_was_never_finished_is_found(scan: WrittenScan) -> None:
    with h5py.File(scan.segment(0), "r+") as file:
        del file[OWN]["account"]
    report = check_files([scan.master])
    assert "never finished" in problems(report)
    assert ((0, 12),) in hit(report)


@pytest.mark.parametrize(("n_rows", "lost"), [(7, (17, 20)), (12, (10, 20))])
def test_a_source_of_another_length_is_found(
    tmp_path: Path, n_rows: int, lost: PointRange
) -> None:
    """A short one makes the read fail; where it is longer, nobody knows which rows."""
    for name, length in (("a.h5", 10), ("b.h5", n_rows)):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.zeros((length, 3))
    layout = h5py.VirtualLayout((20, 3), "f8")
    layout[:10] = h5py.VirtualSource("a.h5", "data", (10, 3))
    layout[10:] = h5py.VirtualSource("b.h5", "data", (10, 3))
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    report = check_files([tmp_path / "master.h5"])
    assert hit(report) == {(lost,)}
    assert "where 10 points are mapped" in problems(report)


def test_a_source_that_is_selected_from_may_be_longer_not_shorter(
    tmp_path: Path,
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((12, 3))
    for name, stop in (("fits.h5", 12), ("short.h5", 14)):
        layout = h5py.VirtualLayout((stop - 4, 3), "f8")
        layout[:] = h5py.VirtualSource("a.h5", "data", (20, 3))[4:stop]
        with h5py.File(tmp_path / name, "w") as file:
            file.create_virtual_dataset("data", layout)
    assert check_files([tmp_path / "fits.h5"]).ok
    assert hit(check_files([tmp_path / "short.h5"])) == {((8, 10),)}


@pytest.mark.parametrize(
    ("dataset", "dtype", "sentence"),
    [("other", "f8", "no dataset data"), ("data", "f4", "holds float32, not float64")],
)
def test_a_source_without_its_dataset_or_type_is_found(
    tmp_path: Path, dataset: str, dtype: str, sentence: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[dataset] = np.zeros(4, dtype)
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("a.h5", "data", (4,))
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    report = check_files([tmp_path / "master.h5"])
    assert sentence in problems(report)
    assert hit(report) == {((0, 4),)}


# --------------------------------------------------------------------- links


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "there.h5", "w") as file:
        file["data"] = 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gone"] = h5py.ExternalLink("gone.h5", "/data")
        file["empty"] = h5py.ExternalLink("there.h5", "/nothing")
        file["soft"] = h5py.SoftLink("/nothing/here")
        file["circle"] = h5py.SoftLink("/circle")
        file["behind"] = h5py.SoftLink("/gone")  # the matter of `gone`
        file["absolute"] = h5py.ExternalLink(str(tmp_path / "there.h5"), "/data")
        file["long"] = h5py.ExternalLink("x" * 300, "/data")
    report = check_files([tmp_path / "a.h5"])
    found = {one.dataset: one.problem for one in report.findings}
    names = {"/gone", "/empty", "/soft", "/circle", "/absolute", "/long"}
    assert set(found) == names
    assert found["/gone"] == "external link to gone.h5, which is not there"
    assert "/nothing in there.h5" in found["/empty"]
    assert "absolute link" in found["/absolute"]


def test_a_scan_file_that_is_gone_is_found(scan: WrittenScan) -> None:
    scan.values.unlink()
    report = check_files([scan.dataset])
    assert len(report.findings) == 1
    assert "scan0001_values.h5, with the events and the ledger, is not" in problems(
        report
    )


def test_copies_of_values_are_compared_with_the_scan_file(scan: WrittenScan) -> None:
    assert check_files([scan.master]).ok
    with h5py.File(scan.master, "r+") as file:
        entry = file["1.1/measurement"]
        entry["counts"][13] += 1
        entry["label"][7] = "another"
        entry["peaks"][20, 1] = 5.0
        file["1.1/scanbus/times/fast"][3] = 0.0
        del file["1.1/instrument/mca"]["data"]
        file["1.1/instrument/mca"]["data"] = np.zeros((30, 4), "u4")
    report = check_files([scan.master])
    assert {(one.dataset, one.points) for one in report.findings} == {
        ("/1.1/instrument/counts/data", ((13, 14),)),
        ("/1.1/instrument/label/data", ((7, 8),)),
        ("/1.1/instrument/peaks/data", ((20, 21),)),
        ("/1.1/scanbus/times/fast", ((3, 4),)),
        ("/1.1/instrument/mca/data", ()),
    }


def test_mapped_values_are_checked_like_frames(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, copied_bytes=100)
    with h5py.File(scan.master) as file:
        assert file["1.1/measurement/mca"].is_virtual
        assert file["1.1/measurement/label"].is_virtual
        assert not file["1.1/measurement/shutter"].is_virtual
        assert file["1.1/measurement/label"].asstr()[4] == "Punkt № 4"
    assert check_files([scan.master]).ok
    with h5py.File(scan.values, "r+") as file:
        del file["/entry_0000/measurement/mca"]
    assert "has no dataset" in problems(check_files([scan.master]))


def test_the_scan_file_of_a_scan_without_values_is_missed(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, [frame_lane()])
    assert check_files([scan.master]).n_files == 5
    scan.values.unlink()
    report = check_files([scan.master])
    assert "scan0001_values.h5, with the events and the ledger, is not" in problems(
        report
    )


def test_the_scan_file_of_another_scan_is_found(
    scan: WrittenScan, tmp_path: Path
) -> None:
    other = write_scan(tmp_path / "other", uid="anotherscan2")
    shutil.copy(other.values, scan.values)
    assert f"belongs to scan anotherscan2, not {UID}" in problems(
        check_files([scan.master])
    )


def test_chains_of_files_and_nested_groups_end(tmp_path: Path) -> None:
    for number in range(20):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["next"] = h5py.ExternalLink(f"{number + 1}.h5", "/")
    with h5py.File(tmp_path / "20.h5", "w") as file:
        file.create_group("/".join("g" * 70))
    assert "behind one another" in problems(check_files([tmp_path / "0.h5"]))
    assert "nested deeper" in problems(check_files([tmp_path / "20.h5"]))


# -------------------------------------------------------------- small values


def value_places(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield where the plain datasets of a scan file stand."""
    with h5py.File(path, "r") as file:
        for name in ("th", "counts", "phase", "mca", "peaks__length"):
            dataset = file["/entry_0000/measurement"][name]
            yield name, dataset.id.get_offset(), dataset.dtype.itemsize * dataset.size


@given(data=st.data())
@settings(max_examples=30)
def test_a_flipped_bit_of_a_value_is_found_and_named(
    pattern: WrittenScan, data: st.DataObject
) -> None:
    path = pattern.values
    _, offset, nbytes = data.draw(st.sampled_from(list(value_places(path))))
    within = data.draw(st.integers(0, nbytes - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    flip(path, offset + within, bit)
    try:
        report = check_files([pattern.master])
    finally:
        flip(path, offset + within, bit)
    first = within * 30 // nbytes // 3 * 3
    finding, copy = sorted(report.findings, key=lambda one: one.file != str(path))
    assert finding.points == ((first, first + 3),)
    assert finding.file == str(path)
    assert copy.problem == "not what the scan file has"


def test_changed_text_is_found(scan: WrittenScan) -> None:
    with h5py.File(scan.values, "r+") as file:
        file["/entry_0000/measurement/label"][13] = "Punkt № 14"
    assert hit(check_files([scan.values])) == {((12, 15),)}


def test_channels_that_are_gone_or_short_are_found(scan: WrittenScan) -> None:
    with h5py.File(scan.values, "r+") as file:
        del file["/entry_0000/measurement/th"]
    report = check_files([scan.master])
    assert {one.dataset for one in report.findings} == {
        "/entry_0000/measurement/th",
        "/1.1/instrument/th/value",
    }
    with h5py.File(scan.values, "r+") as file:
        file["/entry_0000/measurement/th"] = np.zeros(29)
    assert "differ in length" in problems(check_files([scan.values]))


@pytest.mark.parametrize("field", ["first", "count", "checksum"])
def test_a_damaged_table_of_entries_is_found(scan: WrittenScan, field: str) -> None:
    with h5py.File(scan.values, "r+") as file:
        table = file[OWN]["lanes/fast"][()]
        table[field][4] += 2**40
        file[OWN]["lanes/fast"][...] = table
    assert not check_files([scan.values]).ok


def test_a_damaged_chunk_of_packed_values_is_found(tmp_path: Path) -> None:
    lane = value_lane()
    wide = lane.channels[-1].model_copy(update={"shape": (20_000,)})
    scan = write_scan(tmp_path, [lane.model_copy(update={"channels": (wide,)})])
    dataset = "/entry_0000/measurement/mca"
    offset, _ = chunk_place(scan.values, 1, dataset)
    for place in range(8):
        flip(scan.values, offset + place, 0xFF)
    report = check_files([scan.values])
    assert not report.ok
    with h5py.File(scan.values, "r") as file:
        edge = file[dataset].chunks[0]
    assert all(stop > edge for one in report.findings for _, stop in one.points)


# ---------------------------------------------------------------- unreadable


def test_files_that_cannot_be_read_at_all_exit_with_3(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not HDF5")
    os.mkfifo(tmp_path / "fifo.h5")
    (tmp_path / "empty").mkdir()
    names = ("text.h5", "fifo.h5", "x" * 300, "empty", "gone.h5")
    report = check_files([tmp_path / name for name in names])
    assert report.exit_code == 3
    assert len(report.unreadable) == len(report.findings) == 5
    assert "it is not an HDF5 file" in problems(report)
    assert "there is no such file" in problems(report)


@given(length=st.integers(0, 30_000))
@settings(max_examples=25)
def test_a_truncated_file_is_a_sentence_never_a_traceback(
    pattern: WrittenScan, tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    for path in (pattern.master, pattern.values, pattern.segment(0)):
        cut = folder / path.name
        cut.write_bytes(path.read_bytes()[:length])
        report = check_files([cut])
        if length < path.stat().st_size:
            assert report.exit_code == 3
            assert "cannot be opened" in problems(report)


def test_names_in_files_do_not_steer_the_terminal(
    scan: WrittenScan, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(scan.master, "r+") as file:
        file["1.1/a\x1b[31m\nb"] = h5py.SoftLink("/no\x1b]0;where\x07")
    assert main(["check", str(scan.master)]) == 2
    line, _ = capsys.readouterr().out.splitlines()
    assert "a?[31m?b: soft link to /no?]0;where?, which" in line
