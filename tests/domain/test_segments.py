"""Segments: what came over the bus stands in them, bit by bit, or verify says no."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanbus.bus.codecs import CODEC_NAMES
from scanbus.bus.protocol import Entry
from scanbus.schemas.errors import NameTakenError, PayloadError, VerificationError
from scanbus.writer.storage.chunked_dataset import stored_chunks
from scanbus.writer.storage.entry_values import ENTRY_FIELDS
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.segment_header import read_header
from scanbus.writer.storage.value_segment import ValueSegment
from tests.support.descriptions import channel, lane_of
from tests.support.written_scans import (
    UID,
    chunk_entry,
    entries_of,
    entry_of,
    frame_lane,
    plain_entry,
    points_of,
    times_of,
    value_lane,
)

DATA = "/entry_0000/measurement/data"
OWN = "/entry_0000/scanbus"
FILL = np.iinfo(np.uint16).max


def codec_or_skip(name: str) -> str:
    if name == "blosc2":
        pytest.importorskip("blosc2")
    return name


def data_of(path: Path) -> Any:
    with h5py.File(path, "r") as file:
        return file[DATA][()]


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("n_points", [12, 11, 9, 8, 1])
def test_chunks_of_the_source_are_stored_as_they_came(
    tmp_path: Path, codec: str, n_points: int
) -> None:
    lane = frame_lane(codec_or_skip(codec))
    entries = entries_of(lane, n_points)
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    for entry in entries:
        segment.put(entry)
    segment.close(n_points)
    segment.verify()
    expected = points_of(lane.channels[0], 0, n_points)
    np.testing.assert_array_equal(data_of(tmp_path / "a.h5"), expected)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        table = file[OWN]["chunk_checksum"][()]
        assert table.tolist() == [entry.checksum for entry in entries]
        assert file[OWN]["chunk_from_source"][()].all()
        for index, entry in enumerate(entries):
            _, stored = file[DATA].id.read_direct_chunk((4 * index, 0, 0))
            assert stored == entry.payload


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("step", [1, 3, 5, 12])
def test_entries_that_are_no_chunks_are_gathered_into_them(
    tmp_path: Path, codec: str, step: int
) -> None:
    lane = frame_lane(codec_or_skip(codec))
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 24)
    for first in range(24, 35, step):
        segment.put(plain_entry(lane, first, min(step, 35 - first)))
    segment.close(35)
    segment.verify()
    expected = points_of(lane.channels[0], 24, 11)
    np.testing.assert_array_equal(data_of(tmp_path / "a.h5"), expected)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        times = file[OWN]["time"][()]
    np.testing.assert_array_equal(times, times_of(24, 11))


def test_gaps_are_read_as_fill_value_and_stand_in_the_account(tmp_path: Path) -> None:
    lane = frame_lane()
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    segment.put(plain_entry(lane, 0, 2))
    segment.mark("missing", 2, 9)
    segment.put(plain_entry(lane, 9, 1))
    segment.mark("missing", 10, 12)
    segment.close(12)
    segment.verify()
    found = data_of(tmp_path / "a.h5")
    there = [0, 1, 9]
    np.testing.assert_array_equal(
        found[there], points_of(lane.channels[0], 0, 12)[there]
    )
    assert (np.delete(found, there, axis=0) == FILL).all()
    header = read_header(tmp_path / "a.h5")
    assert (header.uid, header.lane, header.start, header.stop) == (UID, "eiger", 0, 12)
    assert header.account.missing_of("eiger") == ((2, 9), (10, 12))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert (file[OWN]["chunk_checksum"][()] != 0).tolist() == [True, False, True]
        assert [chunk.start for chunk in stored_chunks(file[DATA])] == [0, 8]


def test_gaps_that_an_entry_names_stand_in_the_account(tmp_path: Path) -> None:
    lane = frame_lane()
    points = [points_of(lane.channels[0], 0, 4)]
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    segment.put(entry_of(lane, 0, points, gaps={"eiger": ((1, 3),)}))
    segment.close(4)
    assert read_header(tmp_path / "a.h5").account.missing_of("eiger") == ((1, 3),)


def test_a_segment_without_any_point_has_only_fill_values(tmp_path: Path) -> None:
    lane = frame_lane()
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 12)
    segment.mark("missing", 12, 24)
    segment.close(24)
    segment.verify()
    found = data_of(tmp_path / "a.h5")
    assert found.shape == (12, 6, 8)
    assert (found == FILL).all()


def test_points_behind_a_padded_chunk_do_not_push_it_out(tmp_path: Path) -> None:
    lane = frame_lane()
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    segment.put(chunk_entry(lane, 0, 3))
    segment.put(plain_entry(lane, 3, 3))
    segment.close(6)
    segment.verify()
    expected = points_of(lane.channels[0], 0, 6)
    np.testing.assert_array_equal(data_of(tmp_path / "a.h5"), expected)


def test_a_padded_chunk_of_another_codec_is_packed_again(tmp_path: Path) -> None:
    lane = frame_lane("zstd")
    padded = points_of(lane.channels[0], 0, 4)
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    segment.put(entry_of(lane, 0, [padded], codecs=["gzip-shuffle"], count=3))
    segment.close(3)
    segment.verify()
    np.testing.assert_array_equal(data_of(tmp_path / "a.h5"), padded[:3])


def test_points_that_do_not_unpack_leave_nothing_behind(tmp_path: Path) -> None:
    lane = frame_lane()
    good = entry_of(lane, 0, [points_of(lane.channels[0], 0, 2)], codecs=["zstd"])
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    with pytest.raises(PayloadError):
        segment.put(_with_payload(good, b"no zstd frame at all"))
    segment.mark("refused", 0, 2)
    segment.mark("missing", 0, 2)
    segment.close(2)
    segment.verify()
    assert (data_of(tmp_path / "a.h5") == FILL).all()


def _with_payload(entry: Entry, payload: bytes) -> Entry:
    return Entry(
        entry.id,
        entry.first,
        entry.count,
        entry.session,
        entry.checksum,
        payload=payload,
        codecs=entry.codecs,
        sizes=(len(payload),),
    )


def test_an_open_segment_can_be_read_from_its_last_flush(tmp_path: Path) -> None:
    lane = frame_lane()
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    segment.put(chunk_entry(lane, 0, 4))
    segment.flush()
    segment.put(chunk_entry(lane, 4, 4))
    shutil.copy(tmp_path / "a.h5", tmp_path / "copy.h5")
    segment.discard()
    found = data_of(tmp_path / "copy.h5")
    np.testing.assert_array_equal(found[:4], points_of(lane.channels[0], 0, 4))
    with h5py.File(tmp_path / "copy.h5", "r") as file:
        assert file[OWN]["uid"].asstr()[()] == UID
    with pytest.raises(NameTakenError, match="no segment"):
        read_header(tmp_path / "copy.h5")


def test_a_name_that_is_taken_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        FrameSegment(tmp_path / "a.h5", UID, frame_lane(), 0)
    assert (tmp_path / "a.h5").read_bytes() == b"precious"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FrameSegment:
    lane = frame_lane()
    path = tmp_path_factory.mktemp("finished") / "a.h5"
    segment = FrameSegment(path, UID, lane, 0)
    for entry in entries_of(lane, 11):
        segment.put(entry)
    segment.close(11)
    return segment


@given(st.data())
@settings(max_examples=60)
def test_verify_finds_any_flipped_bit_of_any_chunk(
    finished: FrameSegment, data: st.DataObject
) -> None:
    path = finished._path
    with h5py.File(path, "r") as file:
        chunk = data.draw(st.sampled_from(list(stored_chunks(file[DATA]))))
    place = chunk.offset + data.draw(st.integers(0, chunk.nbytes - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    intact = path.read_bytes()
    damaged = bytearray(intact)
    damaged[place] ^= bit
    path.write_bytes(damaged)
    try:
        with pytest.raises(VerificationError, match=f"chunk {chunk.start // 4} "):
            finished.verify()
    finally:
        path.write_bytes(intact)
    finished.verify()


def test_verify_finds_a_chunk_that_is_not_there(tmp_path: Path) -> None:
    lane = frame_lane()
    segment = FrameSegment(tmp_path / "a.h5", UID, lane, 0)
    segment.put(chunk_entry(lane, 0, 4))
    segment.close(4)
    segment._checksums = np.array([segment._checksums[0], 7], np.uint64)
    with pytest.raises(VerificationError, match=r"chunks \[1\] are not"):
        segment.verify()


# --------------------------------------------------------------- small values


def filled_values(path: Path) -> ValueSegment:
    """A segment from point 12 with a hole at 15 and 16, and nothing from 20 on."""
    lane = value_lane()
    segment = ValueSegment(path, UID, lane, 12)
    segment.put(plain_entry(lane, 12, 3))
    segment.mark("missing", 15, 17)
    segment.put(plain_entry(lane, 17, 3))
    segment.mark("missing", 20, 24)
    return segment


def test_values_of_every_kind_are_kept_and_gaps_are_filled(tmp_path: Path) -> None:
    segment = filled_values(tmp_path / "a.h5")
    segment.close(24)
    segment.verify()
    lane, there = value_lane(), [0, 1, 2, 5, 6, 7]
    with h5py.File(tmp_path / "a.h5", "r") as file:
        group = file["/entry_0000/measurement"]
        for channel in lane.channels:
            if channel.is_variable:
                lengths = group[f"{channel.name}__length"][()]
                assert len(lengths) == 12
                assert not np.delete(lengths, there).any()
                points = points_of(channel, 12, 12)
                kept = [points[index] for index in there]
                raw = [
                    one.encode() if isinstance(one, str) else one.tobytes()
                    for one in kept
                ]
                assert group[f"{channel.name}__flat"][()].tobytes() == b"".join(raw)
                continue
            found = group[channel.name][()]
            expected = points_of(channel, 12, 12)
            np.testing.assert_array_equal(found[there], expected[there])
            missing = np.delete(found, there, axis=0)
            fill = np.full_like(missing, channel.missing_value)
            np.testing.assert_array_equal(missing, fill)
        table, times = file[OWN]["entries"][()], file[OWN]["time"][()]
    assert table.dtype == ENTRY_FIELDS
    assert table["first"].tolist() == [12, 17]
    assert table["from_source"].all()
    entry = plain_entry(lane, 17, 3)
    assert int(table["checksum"][1]) == entry.checksum
    expected = np.full(12, np.nan)
    expected[there] = times_of(12, 12)[there]
    np.testing.assert_array_equal(times, expected)
    account = read_header(tmp_path / "a.h5").account
    assert account.missing_of("th") == ((15, 17), (20, 24))


def test_packed_blocks_have_a_checksum_of_their_values(tmp_path: Path) -> None:
    lane = value_lane()
    points = [points_of(channel, 0, 4) for channel in lane.channels]
    codecs = [
        "none" if channel.is_variable else "gzip-shuffle" for channel in lane.channels
    ]
    segment = ValueSegment(tmp_path / "a.h5", UID, lane, 0)
    segment.put(entry_of(lane, 0, points, codecs=codecs, gaps={"th": ((2, 3),)}))
    segment.close(4)
    segment.verify()
    with h5py.File(tmp_path / "a.h5", "r") as file:
        row = file[OWN]["entries"][0]
    assert not row["from_source"]
    stored = [channel_points.copy() for channel_points in points[:1]] + points[1:]
    stored[0][2] = lane.channels[0].missing_value
    assert int(row["checksum"]) == entry_of(lane, 0, stored).checksum
    account = read_header(tmp_path / "a.h5").account
    assert account.missing_of("th") == ((2, 3),)
    assert account.missing_of("counts") == ()


def test_values_flushed_can_be_read_from_a_copy(tmp_path: Path) -> None:
    segment = filled_values(tmp_path / "a.h5")
    segment.flush()
    shutil.copy(tmp_path / "a.h5", tmp_path / "copy.h5")
    segment.flush()
    segment.discard()
    with h5py.File(tmp_path / "copy.h5", "r") as file:
        found = file["/entry_0000/measurement/counts"][()]
        assert found.tolist()[:3] == points_of(value_lane().channels[1], 12, 3).tolist()


@pytest.fixture
def long_values(tmp_path: Path) -> ValueSegment:
    """A closed segment that was written piece by piece, over several chunks."""
    lane = lane_of(channel("wave"), per_segment=10**6)
    segment = ValueSegment(tmp_path / "a.h5", UID, lane, 0)
    start = 0
    for count in (1, 70_000, 3, 5, 90_000, 131_072, 40_000, 29_367):
        segment.put(plain_entry(lane, start, count))
        start += count
    segment.close(start)
    return segment


def test_values_over_many_chunks_are_what_came(
    long_values: ValueSegment, tmp_path: Path
) -> None:
    long_values.verify()
    with h5py.File(tmp_path / "a.h5", "r") as file:
        dataset = file["/entry_0000/measurement/wave"]
        assert dataset.id.get_num_chunks() > 5
        found = dataset[()]
    np.testing.assert_array_equal(found, points_of(channel("wave"), 0, len(found)))


@pytest.mark.parametrize("place", [0, 200_000, -1])
def test_verify_finds_one_bit_of_many_chunks(
    long_values: ValueSegment, tmp_path: Path, place: int
) -> None:
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        dataset = file["/entry_0000/measurement/wave"]
        bits = dataset[place].view(np.uint64) ^ np.uint64(1)
        dataset[place] = bits.view(np.float64)
    with pytest.raises(VerificationError, match="wave"):
        long_values.verify()


@pytest.mark.parametrize("more", [-1, 32_768])
def test_verify_finds_another_length(
    long_values: ValueSegment, tmp_path: Path, more: int
) -> None:
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        dataset = file["/entry_0000/measurement/wave"]
        assert len(dataset) % dataset.chunks[0] == 0
        dataset.resize(len(dataset) + more, axis=0)
    with pytest.raises(VerificationError, match="wave"):
        long_values.verify()


@pytest.mark.parametrize(
    "name", ["th", "shutter", "label__flat", "peaks__length", "mca"]
)
def test_verify_finds_a_value_that_differs(tmp_path: Path, name: str) -> None:
    segment = filled_values(tmp_path / "a.h5")
    segment.close(24)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        dataset = file["/entry_0000/measurement"][name]
        dataset[1] = ~dataset[1] if dataset.dtype == np.bool_ else dataset[1] + 1
    with pytest.raises(VerificationError, match=name):
        segment.verify()
