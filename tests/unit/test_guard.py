"""The guard of the unit tests notices what it should, even if somebody catches it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import pytest


class Guard(Protocol):
    """See conftest.py beside this file."""

    def take_refused(self) -> list[str]: ...


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: subprocess.run([sys.executable], check=True), "starts a process"),
        (lambda: os.system("true"), "starts a process"),
        (os.fork, "starts a process"),
        (lambda: time.sleep(0.0), "sleeps 0.0 s"),
    ],
    ids=["subprocess", "system", "fork", "sleep"],
)
def test_a_unit_test_that_starts_a_process_or_sleeps_fails(
    call: Callable[[], Any], sentence: str, guard: Guard
) -> None:
    with pytest.raises(AssertionError, match=sentence):
        call()

    (refused,) = guard.take_refused()  # Otherwise this test would fail at its end.
    assert sentence in refused
