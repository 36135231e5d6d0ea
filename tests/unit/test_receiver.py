"""The receiver takes messages until its queue is full, and loses none."""

import threading
from collections.abc import Iterator

import pytest

from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.publisher.gateways.runner.receiver import Receiver
from scanbus.schemas.errors import ConfigurationError, SourceFailedError

N_BYTES = 100


class Counting:
    """A source with as many messages as one likes; it counts what was taken."""

    def __init__(self, n_messages: int) -> None:
        self._left: Iterator[int] = iter(range(n_messages))
        self.taken = 0
        self.is_closed = threading.Event()

    def receive(self, timeout_s: float) -> RawMessage | None:
        number = next(self._left, None)
        if number is None:
            threading.Event().wait(timeout_s)
            return None
        self.taken += 1
        return RawMessage(number, N_BYTES, 0.0)

    def close(self) -> None:
        self.is_closed.set()


def receiver(source: Counting, **bounds: int) -> Receiver:
    return Receiver(
        lambda: source,
        max_bytes=bounds.get("max_bytes", 10**9),
        max_messages=bounds.get("max_messages", 10**9),
        why_full=lambda: "a test",
    )


@pytest.mark.parametrize(
    "bounds", [{"max_messages": 5}, {"max_bytes": 5 * N_BYTES}], ids=["many", "large"]
)
def test_a_full_queue_stops_the_source_and_loses_nothing(
    bounds: dict[str, int],
) -> None:
    source = Counting(50)
    thread = receiver(source, **bounds)
    thread.start()
    while thread.state.n_messages < 5:
        threading.Event().wait(0.01)
    threading.Event().wait(0.05)
    assert source.taken == 5
    got = [thread.take(5.0) for _ in range(50)]
    thread.stop()
    thread.join(5)
    assert [each.content for each in got if each] == list(range(50))
    assert thread.state.peak_bytes == 5 * N_BYTES
    assert thread.state.full_s > 0
    assert source.is_closed.is_set()
    assert thread.is_done


def test_what_was_received_before_a_stop_is_taken() -> None:
    source = Counting(3)
    thread = receiver(source)
    thread.start()
    while thread.state.n_messages < 3:
        threading.Event().wait(0.01)
    thread.stop()
    thread.join(5)
    assert not thread.is_done
    assert [thread.take(0) is not None for _ in range(4)] == [True] * 3 + [False]
    assert thread.is_done


def test_a_source_that_cannot_be_opened_is_an_error_to_be_raised() -> None:
    def fail() -> Counting:
        raise ConfigurationError("address", "it is none")

    thread = Receiver(fail, max_bytes=1, max_messages=1, why_full=str)
    thread.start()
    assert thread.take(5.0) is None
    assert thread.is_done
    with pytest.raises(ConfigurationError, match="it is none"):
        thread.raise_error()


class Failing(Counting):
    """A source that fails after its last message."""

    def receive(self, timeout_s: float) -> RawMessage | None:
        message = super().receive(timeout_s)
        if message is None:
            raise OSError(5, "Input/output error")
        return message


def test_what_came_before_a_source_failed_is_taken_and_the_error_is_raised() -> None:
    source = Failing(3)
    thread = receiver(source)
    thread.start()
    thread.join(5)
    assert [thread.take(5.0) is not None for _ in range(4)] == [True] * 3 + [False]
    with pytest.raises(SourceFailedError, match=r"the source has failed: .*output err"):
        thread.raise_error()
    assert source.is_closed.is_set()


class Hanging(Counting):
    """A source that does not keep its promise to return in time."""

    def __init__(self) -> None:
        super().__init__(1)
        self.may_go_on = threading.Event()

    def receive(self, timeout_s: float) -> RawMessage | None:
        self.may_go_on.wait(10)
        return super().receive(timeout_s)


def test_a_source_that_hangs_is_told_from_one_that_waits() -> None:
    source = Hanging()
    thread = receiver(source)
    thread.start()
    threading.Event().wait(0.3)
    silent_s = thread.silent_s
    assert silent_s >= 0.2
    source.may_go_on.set()
    assert thread.take(5.0) is not None
    while thread.silent_s > silent_s:
        threading.Event().wait(0.01)
    thread.stop()
    thread.join(5)
