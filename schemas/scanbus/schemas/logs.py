"""Logger for code that runs inside a user's program; imports structlog lazily.

structlog imports rich, which would make ``import scanbus.publisher`` take a third
longer, so it is imported with the first event.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["get_logger", "relay_logs"]


class _Logger:
    def __getattr__(self, name: str) -> Any:
        import structlog  # noqa: PLC0415

        if structlog.is_configured():
            return getattr(structlog.get_logger(), name)
        # structlog's default is stdout, which belongs to the program's results, and a
        # traceback with all local variables, which may hold a password.
        dev, processors = structlog.dev, structlog.processors
        renderer = dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=dev.plain_traceback
        )
        logger = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.contextvars.merge_contextvars,
                processors.add_log_level,
                processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
                renderer,
            ],
        )
        return getattr(logger, name)


def get_logger() -> Any:
    """Return a structlog logger that writes to stderr unless structlog is configured.

    The configuration is looked up at each event, not when this is called.
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
