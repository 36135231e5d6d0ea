"""A thread that sleeps for a time wakes, whatever passes between two steps."""

import sys
import threading
from collections.abc import Callable
from types import FrameType

import pytest

from scanbus.publisher.queue.inbox import Inbox
from scanbus.publisher.queue.locks import Waiters, Wakeup
from scanbus.publisher.queue.tasks import Question, Task
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


class _Scan:
    """A scan of tasks; nothing is done to it."""

    is_over = is_closed = False
    end: Task | None = None

    def set_end(self, end: Task) -> None: ...

    def check_open(self) -> None: ...

    def fail_with(self, error: BaseException) -> None: ...

    def note_room(self) -> None: ...


def put_in_inbox() -> None:
    inbox = Inbox()
    for _ in range(3):
        inbox.put(Question(_Scan(), lambda: None))
    inbox.shut("closed")


def wake_thrice() -> None:
    wakeup = Wakeup()
    for _ in range(3):
        wakeup.wake()


@pytest.mark.parametrize("wake", [put_in_inbox, wake_thrice])
def test_waking_a_thread_that_is_awake_raises_nothing_inside(
    wake: Callable[[], None],
) -> None:
    """An interrupt while it is handled would stay the context of later exceptions."""
    raised: list[object] = []

    def note(_frame: FrameType, event: str, argument: object) -> None:
        if event == "c_exception":
            raised.append(argument)

    sys.setprofile(note)
    try:
        wake()
    finally:
        sys.setprofile(None)
    assert raised == []
