"""Holds: keys that protect scans from being trimmed, for a limited time."""

from __future__ import annotations

from scanbus.bus.protocol.keys import hold_key
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.expiry import is_unexpired

__all__ = ["hold_scan", "is_held"]

_HOLD = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
"""


def hold_scan(client: Bus, uid: str, ttl_ms: int) -> None:
    """Protect a scan from being trimmed for `ttl_ms` milliseconds."""
    client.eval(_HOLD, 1, hold_key(uid), ttl_ms)


def is_held(client: Bus, uid: str) -> bool:
    """Whether a scan is protected from being trimmed."""
    return is_unexpired(client, hold_key(uid))
