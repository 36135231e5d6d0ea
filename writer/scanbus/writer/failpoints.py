"""Named places where the fault tests make this process fail.

Without ``SCANBUS_FAILPOINTS`` every :func:`reach` costs one look at a variable. With
it, e.g. ``link.before=kill@3;fsync.after=stop@1``, the n-th time that a place is
reached the process kills or stops itself, raises an error of the operating system
(``write.before=raise=ENOSPC@2``) or is delayed (``close.before=delay=0.5@1``). What is
done is first written to the file that ``SCANBUS_FAILPOINT_LOG`` names, so a kill is on
record; how often each place was passed is written when the process leaves.
"""

from __future__ import annotations

import atexit
import errno
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scanbus.schemas.errors import ConfigurationError

__all__ = ["FAILPOINTS", "LOG_VARIABLE", "VARIABLE", "reach"]

VARIABLE: Final = "SCANBUS_FAILPOINTS"
LOG_VARIABLE: Final = "SCANBUS_FAILPOINT_LOG"
FAILPOINTS: Final = tuple(
    f"{step}.{when}"
    for step in (
        "rename",
        "write",
        "flush",
        "close",
        "verify",
        "fsync",
        "link",
        "fsync_folder",
        "master",
        "scan_file",
        "acknowledge",
        "trim",
        "verdict",
        "renew",
    )
    for when in ("before", "after")
)
"""Every place, before and after each step that matters."""
_KINDS: Final = ("kill", "stop", "raise", "delay")


@dataclass(frozen=True, slots=True)
class _Trap:
    """What happens at the n-th hit of one failpoint."""

    name: str
    kind: str
    value: str
    hit: int


class _Traps:
    """The traps of this process, and how often each failpoint was reached."""

    def __init__(self, traps: Sequence[_Trap], log: str) -> None:
        self._traps = {(trap.name, trap.hit): trap for trap in traps}
        self._log = log
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        with self._lock:
            self._hits[name] += 1
            trap = self._traps.get((name, self._hits[name]))
            if trap is not None:
                self._note(f"{name} {trap.hit} {trap.kind}\n")
        if trap is not None:
            _spring(trap)

    def note_hits(self) -> None:
        """Write how often each failpoint was passed."""
        lines = (f"{name} {hits} passed\n" for name, hits in self._hits.items())
        self._note("".join(lines))

    def _note(self, text: str) -> None:
        if self._log:
            # One write to a file opened for appending: others log to it too.
            with open(self._log, "a", buffering=1) as file:  # noqa: PTH123
                file.write(text)


def _spring(trap: _Trap) -> None:
    match trap.kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # Until the system gets round to it.
        case "stop":
            # To this very thread: sent to the process, another one might take it, and
            # this one could run on for a moment.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        case "delay":
            time.sleep(float(trap.value))
        case _:
            number = getattr(errno, trap.value)
            raise OSError(number, f"{os.strerror(number)} (failpoint {trap.name})")


def _parsed(text: str) -> list[_Trap]:
    return [_trap(part.strip()) for part in text.split(";") if part.strip()]


def _trap(part: str) -> _Trap:
    name, _, action = part.partition("=")
    action, _, hit = action.partition("@")
    kind, _, value = action.partition("=")
    if name not in FAILPOINTS:
        raise ConfigurationError(VARIABLE, f"{name!r} is no failpoint")
    if kind not in _KINDS or not (hit or "1").isdigit():
        raise ConfigurationError(VARIABLE, f"{part!r}: expected NAME=ACTION@N")
    if kind == "raise" and not hasattr(errno, value):
        raise ConfigurationError(VARIABLE, f"{part!r}: {value!r} is no error number")
    if kind == "delay" and not value.replace(".", "", 1).isdigit():
        raise ConfigurationError(VARIABLE, f"{part!r}: {value!r} is no time in seconds")
    return _Trap(name, kind, value, int(hit or "1"))


def _from(environment: Mapping[str, str]) -> _Traps | None:
    text = environment.get(VARIABLE)
    if text is None:
        return None
    traps = _Traps(_parsed(text), environment.get(LOG_VARIABLE, ""))
    atexit.register(traps.note_hits)
    return traps


_traps = _from(os.environ)


def reach(name: str) -> None:
    """Say that this place was reached; fail here if the tests want it.

    Parameters
    ----------
    name : str
        One of `FAILPOINTS`.
    """
    if _traps is not None:
        _traps.reach(name)
