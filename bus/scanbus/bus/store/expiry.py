"""Keys that expire, also if the clock of Redis is set back.

Redis stores the wall-clock time at which a key expires. If the clock is set back by a
day, a key of a dead process would exist for one more day, and its scan would wait as
long. So each read shortens a time to live that is too long.
"""

from __future__ import annotations

from typing import Any

from scanbus.bus.protocol.heartbeat_periods import LONGEST_TTL_MS
from scanbus.bus.store.connection import Bus

__all__ = ["is_unexpired"]

# Answers of PTTL.
_NO_KEY = -2
_NO_EXPIRY = -1


def is_unexpired(client: Bus, key: str) -> bool:
    """Whether a key exists that its owner must renew; limits its time to live."""
    left: Any = client.pttl(key)
    # Writes only if the time to live is too long, so read-only users can run it.
    if left == _NO_EXPIRY or left > LONGEST_TTL_MS:
        client.pexpire(key, LONGEST_TTL_MS)
    return bool(left != _NO_KEY)
