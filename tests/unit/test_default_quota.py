"""The quota of a scan that asks for none follows what it declares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.publisher.declare.arguments import declare_channel, declare_detector
from scanbus.publisher.declare.default_quota import default_quota, smaller_quotas
from scanbus.publisher.declare.lane_plan import Declared, plan_lanes

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
