"""Steps of writing: timed, reported when they stall, with failpoints for tests.

A system call on a stalled mount can block for an unlimited time and cannot be
interrupted. :class:`Steps` reports which step of which file is blocked, and since when.
Any system call may be the one that blocks, so a watched thread is at work all the time,
except while it says that it waits for the bus or another thread (:func:`waiting`).

There is a failpoint before and after each step. ``SCANBUS_FAILPOINTS``, e.g.
``link.before=kill@3;fsync.after=stop@1``, defines actions for the n-th hit of a
failpoint: the process kills or stops itself, raises an error of the operating system
(``write.before=raise=ENOSPC@2``) or is delayed (``close.before=delay=0.5@1``). Each
action is first written to the file named by ``SCANBUS_FAILPOINT_LOG``, so a kill is on
record; the number of hits of each failpoint is written when the process exits. Without
the variable, a step costs one comparison.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from scanbus.schemas.errors import ConfigurationError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = [
    "FAILPOINTS",
    "FAILPOINTS_VARIABLE",
    "FAILPOINT_LOG_VARIABLE",
    "StepName",
    "Steps",
    "step",
    "waiting",
    "write_hits",
]

log = get_logger()
_watched = threading.local()

StepName: TypeAlias = Literal[
    "renumber",
    "rename",
    "claim",
    "write",
    "flush",
    "close",
    "verify",
    "fsync",
    "link",
    "fsync_folder",
    "master",
    "scan_file",
    "manifest",
    "acknowledge",
    "trim",
    "verdict",
    "renew",
    "join_copy",
    "join_verify",
    "join_fsync",
    "join_link",
    "join_fsync_folder",
    "join_remove",
]
"""All steps at which a kill, an error or a delay must not lose data."""

FAILPOINTS_VARIABLE: Final = "SCANBUS_FAILPOINTS"
FAILPOINT_LOG_VARIABLE: Final = "SCANBUS_FAILPOINT_LOG"
FAILPOINTS: Final = tuple(
    f"{name}.{when}" for name in get_args(StepName) for when in ("before", "after")
)
"""All failpoints: one before and one after each step."""
_KINDS: Final = ("kill", "stop", "raise", "delay")


def step(name: StepName) -> AbstractContextManager[None]:
    """Return a context for one step that is not timed.

    Used for steps within a timed phase (:meth:`Steps.phase`), and for calls to Redis,
    which have their own deadlines. If the step fails, its second failpoint is not
    reached.
    """
    return (
        _NO_FAILPOINTS
        if _failpoints is None
        else _between_failpoints(_failpoints, name)
    )


def waiting() -> AbstractContextManager[None]:
    """Return a context in which this thread does not touch files.

    It waits for Redis, for the service or for another thread, which have deadlines or
    are watched themselves.
    """
    steps: Steps | None = getattr(_watched, "steps", None)
    return nullcontext() if steps is None else steps.unwatched()


def write_hits() -> None:
    """Write the hits of each failpoint, in a process without exit handlers."""
    if _failpoints is not None:
        _failpoints.write_hits()


class Steps:
    """Timer of the steps of one attempt; safe to share between its threads.

    Parameters
    ----------
    slow_s : float
        Steps and phases that take longer are logged when they end.
    """

    def __init__(self, slow_s: float = 5.0) -> None:
        self._slow_s = slow_s
        self._lock = threading.Lock()
        self._current: dict[int, tuple[str, str, float]] = {}

    @contextmanager
    def working(self, path: Path) -> Iterator[None]:
        """Watch this thread: what it does outside of phases is called ``work``."""
        _watched.steps = self
        try:
            with self._set(("work", path.name)):
                yield
        finally:
            _watched.steps = None

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Do not count what this thread does; see :func:`waiting`."""
        with self._set(None):
            yield

    @contextmanager
    def step(self, name: StepName, path: Path) -> Iterator[None]:
        """Time one step on one file; may be nested in a phase."""
        with self.phase(name, path), step(name):
            yield

    @contextmanager
    def phase(self, name: str, path: Path) -> Iterator[None]:
        """Time a part of an attempt that may hang and has no failpoints of its own.

        Parameters
        ----------
        name : str
            ``open``, ``write``, ``flush``, ``leave``, …: its name in logs.
        """
        started = time.monotonic()
        try:
            with self._set((name, path.name)):
                yield
        finally:
            elapsed = time.monotonic() - started
            if elapsed > self._slow_s:
                log.warning(
                    LogEvent.SLOW_STEP,
                    step=name,
                    file=str(path),
                    seconds=round(elapsed, 1),
                )

    @contextmanager
    def _set(self, doing: tuple[str, str] | None) -> Iterator[None]:
        """Note what this thread does, from now on, and then what it did before."""
        thread = threading.get_ident()
        outer = self._current.get(thread)
        self._note(thread, doing)
        try:
            yield
        finally:
            # From now on: each step that ends shows that the thread gets on.
            self._note(thread, outer and outer[:2])

    def _note(self, thread: int, doing: tuple[str, str] | None) -> None:
        with self._lock:
            if doing is None:
                self._current.pop(thread, None)
            else:
                self._current[thread] = (*doing, time.monotonic())

    def stalled(self) -> str:
        """Return a sentence about the longest running step, empty if none is slow."""
        now = time.monotonic()
        with self._lock:
            current = sorted(self._current.values(), key=lambda each: each[2])
        if not current or now - current[0][2] < self._slow_s:
            return ""
        name, path, started = current[0]
        return f"stalled: {name} of {path} has taken {now - started:.0f} s so far"


@dataclass(frozen=True, slots=True)
class _Action:
    """The action to perform at the n-th hit of one failpoint."""

    name: str
    kind: str
    value: str
    hit: int


class _Failpoints:
    """The actions and hit counts of this process's failpoints."""

    def __init__(self, actions: Sequence[_Action], log_path: str) -> None:
        self._actions = {(action.name, action.hit): action for action in actions}
        self._log_path = log_path
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Count one hit of a failpoint and perform the action defined for it."""
        with self._lock:
            self._hits[name] += 1
            action = self._actions.get((name, self._hits[name]))
            if action is not None:
                self._append(f"{name} {action.hit} {action.kind}\n")
        if action is not None:
            _perform(action)

    def write_hits(self) -> None:
        """Write the hit count of each failpoint to the log file."""
        lines = (f"{name} {hits} passed\n" for name, hits in self._hits.items())
        self._append("".join(lines))

    def _append(self, text: str) -> None:
        if self._log_path:
            # A single append: other processes write to the same file.
            with open(self._log_path, "a", buffering=1) as file:  # noqa: PTH123
                file.write(text)


@contextmanager
def _between_failpoints(failpoints: _Failpoints, name: StepName) -> Iterator[None]:
    failpoints.reach(f"{name}.before")
    yield
    failpoints.reach(f"{name}.after")


def _perform(action: _Action) -> None:
    match action.kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # SIGKILL may be delivered with a delay.
        case "stop":
            # To this thread: a signal sent to the process may be handled by another
            # thread, and this one could continue for a moment.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        case "delay":
            time.sleep(float(action.value))
        case _:
            number = getattr(errno, action.value)
            raise OSError(number, f"{os.strerror(number)} (failpoint {action.name})")


def _parse_actions(text: str) -> list[_Action]:
    return [_parse_action(part.strip()) for part in text.split(";") if part.strip()]


def _parse_action(part: str) -> _Action:
    name, _, action = part.partition("=")
    action, _, hit = action.partition("@")
    kind, _, value = action.partition("=")
    if name not in FAILPOINTS:
        raise ConfigurationError(FAILPOINTS_VARIABLE, f"{name!r} is not a failpoint")
    if kind not in _KINDS or not (hit or "1").isdigit():
        raise ConfigurationError(
            FAILPOINTS_VARIABLE, f"{part!r}: expected NAME=ACTION@N"
        )
    if kind == "raise" and not hasattr(errno, value):
        raise ConfigurationError(
            FAILPOINTS_VARIABLE, f"{part!r}: {value!r} is not an error number"
        )
    if kind == "delay" and not value.replace(".", "", 1).isdigit():
        raise ConfigurationError(
            FAILPOINTS_VARIABLE, f"{part!r}: {value!r} is not a time in seconds"
        )
    return _Action(name, kind, value, int(hit or "1"))


def _failpoints_from(environment: Mapping[str, str]) -> _Failpoints | None:
    text = environment.get(FAILPOINTS_VARIABLE)
    if text is None:
        return None
    log_path = environment.get(FAILPOINT_LOG_VARIABLE, "")
    failpoints = _Failpoints(_parse_actions(text), log_path)
    atexit.register(failpoints.write_hits)
    return failpoints


_failpoints = _failpoints_from(os.environ)
_NO_FAILPOINTS: Final = nullcontext()
