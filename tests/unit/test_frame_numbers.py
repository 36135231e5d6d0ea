"""Frame numbers: each is taken once, and what is missing is known."""

from hypothesis import given
from hypothesis import strategies as st

from scanbus.publisher.gateways.runner.frame_numbers import FrameNumbers, Place
from scanbus.publisher.gateways.runner.lost_frames import lost_at_start


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


def test_only_frames_before_the_one_that_came_first_were_lost_before_it() -> None:
    """Those after it may have been lost with a gateway that was killed."""
    numbers = FrameNumbers(0)
    numbers.add(30)
    (lost,) = lost_at_start(["eiger"], numbers, 5, 60)
    assert (lost.first, lost.stop) == (0, 5)
    assert lost.text == "frame 5 came first: frames 0 to 4 were lost before it"
    assert lost_at_start(["eiger"], numbers, 0, 60) == []
