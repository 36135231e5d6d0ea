"""Unit tests start no process and do not sleep: the one that does fails, and says so.

What needs a process of its own belongs in tests/process, what needs Redis in
tests/redis. Python reports new processes to its audit hooks, even where code under test
starts them deep down. It does not report sleeping before 3.13, so `time.sleep` is
replaced for as long as a test runs.
"""

import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

STARTS: Final = frozenset(
    ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
)
"""Audit events of a process that is about to start."""


class Guard:
    """Refuses processes and sleep while a unit test runs.

    There is one per session, since an audit hook cannot be removed. It raises where the
    forbidden call is made, and remembers it in case somebody catches the error.
    """

    def __init__(self) -> None:
        self._is_on = False
        self._refused: list[str] = []
        sys.addaudithook(self._hear)

    def switch_on(self) -> None:
        """Refuse from now on."""
        self._refused.clear()
        self._is_on = True

    def switch_off(self) -> list[str]:
        """Allow everything again, and return what was refused."""
        self._is_on = False
        return self.take_refused()

    def take_refused(self) -> list[str]:
        """Return what was refused, once."""
        refused, self._refused = self._refused, []
        return refused

    def sleep(self, seconds: float) -> None:
        """Stand for `time.sleep`."""
        self._refuse(f"a unit test sleeps {seconds} s; wait for an event, or move it")

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_on and event in STARTS:
            self._refuse(
                f"a unit test starts a process, which belongs in tests/process: "
                f"{event}{arguments[:2]}"
            )

    def _refuse(self, sentence: str) -> None:
        self._refused.append(sentence)
        raise AssertionError(sentence)


@pytest.fixture(scope="session")
def guard() -> Guard:
    """The only guard of this session."""
    return Guard()


@pytest.fixture(autouse=True)
def _no_process_and_no_sleep(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setattr("time.sleep", guard.sleep)
    guard.switch_on()
    yield
    refused = guard.switch_off()
    assert refused == []
