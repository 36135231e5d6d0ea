"""No error ends a guarded loop; each is logged once until the attempt succeeds."""

import pytest
import redis
from structlog.testing import capture_logs

from scanbus.bus.store import LoopGuard
from scanbus.schemas.errors import BusUnavailableError
from scanbus.schemas.log_events import LogEvent

ERRORS = [
    redis.exceptions.ResponseError("UNBLOCKED client unblocked"),
    redis.exceptions.NoPermissionError("no permissions"),
    redis.exceptions.DataError("cannot be sent"),
    RuntimeError("can't start new thread"),
    MemoryError(),
    TypeError("an integer in place of a list"),
]


def is_failing(guard: LoopGuard) -> bool:
    """Whether it fails, as both of its answers say."""
    assert (guard.failing_s("read") > 0) == guard.is_failing
    return guard.is_failing


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
def test_an_error_is_logged_once_until_the_attempt_succeeds(error: Exception) -> None:
    guard = LoopGuard("test", "redis://bus")
    with capture_logs() as logs:
        for _ in range(2):
            for _ in range(3):
                with guard.attempt("read"):
                    raise error
            assert is_failing(guard)
            with guard.attempt("read"):
                pass
            assert not is_failing(guard)
    assert [each["event"] for each in logs] == [LogEvent.ATTEMPT_REPEATED] * 2
    assert {each["what"] for each in logs} == {"read"}
    assert all(str(error) in each["reason"] for each in logs)


def test_a_lost_connection_ends_the_round() -> None:
    guard = LoopGuard("test", "redis://bus")
    with pytest.raises(BusUnavailableError), guard.attempt("read"):
        raise redis.exceptions.ConnectionError
    assert not guard.is_failing


def test_attempts_and_scans_fail_on_their_own() -> None:
    guard = LoopGuard("test", "redis://bus")
    with capture_logs() as logs:
        for scan in ("a", "b"):
            for what in ("read", "write"):
                with guard.attempt(what, scan):
                    raise ValueError(what)
        with guard.attempt("read", "a"):
            pass
    assert [(each["what"], each["scan"]) for each in logs] == [
        ("read", "a"),
        ("write", "a"),
        ("read", "b"),
        ("write", "b"),
    ]
    guard.forget("a")
    assert guard.is_failing
    guard.forget("b")
    assert not guard.is_failing


def test_who_is_told_to_end_ends() -> None:
    guard = LoopGuard("test", "redis://bus")
    with pytest.raises(KeyboardInterrupt), guard.attempt("read"):
        raise KeyboardInterrupt
