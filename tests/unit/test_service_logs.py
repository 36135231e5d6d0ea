"""The log of a service goes to stderr, and never to what has its descriptor later."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from scanbus.cli.logs import log_to_stderr


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_nothing_is_written_to_what_has_the_descriptor_of_a_closed_redirection(
    tmp_path: Path,
) -> None:
    ours, theirs = os.pipe()
    with (tmp_path / "log").open("w") as file, contextlib.redirect_stderr(file):
        log_to_stderr(is_service=True)
        structlog.get_logger().warning("said")
        descriptor = file.fileno()
    assert "said" in (tmp_path / "log").read_text()

    try:
        # As the next socket of the program would get it.
        os.dup2(theirs, descriptor)
        structlog.get_logger().warning("later")
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        for each in {ours, theirs, descriptor}:
            os.close(each)
