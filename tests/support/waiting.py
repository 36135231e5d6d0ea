"""Wait for something in a test, never longer than a deadline."""

import glob
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["found_below", "wait_until"]


def found_below(root: Path, pattern: str) -> list[Path]:
    """Return what matches below a folder in which a writer is at work.

    `Path.rglob` raises if a folder goes while it looks.
    """
    found = glob.glob(  # noqa: PTH207 - it passes over what is gone
        f"**/{pattern}", root_dir=root, recursive=True, include_hidden=True
    )
    return [root / each for each in found]


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
