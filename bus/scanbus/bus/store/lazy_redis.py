"""redis-py, loaded when the first client is made.

It takes longer to load than numpy, as asyncio and TLS come along whatever one uses.
Importing scanbus is to be quick, and making a client is slow anyway:
:func:`scanbus.bus.store.connection.connect` loads it, and the rest of the bus needs it
only where a client, or an error of one, is at hand. Annotations are texts to Python.
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
        """The package, as ``import redis`` would give it."""

        def __getattr__(self, name: str) -> Any:
            import redis  # noqa: PLC0415 - what this module is for

            return getattr(redis, name)

    redis = _Late()
