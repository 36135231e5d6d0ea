"""Segments of detectors grow along their lane, within what was declared."""

from hypothesis import given
from hypothesis import strategies as st

from scanbus.schemas import ChannelDescription, LaneDescription, Storage
from scanbus.writer.model.segment_length import growing_points, is_segment_full

KIB = 2**10


def lane(
    side: int = 64,
    *,
    segment_bytes: int | None = 2**40,
    per_chunk: int = 1,
    per_segment: int = 2**20,
) -> LaneDescription:
    camera = ChannelDescription(
        name="d", group="d", device="d", dtype="uint16", shape=(side, side)
    )
    return LaneDescription(
        name="d",
        storage=Storage.FILES,
        channels=(camera,),
        points_per_segment=per_segment,
        points_per_chunk=per_chunk,
        segment_bytes=segment_bytes,
    )


def n_segments(description: LaneDescription, n_points: int, chunk_bytes: int) -> int:
    """Return how many segments a lane of whole chunks has; check each of them."""
    start = n_found = n_bytes = 0
    rows = description.points_per_chunk
    for point in range(rows, n_points + 1, rows):
        n_bytes += chunk_bytes
        assert description.segment_bytes is None or (
            n_bytes < description.segment_bytes + chunk_bytes
        )
        if is_segment_full(description, start, point, n_bytes):
            start, n_found, n_bytes = point, n_found + 1, 0
    return n_found + (start < n_points)


def test_ten_million_small_frames_are_few_files() -> None:
    assert n_segments(lane(per_chunk=128, per_segment=2**20), 10**7, 1) < 160


def test_the_first_segments_are_short() -> None:
    assert growing_points(lane(), 0) == 10_000
    assert growing_points(lane(side=2048), 0) == 128  # 1 GiB
    assert growing_points(lane(), 3_200_000) == 100_000


def test_a_lane_that_declares_no_bytes_keeps_its_length() -> None:
    fixed = lane(segment_bytes=None, per_segment=50)
    assert n_segments(fixed, 10_000, 2**30) == 200
    assert not is_segment_full(lane(segment_bytes=None), 0, 500_000, 2**40)


@given(
    per_chunk=st.integers(1, 40),
    chunk_bytes=st.integers(1, 2000),
    segment_bytes=st.integers(1, 10_000),
    start=st.integers(0, 100),
    point=st.integers(1, 4000),
)
def test_a_segment_of_frames_ends_behind_a_whole_chunk(
    per_chunk: int, chunk_bytes: int, segment_bytes: int, start: int, point: int
) -> None:
    description = lane(
        per_chunk=per_chunk, per_segment=per_chunk * 100, segment_bytes=segment_bytes
    )
    if is_segment_full(description, start * per_chunk, point, chunk_bytes):
        assert point % per_chunk == 0
