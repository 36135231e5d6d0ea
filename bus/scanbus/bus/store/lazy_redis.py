"""redis-py, imported when the first client is created.

Importing it takes longer than importing numpy, as it always imports asyncio and TLS.
Importing scanbus should be fast, and creating a client is slow anyway:
:func:`scanbus.bus.store.connection.connect` imports it. The rest of the bus uses it
only when there is a client or an error of one. Annotations do not import it, as they
are strings at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["redis"]

if TYPE_CHECKING:
    import redis
    import redis.backoff
    import redis.connection
    import redis.exceptions
    import redis.retry
else:

    class _Late:
        """Stands for the package and imports it at the first access."""

        def __getattr__(self, name: str) -> Any:
            import redis  # noqa: PLC0415 - what this module is for

            return getattr(redis, name)

    redis = _Late()
