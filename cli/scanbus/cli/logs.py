"""Send log events to stderr, so that stdout has only results."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, cast

from scanbus.cli.log_thread import LogThread
from scanbus.schemas.logs import with_lost

__all__ = ["log_to_stderr"]

_STDERR: Final = 2


def log_to_stderr(level: int = logging.WARNING, *, is_service: bool = False) -> None:
    """Send log events of `level` and above to stderr.

    As text on a terminal; elsewhere (journal, container) as one JSON object per line.

    Parameters
    ----------
    is_service : bool
        Whether the work goes on while nobody takes the log: what is lost then is
        counted in the next event, as ``log_lines_lost``.
    """
    import structlog  # noqa: PLC0415 - imports asyncio, which --help does not need

    is_terminal = sys.stderr.isatty()
    thread = _log_thread() if is_service and not is_terminal else None

    def count_lost(_: Any, __: str, event: MutableMapping[str, Any]) -> Any:
        n_lost = thread.take_lost() if thread is not None else 0
        return with_lost(event, n_lost)

    renderer: structlog.typing.Processor
    if is_terminal:
        renderer = structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if is_terminal else [structlog.processors.format_exc_info]),
            count_lost,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Without a cache it is made for each event, and follows redirections of stderr.
        logger_factory=lambda *_: (
            structlog.PrintLogger(sys.stderr)
            if thread is None
            else structlog.WriteLogger(cast("TextIO", thread))
        ),
        cache_logger_on_first_use=False,
    )


def _log_thread() -> LogThread | None:
    """Return a thread that writes to stderr; None if that is redirected in Python.

    Another file may be closed while the thread lives, and its number given to a socket.
    """
    try:
        is_own = sys.stderr.fileno() == _STDERR
    except io.UnsupportedOperation:
        return None
    return LogThread(_STDERR) if is_own else None
