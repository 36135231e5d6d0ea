"""Wait for something in a test, never longer than a deadline."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["found_below", "wait_until"]


def found_below(root: Path, pattern: str) -> list[Path]:
    """Return what `root.rglob(pattern)` finds, though a writer is at work below it.

    `Path.rglob` raises if a folder goes while it looks.
    """
    while True:
        with suppress(FileNotFoundError):
            return list(root.rglob(pattern))


def wait_until(
    condition: Callable[[], bool], *, timeout_s: float = 90.0, what: str = "condition"
) -> None:
    """Return once `condition()` is true, or fail the test after `timeout_s`.

    Only a test that fails waits so long: a busy machine takes ten seconds to start a
    process.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not so after {timeout_s:g} s")
        time.sleep(0.01)
