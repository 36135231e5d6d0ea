"""Which segments a salvage makes, and from which of the files that were left."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from scanbus.schemas import Storage
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.recovery.salvage import plan_segments
from scanbus.writer.recovery.segment_recovery import TemporarySegment
from tests.support.descriptions import bytes_lane

LANE = bytes_lane(per_segment=100)


def left(
    start: int, n_points: int, *, name: str = "a", closed: bool = False
) -> TemporarySegment:
    stop = start + n_points
    present = ((start, stop),) if n_points else ()
    path = Path(name)
    return TemporarySegment(
        path, start, stop, present, SegmentAccount(), is_closed=closed
    )


def finished(*stops: int) -> list[SegmentFile]:
    return [
        SegmentFile(f"group_{index:04d}.h5", index * 100, stop)
        for index, stop in enumerate(stops)
    ]


def test_the_temporary_segment_with_the_most_points_is_taken() -> None:
    found = [left(100, 7), left(100, 30, name="best"), left(100, 29, closed=True)]
    (plan,) = plan_segments(LANE, finished(100), found)
    assert (plan.name, plan.start, plan.stop) == ("group_0001.h5", 100, 130)
    assert plan.source is found[1]


def test_of_equal_ones_the_one_with_checksums_is_taken() -> None:
    found = [left(0, 7), left(0, 7, closed=True), left(0, 7)]
    (plan,) = plan_segments(LANE, [], found)
    assert plan.source is found[1]


def test_what_is_finished_is_not_made_again() -> None:
    assert plan_segments(LANE, finished(100, 200), [left(0, 100), left(100, 50)]) == ()


def test_behind_a_short_segment_of_frames_nothing_follows() -> None:
    frames = LANE.model_copy(update={"storage": Storage.FILES})
    assert plan_segments(frames, finished(100, 150), [left(200, 5)]) == ()


def test_segments_of_values_may_have_ended_anywhere() -> None:
    plans = plan_segments(LANE, finished(100, 150), [left(170, 5), left(150, 12)])
    assert [(plan.name, plan.start, plan.stop) for plan in plans] == [
        ("group_0002.h5", 150, 170),
        ("group_0003.h5", 170, 175),
    ]


def test_what_lies_within_another_attempts_segment_is_not_made_twice() -> None:
    plans = plan_segments(LANE, [], [left(0, 30), left(20, 5), left(30, 7)])
    assert [(plan.start, plan.stop) for plan in plans] == [(0, 30), (30, 37)]


def test_nothing_left_makes_nothing() -> None:
    assert plan_segments(LANE, finished(100), []) == ()
    assert plan_segments(LANE, [], [left(0, 0)]) == ()


@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 100)), max_size=12),
)
def test_segments_follow_each_other_without_a_hole(
    n_finished: int, sizes: list[tuple[int, int]]
) -> None:
    done = finished(*(100 * index + 100 for index in range(n_finished)))
    found = [left(100 * index, size) for index, size in sizes]

    plans = plan_segments(LANE, done, found)

    edge = 100 * n_finished
    for plan in plans:
        assert plan.start == edge
        assert plan.start < plan.stop <= plan.start + 100
        edge = plan.stop
    assert [plan.stop % 100 for plan in plans[:-1]] == [0] * len(plans[:-1])
    useful = [one for one in found if one.start >= 100 * n_finished and one.n_points]
    assert edge == max([100 * n_finished, *(one.stop for one in useful)])
    for plan in plans:
        rivals = [one.n_points for one in useful if one.start == plan.start]
        assert max(rivals, default=0) == (plan.source.n_points if plan.source else 0)
