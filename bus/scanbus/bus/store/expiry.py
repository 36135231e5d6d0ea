"""Keys that expire, also if the clock of Redis is set back.

Redis stores the wall-clock time at which a key expires. If the clock is set back by a
day, a key of a dead process would exist for one more day, and its scan would wait as
long. So each read shortens a time to live that is too long.
"""

from __future__ import annotations

from scanbus.bus.protocol.heartbeat_periods import LONGEST_TTL_MS
from scanbus.bus.store.connection import Bus

__all__ = ["is_unexpired"]

# Writes only if the time to live is too long, so read-only users can run it normally.
_IS_UNEXPIRED = """
local left = redis.call('PTTL', KEYS[1])
if left == -1 or left > tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return left ~= -2 and 1 or 0
"""


def is_unexpired(client: Bus, key: str) -> bool:
    """Whether a key exists that its owner must renew; limits its time to live."""
    return bool(client.eval(_IS_UNEXPIRED, 1, key, LONGEST_TTL_MS))
