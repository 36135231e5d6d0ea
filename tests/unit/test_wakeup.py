"""A thread that sleeps for a time wakes, whatever passes between two steps."""

import threading
from collections.abc import Callable

import pytest

from scanbus.publisher.queue.locks import Waiters, Wakeup
from scanbus.publisher.queue.waker import Waker

# Over before the sleep begins: as if another process had the processor meanwhile.
AT_ONCE_S = 1e-6
MANY = 20_000


def sleep_in_wakeup() -> None:
    Wakeup().sleep(AT_ONCE_S)


def sleep_in_waiters() -> None:
    Waiters().enter().sleep(AT_ONCE_S)


def sleep_in_waker() -> None:
    lock = threading.RLock()
    with lock:
        Waker(lock).sleep_unless(lambda: False, AT_ONCE_S)


@pytest.mark.parametrize("sleep", [sleep_in_wakeup, sleep_in_waiters, sleep_in_waker])
def test_a_sleep_ends_though_its_time_is_over_before_it_begins(
    sleep: Callable[[], None],
) -> None:
    def sleep_often() -> None:
        for _ in range(MANY):
            sleep()

    thread = threading.Thread(target=sleep_often, daemon=True)
    thread.start()
    thread.join(60.0)
    assert not thread.is_alive()


def test_who_is_woken_while_awake_does_not_sleep_once() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.wake()
    assert wakeup.sleep(60.0)
    assert not wakeup.sleep(0.0)
    wakeup.wake()
    wakeup.forget()
    assert not wakeup.sleep(0.0)


def test_no_wake_of_two_threads_is_lost() -> None:
    here, there = Wakeup(), Wakeup()

    def reply() -> None:
        for _ in range(MANY):
            assert here.sleep(60.0)
            there.wake()

    thread = threading.Thread(target=reply, daemon=True)
    thread.start()
    for _ in range(MANY):
        here.wake()
        assert there.sleep(60.0)
    thread.join(60.0)
    assert not thread.is_alive()
