"""Joining channels by the numbers of their points."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanbus.subscriber.joined import Ids, Joined, join_ids

NUMBERS = st.lists(st.one_of(st.none(), st.integers(-3, 12)), max_size=12)


def ids(numbers: list[int | None], *, is_over: bool = True) -> Ids:
    values = np.array([number or 0 for number in numbers], np.int64)
    known = np.array([number is not None for number in numbers], bool)
    return Ids(values, known, is_over)


@given(
    of=st.dictionaries(st.sampled_from("abc"), st.tuples(NUMBERS, st.booleans())),
)
def test_a_join_names_every_point_and_every_hole(
    of: dict[str, tuple[list[int | None], bool]],
) -> None:
    joined = join_ids({name: ids(n, is_over=over) for name, (n, over) in of.items()})

    every = sorted({n for numbers, _ in of.values() for n in numbers if n is not None})
    assert joined.ids.tolist() == every
    for name, (numbers, over) in of.items():
        expected = [numbers.index(n) if n in numbers else -1 for n in every]
        assert joined.points[name].tolist() == expected
        last = max((n for n in numbers if n is not None), default=-100)
        lacking = [n for n in every if n not in numbers]
        pending = [n for n in lacking if n > last and not over]
        assert joined.pending[name].tolist() == pending
        holes = [n for n in lacking if n not in pending]
        assert joined.holes[name].tolist() == holes
        assert points(joined.unnumbered[name]) == [
            i for i, n in enumerate(numbers) if n is None
        ]
        assert points(joined.repeated[name]) == [
            i for i, n in enumerate(numbers) if n is not None and n in numbers[:i]
        ]
    whole = [all(n in numbers for numbers, _ in of.values()) for n in every]
    assert joined.is_whole.tolist() == whole


def points(found: tuple[tuple[int, int], ...]) -> list[int]:
    return [point for start, stop in found for point in range(start, stop)]


def test_nothing_joins_to_nothing() -> None:
    joined: Joined = join_ids({})
    assert joined.ids.tolist() == []
    assert joined.is_whole.tolist() == []
