"""Logger for code that runs inside a user's program; imports structlog lazily.

structlog imports rich, which would make ``import scanbus.publisher`` take a third
longer, so it is imported with the first event.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

__all__ = ["LOST_LINES", "get_logger", "relay_logs", "with_lost"]

LOST_LINES: Final = "log_lines_lost"
"""Field of an event: how many before it could not be written."""
_MOST_COUNTED: Final = 100_000


class _Logger:
    """Passes each event to structlog; an event that cannot be written is counted.

    As with `logging`, no error reaches whoever logs: a disk that is full, a terminal
    that is gone or a processor of the user's program must not end an acquisition.
    """

    def __init__(self) -> None:
        # One mark for each: several threads, finalisers and handlers log, and no step
        # of a deque can be interrupted.
        self._lost: deque[None] = deque(maxlen=_MOST_COUNTED)

    def __getattr__(self, name: str) -> Callable[..., None]:
        def say(event: str, **fields: Any) -> None:
            # Events of this level are mostly not written at all.
            n_lost = 0 if name == "debug" else self._take_lost()
            try:
                getattr(_structlog(), name)(event, **with_lost(fields, n_lost))
            except Exception:  # noqa: BLE001 - there is nowhere to say it
                self._lost.extend([None] * (n_lost + 1))

        return say

    def _take_lost(self) -> int:
        n_lost = 0
        with suppress(IndexError):
            while True:
                self._lost.pop()
                n_lost += 1
        return n_lost


def with_lost(fields: MutableMapping[str, Any], n_lost: int) -> Mapping[str, Any]:
    """Return the fields of an event that says how many lines were lost before it."""
    if not n_lost:
        return fields
    return {**fields, LOST_LINES: fields.get(LOST_LINES, 0) + n_lost}


def _structlog() -> Any:
    import structlog  # noqa: PLC0415

    if structlog.is_configured():
        return structlog.get_logger()
    # structlog's default is stdout, which belongs to the program's results, and a
    # traceback with all local variables, which may hold a password.
    dev, processors = structlog.dev, structlog.processors
    renderer = dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=dev.plain_traceback
    )
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            processors.add_log_level,
            processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            renderer,
        ],
    )


def get_logger() -> Any:
    """Return a structlog logger that writes to stderr unless structlog is configured.

    The configuration is looked up at each event, not when this is called. Its methods
    raise nothing: see ``log_lines_lost`` in a later event.
    """
    return _Logger()


def relay_logs(send: Callable[[str, str, dict[str, Any]], None]) -> None:
    """Pass every event of this process to `send`, instead of writing it.

    For a child whose parent writes its events, in the way in which it writes its own.

    Parameters
    ----------
    send : callable
        Called with the level, the event and its fields; tracebacks are text.
    """
    import structlog  # noqa: PLC0415

    def relay(_: Any, method: str, fields: Any) -> Any:
        send(method, str(fields.pop("event")), fields)
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            relay,
        ]
    )
