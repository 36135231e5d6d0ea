"""Frame numbers: each is taken once, and what is missing is known."""

from hypothesis import given
from hypothesis import strategies as st

from scanbus.publisher.gateways.runner.frame_numbers import FrameNumbers, Place


@given(st.integers(0, 1), st.lists(st.integers(0, 40), max_size=80))
def test_numbers_are_as_in_a_set(first: int, came: list[int]) -> None:
    numbers = FrameNumbers(first)
    seen: set[int] = set()
    for number in came:
        expected = Place.REPEATED if number in seen else Place.NEW
        if number < first:
            expected = Place.BEFORE_FIRST
        else:
            seen.add(number)
        assert numbers.add(number) is expected
        stop = max(seen, default=first - 1) + 1
        missing = [n for low, high in numbers.missing() for n in range(low, high)]
        assert numbers.stop == stop
        assert missing == sorted(set(range(first, stop)) - seen)
        assert numbers.n_missing == len(missing)


def test_an_impossible_number_changes_nothing() -> None:
    numbers = FrameNumbers(0)
    assert numbers.add(2**31) is Place.TOO_FAR
    assert numbers.add(0) is Place.NEW
    assert numbers.missing() == []
