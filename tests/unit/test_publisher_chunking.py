"""Frames become chunks that the writer can store as they are, and named rests."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.codecs import codec
from scanbus.bus.entries import HEADER_FIELD, PAYLOAD_FIELD, Entry, parse_entry
from scanbus.publisher.chunking import ChunkBuffer, Piece
from scanbus.publisher.freezing import freeze_piece, freeze_seal
from scanbus.schemas import ChannelDescription, LaneDescription, Storage

SHAPE = (2, 3)
SESSION = b"12345678"


def detector(per_chunk: int, chunks: int = 3) -> LaneDescription:
    channel = ChannelDescription(
        name="d",
        group="d",
        device="d",
        dtype="uint16",
        shape=SHAPE,
        codec="bitshuffle-lz4",
    )
    return LaneDescription(
        name="d",
        storage=Storage.FILES,
        channels=(channel,),
        points_per_chunk=per_chunk,
        points_per_segment=per_chunk * chunks,
    )


def entry_of(lane: LaneDescription, piece: Piece) -> Entry:
    frozen = freeze_piece(lane, piece, SESSION)
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
            pieces.extend(buffer.skip(count, 1.0))
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
        values = codec(entry.codecs[0]).decode(entry.payload, "<u2", shape)
        found.extend(int(value[0, 0]) for value in values[: entry.count])
        assert (values[entry.count :] == 65535).all()
    assert found == sent
    raw = sum(piece.raw_bytes for piece in pieces if piece)
    assert raw == 12 * sum(number is not None for number in sent)


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
    frozen = freeze_seal(17, SESSION)
    entry = parse_entry(detector(1), frozen.id, {HEADER_FIELD: frozen.header})
    assert entry.is_seal
    assert entry.first == 17
