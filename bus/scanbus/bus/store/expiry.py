"""Keys that expire, read so that they do: also where Redis's clock is put back.

Redis keeps the time of the wall clock at which a key expires. Put back by a day, what a
process that is dead now had set would stand for a day: its scan would wait as long.
"""

from __future__ import annotations

from scanbus.bus.protocol.periods import LONGEST_TTL_MS
from scanbus.bus.store.connection import Bus

__all__ = ["stands"]

# Written to only where something is wrong: whoever may only read can ask, too.
_STANDS = """
local left = redis.call('PTTL', KEYS[1])
if left == -1 or left > tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return left ~= -2 and 1 or 0
"""


def stands(client: Bus, key: str) -> bool:
    """Whether a key is there that its owner has to renew."""
    return bool(client.eval(_STANDS, 1, key, LONGEST_TTL_MS))
