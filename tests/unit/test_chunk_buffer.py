"""Frames become chunks that the writer can store as they are, and named rests."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import HEADER_FIELD, PAYLOAD_FIELD, Entry, parse_entry
from scanbus.publisher.buffers.chunk_buffer import ChunkBuffer, Piece
from scanbus.publisher.buffers.entry_builder import frame_entry, seal_entry
from scanbus.schemas import ChannelDescription, LaneDescription, Storage

SHAPE = (2, 3)
SESSION = b"12345678"


def detector(
    per_chunk: int, chunks: int = 3, packing: str = "bitshuffle-lz4"
) -> LaneDescription:
    channel = ChannelDescription(
        name="d",
        group="d",
        device="d",
        dtype="uint16",
        shape=SHAPE,
        codec=packing,
    )
    return LaneDescription(
        name="d",
        storage=Storage.FILES,
        channels=(channel,),
        points_per_chunk=per_chunk,
        points_per_segment=per_chunk * chunks,
    )


def entry_of(lane: LaneDescription, piece: Piece) -> Entry:
    frozen = frame_entry(lane, piece, SESSION)
    assert frozen.stop == piece.first + piece.count
    fields = {HEADER_FIELD: frozen.header, PAYLOAD_FIELD: bytes(frozen.payload)}
    return parse_entry(lane, frozen.id, fields)


steps = st.lists(
    st.tuples(st.sampled_from(["frames", "skip", "cut"]), st.integers(1, 12)),
    max_size=20,
)


@given(steps=steps, per_chunk=st.integers(1, 9))
def test_pieces_joined_are_the_frames_again(
    steps: list[tuple[str, int]], per_chunk: int
) -> None:
    lane = detector(per_chunk)
    buffer = ChunkBuffer(lane)
    pieces: list[Piece | None] = []
    sent: list[int | None] = []
    frame = np.empty(SHAPE, np.uint16)
    for kind, count in steps:
        if kind == "frames":
            for _ in range(count):
                frame[:] = len(sent)
                sent.append(len(sent))
                pieces.append(buffer.push(frame, 1.0))
        elif kind == "skip":
            sent.extend([None] * count)
            pieces.extend(buffer.skip(count))
        else:
            pieces.append(buffer.cut())
    pieces.append(buffer.end())

    found: list[int | None] = []
    for piece in filter(None, pieces):
        entry = entry_of(lane, piece)
        assert entry.first == len(found)
        if entry.is_gap:
            found.extend([None] * entry.count)
            continue
        assert entry.first // per_chunk == (entry.stop - 1) // per_chunk
        count = per_chunk if entry.is_padded else entry.count
        shape = (count, *SHAPE)
        values = find_codec(entry.codecs[0]).decode(entry.payload, "<u2", shape)
        found.extend(int(value[0, 0]) for value in values[: entry.count])
        assert (values[entry.count :] == 65535).all()
    assert found == sent
    raw = sum(piece.raw_bytes for piece in pieces if piece)
    assert raw == 12 * sum(number is not None for number in sent)


@pytest.mark.parametrize("is_given", [True, False])
@pytest.mark.parametrize("late_s", [0.0009, 0.002])
def test_times_that_nobody_gave_are_even_to_within_a_millisecond(
    is_given: bool, late_s: float
) -> None:
    lane = detector(4)
    buffer = ChunkBuffer(lane)
    times = [1.7e9, 1.7e9 + 0.01, 1.7e9 + 0.02 + late_s, 1.7e9 + 0.03]
    pieces = [
        buffer.push(np.zeros(SHAPE, "u2"), time, is_given=is_given) for time in times
    ]
    assert pieces[-1] is not None
    entry = entry_of(lane, pieces[-1])
    is_kept = is_given or late_s > 0.001
    assert (entry.ends is None) == is_kept
    assert (entry.times.tolist() == times) == is_kept
    assert np.abs(entry.times - times).max() <= 0.001


@pytest.mark.parametrize("per_chunk", [1, 3])
@pytest.mark.parametrize("name", ["none", "bitshuffle-lz4"])
def test_memory_that_is_used_again_changes_no_entry(name: str, per_chunk: int) -> None:
    lane = detector(per_chunk, packing=name)
    buffer = ChunkBuffer(lane)
    frame = np.empty(SHAPE, np.uint16)
    entries = []
    for number in range(12):
        frame[:] = number
        piece = buffer.push(frame, 1.0)
        if piece is not None:
            entries.append(frame_entry(lane, piece, SESSION))
            buffer.recycle(piece)
    shape = (per_chunk, *SHAPE)
    values = [find_codec(name).decode(each.payload, "<u2", shape) for each in entries]
    assert np.concatenate(values)[:, 0, 0].tolist() == list(range(12))


def test_a_frame_that_nobody_changes_is_taken_without_a_copy() -> None:
    frame = np.zeros(SHAPE, np.uint16)
    buffer = ChunkBuffer(detector(1))
    piece = buffer.push(frame, 1.0, copy=False)
    assert piece is not None
    assert np.shares_memory(piece.frames, frame)
    buffer.recycle(piece)
    after = buffer.push(frame, 2.0)
    assert after is not None
    assert not np.shares_memory(after.frames, frame)
    assert (piece.first, after.first) == (0, 1)


@pytest.mark.parametrize(
    ("per_chunk", "frame"),
    [
        (2, np.zeros(SHAPE, np.uint16)),
        (1, np.zeros(SHAPE, ">u2")),
        (1, np.zeros(SHAPE[::-1], np.uint16).T),
        (1, np.zeros(SHAPE, np.uint8)),
    ],
)
def test_a_frame_that_is_no_chunk_as_it_stands_is_copied(
    per_chunk: int, frame: npt.NDArray[Any]
) -> None:
    buffer = ChunkBuffer(detector(per_chunk))
    piece = buffer.push(frame, 1.0, copy=False) or buffer.end()
    assert piece is not None
    assert not np.shares_memory(piece.frames, frame)


def test_the_end_is_padded_where_a_chunk_begins_and_partial_elsewhere() -> None:
    lane = detector(4)
    buffer = ChunkBuffer(lane)
    frame = np.zeros(SHAPE, np.uint16)
    buffer.push(frame, 1.0)
    padded = buffer.end()
    assert padded is not None
    assert padded.is_padded
    buffer = ChunkBuffer(lane)
    buffer.push(frame, 1.0)
    buffer.cut()
    buffer.push(frame, 2.0)
    partial = buffer.end()
    assert partial is not None
    assert (partial.first, partial.count, partial.is_padded) == (1, 1, False)


def test_a_seal_carries_the_length() -> None:
    frozen = seal_entry(17, SESSION)
    entry = parse_entry(detector(1), frozen.id, {HEADER_FIELD: frozen.header})
    assert entry.is_seal
    assert entry.first == 17
