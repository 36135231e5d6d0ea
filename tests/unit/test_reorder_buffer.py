"""Points out of order: held, put in order, given up, or late; none is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.publisher.buffers.reorder_buffer import (
    Hole,
    Late,
    Ready,
    ReorderBuffer,
    Step,
)
from scanbus.schemas import MAX_POINTS


def reordering(window: int = 8, window_s: float = 5.0) -> ReorderBuffer[int]:
    return ReorderBuffer("d", 0, window_points=window, window_s=window_s)


class LaneQueue:
    """What becomes of points whose item is their number."""

    def __init__(self) -> None:
        self.places: list[int | None] = []
        self.late: list[int] = []

    def take(self, steps: list[Step[int]]) -> None:
        for step in steps:
            match step:
                case Ready(item):
                    assert item == len(self.places)
                    self.places.append(item)
                case Hole(count):
                    assert count > 0
                    self.places.extend([None] * count)
                case Late(point, item):
                    assert point == item
                    assert self.places[point] is None
                    self.late.append(point)


@st.composite
def shuffled_within(draw: Any, window: int) -> list[int]:
    """Numbers of which none comes more than a window after where it belongs."""
    count = draw(st.integers(1, 60))
    left = list(range(count))
    found = []
    while left:
        reach = [point for point in left if point < left[0] + window]
        point = draw(st.sampled_from(reach))
        left.remove(point)
        found.append(point)
    return found


@given(points=shuffled_within(window=8))
def test_what_comes_within_the_window_comes_out_in_order_and_whole(
    points: list[int],
) -> None:
    order, lane = reordering(window=8), LaneQueue()
    for point in points:
        order.check(point, 1)
        lane.take(order.push(point, point, 1, 0.0, 100))
    assert lane.places == list(range(len(points)))
    assert lane.late == []
    assert not order.is_holding
    assert order.nbytes == 0


@given(
    points=st.lists(st.integers(0, 100), unique=True),
    times=st.lists(st.floats(0, 3), min_size=101, max_size=101),
    max_bytes=st.integers(0, 12),
    skips=st.sets(st.integers(0, 100), max_size=3),
)
def test_every_point_stands_in_its_place_or_is_late_for_a_hole(
    points: list[int], times: list[float], max_bytes: int, skips: set[int]
) -> None:
    order, lane = reordering(window=10, window_s=4.0), LaneQueue()
    now = 0.0
    for index, (point, passed) in enumerate(zip(points, times, strict=False)):
        now += passed
        order.check(point, 1)
        lane.take(order.push(point, point, 1, now, max_bytes))
        assert order.stop - order.next_point <= 10
        assert order.nbytes <= max_bytes
        if index in skips:
            lane.take(order.skip(3))
            assert not order.is_holding
        lane.take(order.give_up(now))
    lane.take(order.flush())
    assert len(lane.places) == order.next_point == order.stop
    placed = [point for point in lane.places if point is not None]
    assert sorted(placed + lane.late) == sorted(points)
    for point in points:
        with pytest.raises(ValueError, match=f"d: point {point} was sent before"):
            order.check(point, 1)


def test_a_hole_is_given_up_when_it_was_noticed_too_long_ago() -> None:
    order, lane = reordering(window_s=5.0), LaneQueue()
    lane.take(order.push(0, 0, 1, 0.0, 100))
    lane.take(order.push(2, 2, 1, 1.0, 100))
    lane.take(order.push(5, 5, 1, 4.0, 100))
    lane.take(order.give_up(5.9))
    assert lane.places == [0]
    lane.take(order.give_up(6.0))
    assert lane.places == [0, None, 2]
    lane.take(order.give_up(9.0))
    assert lane.places == [0, None, 2, None, None, 5]
    lane.take(order.push(4, 4, 1, 9.0, 100))
    assert lane.late == [4]


def test_a_point_that_is_held_or_late_already_is_refused() -> None:
    order = reordering()
    order.push(3, 3, 1, 0.0, 100)
    with pytest.raises(ValueError, match="d: point 3 was sent before"):
        order.check(2, 2)
    order.flush()
    order.push(1, 1, 1, 0.0, 100)
    with pytest.raises(ValueError, match="d: point 1 was sent before"):
        order.check(1, 1)
    order.check(2, 1)


@pytest.mark.parametrize(("point", "count"), [(-1, 1), (MAX_POINTS, 1)])
def test_numbers_that_no_point_can_have_are_refused(point: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"d: point {point} is out of range"):
        reordering().check(point, count)


def test_points_in_order_are_not_held_at_all() -> None:
    order = reordering()
    order.advance(1000)
    assert order.is_next(1000)
    assert not order.is_next(1001)
    assert order.push(1001, 1001, 1, 0.0, 100) == []
    assert order.push(1000, 1000, 1, 0.0, 100) == [Ready(1000), Ready(1001)]
