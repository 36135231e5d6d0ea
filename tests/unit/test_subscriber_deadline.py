"""How long a wait lasts, with a clock of its own."""

import pytest

from scanbus.schemas.errors import DeadlineError
from scanbus.subscriber.deadline import Deadline


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_deadline_counts_from_the_last_thing_that_came(clock: Clock) -> None:
    deadline = Deadline("data", 10.0, clock=clock)
    clock.now += 9
    deadline.check()
    deadline.restart()
    clock.now += 9
    deadline.check()
    clock.now += 1
    with pytest.raises(DeadlineError, match="data: gave up after 10 s"):
        deadline.check()


def test_without_a_deadline_nothing_is_given_up(clock: Clock) -> None:
    deadline = Deadline("data", None, clock=clock)
    clock.now += 1e9
    deadline.check()
    assert deadline.block_ms() == 1000  # It would wait on.


def test_reads_block_until_the_deadline_but_never_for_ever(clock: Clock) -> None:
    deadline = Deadline("data", 1.5, clock=clock)
    assert deadline.block_ms() == 1000
    clock.now += 1.2
    assert deadline.block_ms() == 300
    clock.now += 9
    assert deadline.block_ms() == 1


def test_a_publisher_is_lost_once_it_was_silent_for_long_enough(clock: Clock) -> None:
    deadline = Deadline("data", None, 5.0, clock)
    assert not deadline.is_lost(publisher_alive=False)
    clock.now += 4
    assert not deadline.is_lost(publisher_alive=False)
    assert not deadline.is_lost(publisher_alive=True)
    clock.now += 4
    assert not deadline.is_lost(publisher_alive=False)
    clock.now += 5
    assert deadline.is_lost(publisher_alive=False)
