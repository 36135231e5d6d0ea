"""Run the demo: a private Redis and three processes, with their progress."""

from __future__ import annotations

import importlib.util
import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanbus.cli.demo.process_group import ChildProcess, ProcessGroup
from scanbus.cli.demo.summary import print_summary
from scanbus.cli.output import print_note
from scanbus.cli.private_redis import PrivateRedis
from scanbus.cli.progress import shown_progress
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

__all__ = ["DemoError", "run_demo"]

DEFAULT_OUT = "scanbus-demo"
PICTURE = "live.png"
_NEEDED = ("numpy", "h5py", "hdf5plugin", "matplotlib")
_REDIS_OPTIONS: dict[str, str | int] = {
    "maxmemory": "768mb",
    "maxmemory-policy": "noeviction",
}
# Time to start, draw and close on a busy machine, plus a time per frame.
_DEADLINE_S = 120.0
_DEADLINE_PER_FRAME_S = 0.5
_POLL_S = 0.2
# The writer exits with these for partial and failed verdicts, which are no errors here.
_VERDICT_CODES = tuple(word.exit_code for word in VerdictWord)


class DemoError(ScanbusError):
    """One of the demo's processes failed."""

    process: str
    reason: str
    template = "the demo's {process} gave up: {reason}"


def run_demo(out: Path | None, frames: int) -> ExitCode:
    """Run the demo: send a simulated scan through Redis into NeXus files.

    Parameters
    ----------
    out : Path or None
        Folder of files and picture, by default ``scanbus-demo``; if it exists and is
        not empty, the next free name is used.
    frames : int
        Number of detector frames.

    Returns
    -------
    ExitCode
        Exit code of the verdict.

    Raises
    ------
    DemoError
        If one of the processes fails, or takes too long.
    NoRedisServerError
        If there is no Redis server, and none can be fetched.
    PrivateRedisError
        If the Redis server does not start.
    ImportError
        If a package that the demo needs is missing.
    """
    _check_packages()
    # After the check, which names what is missing.
    from scanbus.writer import init_root  # noqa: PLC0415

    folder = _free_folder(out or Path(DEFAULT_OUT))
    init_root(folder)
    with _termination_as_interrupt():
        print_note(f"{counted(frames, 'frame')} through a private Redis into {folder}")
        with PrivateRedis(options=_REDIS_OPTIONS, report=print_note) as redis:
            _run_processes(redis.url, folder, frames)
            verdict = _verdict(redis.url)
    print_summary(folder, verdict, folder / PICTURE)
    return verdict.verdict.exit_code


def _check_packages() -> None:
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"no module named {package!r}", name=package)


def _free_folder(wanted: Path) -> Path:
    """Make and return the folder, or one with the next free name."""
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    raise AssertionError("count() never ends")


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, so that both clean up."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_processes(url: str, folder: Path, frames: int) -> None:
    """Run the three processes to their end."""
    with ProcessGroup() as group, shown_progress() as progress:
        for name in ("published", "seen live", "written"):
            progress(name, 0, frames)
        publisher = group.start(
            "publisher", "scanbus.cli.demo.publisher", url, str(frames)
        )
        subscriber = group.start(
            "live subscriber",
            "scanbus.cli.demo.subscriber",
            url,
            str(folder / PICTURE),
        )
        writer = group.start("writer", "scanbus.cli.demo.writer", url, str(folder))
        deadline = time.monotonic() + _DEADLINE_S + frames * _DEADLINE_PER_FRAME_S
        running = True
        while running:
            running = any(
                child.exit_code is None for child in (publisher, subscriber, writer)
            )
            for report in group.reports(_POLL_S):
                progress(report.name, report.done, report.total)
            _check(publisher)
            _check(subscriber)
            _check(writer, good=_VERDICT_CODES)
            if time.monotonic() > deadline:
                raise DemoError("scan", "it took too long; is this machine very busy?")


def _check(
    child: ChildProcess, *, good: tuple[int, ...] = (ExitCode.COMPLETE,)
) -> None:
    """Raise DemoError if a process failed."""
    code = child.exit_code
    if code is not None and code not in good:
        words = child.last_lines() or "no output on stderr"
        raise DemoError(child.name, f"exit code {code}: {words}")


def _verdict(url: str) -> Verdict:
    from scanbus.subscriber import Subscriber  # noqa: PLC0415

    with Subscriber(url, name="scanbus-demo") as subscriber:
        verdict = subscriber.scan("last").verdict
    if verdict is None:
        raise DemoError("writer", "it exited without a verdict")
    return verdict
