"""The log of what runs inside somebody's program; structlog is loaded with an event.

It brings rich along, which would add a third to the time of
``import scanbus.publisher``.
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
        # Its default is stdout, where the results of the program go.
        return getattr(structlog.wrap_logger(structlog.PrintLogger(sys.stderr)), name)


def get_logger() -> Any:
    """Return a logger of structlog's, to stderr unless the program configured it.

    How it is configured counts when something is said.
    """
    return _Logger()
