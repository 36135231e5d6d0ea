"""The quota of a scan that asks for none follows what it declares."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.publisher.declare.arguments import declare_channel, declare_detector
from scanbus.publisher.declare.default_quota import default_quota, smaller_quotas
from scanbus.publisher.declare.lane_plan import (
    Declared,
    holds_all,
    lane_requests,
    plan_lanes,
)
from scanbus.publisher.transport.reserver import wait_for_room
from scanbus.schemas.errors import QuotaRefusedError

MIB = 2**20
BUDGET = 600 * MIB


def counter(name: str, points: int | None = None) -> Declared:
    return declare_channel(name, points=points)


def detector(side: int, points: int | None = None) -> Declared:
    codec = "bitshuffle-lz4"
    return declare_detector(
        "d", shape=(side, side), dtype="uint32", codec=codec, points=points
    )


@pytest.mark.parametrize(
    ("declared", "compression", "expected_mib"),
    [
        ([counter("a", 10)], 1.0, 4),
        ([counter("a")], 1.0, 8),
        ([counter(f"c{number}") for number in range(100)], 1.0, 25),
        ([detector(1024, 10)], 1.0, 80),
        ([detector(1024, 10)], 8.0, 10),
        ([detector(1024, 1000)], 1.0, 150),
        ([detector(1024), counter("a", 10)], 1.0, 150),
        # A quarter of the budget does not hold a frame.
        ([detector(8192, 1)], 1.0, 600),
    ],
)
def test_it_is_what_the_channels_need(
    declared: list[Declared], compression: float, expected_mib: int
) -> None:
    quota = default_quota(declared, compression, BUDGET)

    assert quota == pytest.approx(expected_mib * MIB, rel=0.01)
    assert plan_lanes("u", declared, quota, compression)


@given(
    side=st.integers(1, 3000),
    points=st.none() | st.integers(1, 10**6),
    n_counters=st.integers(0, 40),
    compression=st.floats(1.0, 50.0),
    budget=st.integers(10**6, 2**40),
)
def test_it_never_exceeds_the_budget_and_smaller_ones_still_hold_a_chunk(
    side: int, points: int | None, n_counters: int, compression: float, budget: int
) -> None:
    declared = [detector(side, points), *(counter(f"c{n}") for n in range(n_counters))]

    quota = default_quota(declared, compression, budget)
    smaller = list(smaller_quotas(declared, compression, quota, budget))

    assert 0 < quota <= budget
    assert quota >= min(4 * MIB, budget // 4)
    assert smaller == sorted(smaller, reverse=True)
    for each in smaller:
        assert each < quota
        assert plan_lanes("u", declared, each, compression)


@given(
    side=st.integers(1, 3000),
    n_counters=st.integers(0, 40),
    compression=st.floats(1.0, 50.0),
    quota=st.integers(1, 2**32),
)
def test_a_quota_holds_all_lanes_where_they_can_be_planned(
    side: int, n_counters: int, compression: float, quota: int
) -> None:
    declared = [detector(side), *(counter(f"c{n}") for n in range(n_counters))]
    try:
        plan_lanes("u", declared, quota, compression)
    except QuotaRefusedError:
        is_planned = False
    else:
        is_planned = True
    assert holds_all(lane_requests(declared, compression), quota) == is_planned


@pytest.mark.parametrize(("room", "n_tried"), [(9, 1), (8, 1), (4, 2), (1, 4)])
def test_smaller_quotas_are_computed_only_if_larger_ones_do_not_fit(
    room: int, n_tried: int
) -> None:
    """For thousands of channels each takes as long as planning all their lanes."""
    computed: list[int] = []

    def quotas() -> Iterator[int]:
        for quota in (8, 4, 2, 1):
            computed.append(quota)
            yield quota

    def reserve(quota: int) -> None:
        if quota > room:
            raise QuotaRefusedError("u", quota, "others have the room")

    found = wait_for_room(
        "u", quotas(), reserve, budget=10, deadline_s=0.0, why=lambda: ""
    )

    assert found == computed[-1] <= room
    assert len(computed) == n_tried
