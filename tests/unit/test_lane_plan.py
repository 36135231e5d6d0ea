"""Segments and chunks that fit the quota, whatever is declared."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scanbus.publisher.declare.arguments import declare_channel, declare_detector
from scanbus.publisher.declare.lane_plan import (
    MAX_FILES_SEGMENT_POINTS,
    MAX_VALUES_SEGMENT_POINTS,
    Declared,
    plan_lanes,
)
from scanbus.schemas import ENTRY_OVERHEAD_BYTES, LaneDescription, Storage
from scanbus.schemas.errors import QuotaRefusedError

MIB = 2**20
UID = "0123456789abcdef"


def detector(name: str = "d", side: int = 2048, **more: Any) -> Declared:
    more = {"codec": "bitshuffle-lz4", **more}
    return declare_detector(name, shape=(side, side), dtype="uint16", **more)


declarations = st.lists(
    st.one_of(
        st.tuples(st.just("channel"), st.sampled_from([None, "g", "h"])),
        st.tuples(st.just("text"), st.just(None)),
        st.tuples(st.just("detector"), st.integers(1, 1500)),
    ),
    min_size=1,
    max_size=8,
)


def declared_from(described: list[tuple[str, Any]]) -> list[Declared]:
    found = []
    for number, (kind, value) in enumerate(described):
        name = f"c{number}"
        if kind == "channel":
            found.append(declare_channel(name, group=value))
        elif kind == "text":
            found.append(declare_channel(name, dtype="string", max_point_bytes=100))
        else:
            found.append(detector(name, value))
    return found


def open_bytes(lane: LaneDescription, compression: float) -> float:
    """Return the most that an open segment takes on the bus."""
    points = lane.points_per_segment
    assert lane.segment_bytes is not None
    if lane.storage is Storage.FILES:
        chunk = lane.points_per_chunk
        if lane.segment_bytes == 1:  # Each chunk ends a segment.
            return chunk * (lane.point_bytes / compression + ENTRY_OVERHEAD_BYTES)
        # Packed or not: frames need not be packed as well as was expected.
        largest_chunk = chunk * (lane.point_bytes + ENTRY_OVERHEAD_BYTES)
        by_points = points * (lane.point_bytes + ENTRY_OVERHEAD_BYTES)
        return min(by_points, lane.segment_bytes - 1 + largest_chunk)
    largest_entry = points * lane.point_bytes + ENTRY_OVERHEAD_BYTES
    by_points = points * (lane.point_bytes + ENTRY_OVERHEAD_BYTES)
    return min(by_points, lane.segment_bytes + largest_entry)


@given(
    described=declarations,
    quota=st.integers(1, 2**31),
    compression=st.floats(1, 20),
)
# Half a byte too much for each of many lanes is more than one.
@example(described=[("detector", 1)] * 8, quota=10_484, compression=1.0)
@example(described=[("detector", 1)] * 4, quota=5_236, compression=1.0)
def test_open_segments_fit_in_half_the_quota_or_the_scan_is_refused(
    described: list[tuple[str, Any]], quota: int, compression: float
) -> None:
    declared = declared_from(described)
    try:
        lanes = plan_lanes(UID, declared, quota, compression)
    except QuotaRefusedError:
        return
    assert sum(open_bytes(lane, compression) for lane in lanes) <= quota / 2 + 0.1
    assert [lane.name for lane in lanes] == list(
        dict.fromkeys(each.channel.group for each in declared)
    )
    for lane in lanes:
        assert lane.points_per_segment % lane.points_per_chunk == 0


def test_large_frames_are_a_chunk_each_and_small_ones_share_a_mebibyte() -> None:
    lanes = plan_lanes(UID, [detector("a", 2048), detector("b", 64)], 2**30)
    assert [lane.points_per_chunk for lane in lanes] == [1, 128]


def test_a_detector_gets_most_of_the_room_and_values_little() -> None:
    values = [declare_channel(f"c{number}") for number in range(20)]
    lanes = plan_lanes(UID, [*values, detector()], 2**30)
    assert lanes[-1].points_per_segment >= 40
    assert all(lane.points_per_segment > 1000 for lane in lanes[:-1])


def test_segments_are_not_longer_than_useful() -> None:
    (values,) = plan_lanes(UID, [declare_channel("a")], 2**40)
    (frames,) = plan_lanes(UID, [detector("d", 16)], 2**40)
    (short,) = plan_lanes(UID, [detector("d", 600, points=7)], 2**40)
    assert values.points_per_segment > MAX_VALUES_SEGMENT_POINTS * 0.7
    assert values.points_per_segment <= MAX_VALUES_SEGMENT_POINTS
    assert frames.points_per_segment == MAX_FILES_SEGMENT_POINTS
    assert short.points_per_segment == 7


def test_points_that_come_alone_and_points_that_come_together_end_segments() -> None:
    (lane,) = plan_lanes(UID, [declare_channel("a")], 2**30)
    assert lane.segment_bytes is not None
    alone = lane.segment_bytes / (lane.point_bytes + ENTRY_OVERHEAD_BYTES)
    assert 20_000 < alone < 40_000 < lane.points_per_segment


def test_a_short_scan_of_values_is_one_segment() -> None:
    (lane,) = plan_lanes(UID, [declare_channel("a", points=100)], 2**30)
    assert lane.points_per_segment == 100
    assert lane.segment_bytes is not None
    assert lane.segment_bytes >= 100 * (lane.point_bytes + ENTRY_OVERHEAD_BYTES)


def test_segments_of_frames_end_by_their_packed_bytes_whatever_was_expected() -> None:
    (plain,) = plan_lanes(UID, [detector()], 256 * MIB)
    (packed,) = plan_lanes(UID, [detector()], 256 * MIB, 4.0)
    assert plain.segment_bytes == packed.segment_bytes
    assert plain.segment_bytes is not None
    # 16 frames of 8 MiB do not fit in 128 MiB with their headers; 15 do.
    assert plain.segment_bytes > 14 * (8 * MIB + ENTRY_OVERHEAD_BYTES)
    # Frames that are packed to an eighth make segments eight times as long.
    assert plain.points_per_segment == 8 * 15


def test_room_that_is_left_makes_the_segments_of_frames_longer() -> None:
    (small,) = plan_lanes(UID, [detector(side=64)], 2**30)
    beside = plan_lanes(UID, [detector("a", 64), detector("b", 4096)], 2**30)
    assert small.points_per_segment > 50 * 10_000
    assert beside[0].segment_bytes is not None
    assert beside[1].segment_bytes is not None
    assert beside[1].segment_bytes > 4 * beside[0].segment_bytes


def test_a_chunk_that_does_not_fit_names_lane_and_need() -> None:
    with pytest.raises(QuotaRefusedError, match=r"'d', less than the 8.00 MiB"):
        plan_lanes(UID, [detector()], 8 * MIB)


def test_a_detector_shares_no_group() -> None:
    with pytest.raises(ValueError, match="lane of its own"):
        plan_lanes(UID, [declare_channel("a", group="d"), detector()], 2**30)
