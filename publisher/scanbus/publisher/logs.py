"""The publisher's log; structlog is loaded with the first event.

It brings rich along, which would add a third to the time of
``import scanbus.publisher``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["get_logger"]


class _Logger:
    def __getattr__(self, name: str) -> Any:
        import structlog  # noqa: PLC0415

        return getattr(structlog.get_logger(), name)


def get_logger() -> Any:
    """Return structlog's logger; how it is configured counts when something is said."""
    return _Logger()
