"""Logger for code that runs inside a user's program; imports structlog lazily.

structlog imports rich, which would make ``import scanbus.publisher`` take a third
longer, so it is imported with the first event.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["get_logger"]


class _Logger:
    def __getattr__(self, name: str) -> Any:
        import structlog  # noqa: PLC0415

        if structlog.is_configured():
            return getattr(structlog.get_logger(), name)
        # structlog's default is stdout, which belongs to the program's results.
        return getattr(structlog.wrap_logger(structlog.PrintLogger(sys.stderr)), name)


def get_logger() -> Any:
    """Return a structlog logger that writes to stderr unless structlog is configured.

    The configuration is looked up at each event, not when this is called.
    """
    return _Logger()
